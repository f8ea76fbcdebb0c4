package extension

import (
	"fmt"

	"github.com/extexec/extexec/extension/vpick"
)

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

// Shortage says that an error is no word on an extension: this process has no
// descriptor or no memory left.
func Shortage(err error) bool { return vpick.Shortage(err) }
