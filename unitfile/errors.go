package unitfile

import (
	"fmt"
	"io/fs"
)

// SyntaxError is a place in a unit file and what is wrong there.
type SyntaxError struct {
	File string
	Line int // counted from 1; 0 where no single line is meant
	Msg  string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// Warning is something that systemd complains about and goes on.
type Warning struct {
	SyntaxError
	Section string // the section in which it stands, "" before the first
}

func (w Warning) String() string { return w.Error() }

// MaskedError says that a unit exists only to be refused: its file is a
// symlink to /dev/null, or empty.
type MaskedError struct {
	Unit string
	Path string
}

func (e *MaskedError) Error() string {
	return fmt.Sprintf("unit %q is masked by %s: remove that file (systemctl unmask %s)", e.Unit, e.Path, e.Unit)
}

// NotFoundError says that no directory of the search path has the unit.
// errors.Is(err, fs.ErrNotExist) holds.
type NotFoundError struct {
	Unit string
	// Path is where it was looked for, "" where that was the search path.
	Path string
	// Alias is the name that was looked for and is not there, where Unit is a
	// symlink to it.
	Alias string
	// Unread is what of the search path could not be read: it may be there. "" where
	// all of it was.
	Unread string
}

func (e *NotFoundError) Error() string {
	switch {
	case e.Unread != "":
		return fmt.Sprintf("unit %q not found in what can be read of systemd's search path: %s", e.Unit, e.Unread)
	case e.Alias != "":
		return fmt.Sprintf("unit %q not found: it is an alias of %q, which is not there", e.Unit, e.Alias)
	case e.Path != "":
		return fmt.Sprintf("unit file %q not found", e.Path)
	}
	return fmt.Sprintf("unit %q not found in systemd's search path: check the name", e.Unit)
}

// Unwrap makes the error an fs.ErrNotExist.
func (e *NotFoundError) Unwrap() error { return fs.ErrNotExist }
