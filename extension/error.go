package extension

import "fmt"

// The steps that [Error] names.
const (
	stepPick  = "pick"
	stepOpen  = "open"
	stepMatch = "match"
	stepLayer = "take a layer of"
)

// Error says that an extension cannot be had.
type Error struct {
	Ref  string // the ref as it was written
	Step string // what was being done
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s extension %q: %v", e.Step, e.Ref, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
