package reload

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/unitfile/settings"
)

// forbidden says which settings of the unit forbid the wrapper; nil where none
// does. A unit that did not start us does not confine us either.
func (s *start) forbidden(is settings.Settings) error {
	if !s.systemd || is.Unit != s.own {
		return nil
	}
	found := settings.Forbids(is)
	if len(found) == 0 {
		return nil
	}
	text := found[0].Error()
	for i, f := range found[1:] {
		sep := "; so does "
		if i > 0 {
			sep = ", "
		}
		text += fmt.Sprintf("%s%s= (%s:%d: %s)", sep, f.Setting, f.File, f.Line, f.Why)
	}
	return errors.New(text)
}

// forbiddenHere is [start.forbidden] by what our own view of the unit files says:
// for when the host's cannot be had. An error of reading them is passed over.
func (s *start) forbiddenHere() error {
	if !s.systemd || strings.Contains(s.Unit, "/") {
		return nil
	}
	is, err := settings.Load(s.Unit, settings.LoadOptions{})
	if err != nil {
		return nil
	}
	return s.forbidden(is)
}

// beforeFilter looks for settings that forbid the wrapper before a seccomp filter
// kills it for a system call. It reads the unit once more than is needed, so it
// does so only where there is a filter.
func (s *start) beforeFilter() error {
	filtered, err := haveFilter()
	if err != nil || !filtered {
		return err
	}
	return s.forbiddenHere()
}

// haveFilter tells whether there is a seccomp filter on the calling thread.
func haveFilter() (bool, error) {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err != nil {
		return false, fmt.Errorf("look for a seccomp filter: %w", err)
	}
	const filter = 2 // SECCOMP_MODE_FILTER
	return mode == filter, nil
}
