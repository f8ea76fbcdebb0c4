package state

import (
	"errors"
	"fmt"
	"time"
)

// A LockedError says that another process held the lock of a unit for as long as
// the caller was ready to wait.
type LockedError struct {
	Name   string        // of the unit
	PID    int           // who holds it; 0 when that is not known
	Waited time.Duration // how long
}

func (e *LockedError) Error() string {
	waited := e.Waited.Round(time.Millisecond)
	if e.PID == 0 {
		return fmt.Sprintf("lock %q: another extexec holds it, waited %v: try again when it is done", e.Name, waited)
	}
	return fmt.Sprintf("lock %q: process %d holds it, waited %v: try again when it is done", e.Name, e.PID, waited)
}

// A SchemaError says that a file was written by a newer extexec. It was not
// touched.
type SchemaError struct {
	File   string
	Schema int // that of the file
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("read %q: a newer extexec wrote it (schema %d, this one knows %d): use the newer one for this unit, or restart the unit and remove the file",
		e.File, e.Schema, Schema)
}

// A CorruptError says that a file is there and cannot be understood.
type CorruptError struct {
	File   string
	Remedy string // what to do, and what it costs
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read %q: damaged: %v: %s", e.File, e.Err, e.Remedy)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// A NameError says that a text is no name for a unit or an instance.
type NameError struct {
	Name string
	Why  string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("name %q: %s: a name is made as a unit's, for example web.service or web@2", e.Name, e.Why)
}

// A Warning says that the memory could not be written, and so what will be
// forgotten. It is no error: the caller goes on and shows it.
type Warning struct {
	Dir string // the memory's directory
	Err error
}

func (w *Warning) Error() string {
	return fmt.Sprintf("remember in %q: %v: history and refused versions of this unit will be forgotten", w.Dir, w.Err)
}

// Unwrap returns the cause.
func (w *Warning) Unwrap() error { return w.Err }

var errNotPending = errors.New("no generation was begun")
