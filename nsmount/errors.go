package nsmount

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotSupported says that the running kernel (or its configuration) cannot do
// what was asked. Test for it with [errors.Is].
var ErrNotSupported = errors.New("not supported by this kernel")

// OpError is a failed mount or namespace call.
type OpError struct {
	Op     string // the system call, with what it did: "fsconfig lowerdir+"
	Target string // the file system, tree or path it was about
	FSType string // file system type, where there is one
	Flags  string // flags by name
	Err    error  // an errno, or what the kernel wrote into the fs context
}

// Error names the call, its subject and the cause.
func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.FSType != "" {
		b.WriteString(" " + e.FSType)
	}
	if e.Target != "" {
		fmt.Fprintf(&b, " %q", e.Target)
	}
	if e.Flags != "" {
		b.WriteString(" (" + e.Flags + ")")
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap gives the cause.
func (e *OpError) Unwrap() error { return e.Err }

// contextError is an errno together with what the kernel wrote into the file
// system context, as fsopen(2) describes it.
type contextError struct {
	errno error
	text  string
}

func (e *contextError) Error() string { return e.errno.Error() + " (" + e.text + ")" }
func (e *contextError) Unwrap() error { return e.errno }
