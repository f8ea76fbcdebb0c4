package reload

import (
	"errors"
	"slices"

	"github.com/extexec/extexec/reload/state"
)

// StartRefused is a start that was refused for its extensions: they could not be had,
// did not fit, or failed the check.
type StartRefused struct {
	Name  string
	Step  string            // at which that was found out
	Tried []state.Extension // as far as they were known
	// Muted says that a seccomp filter may kill the process for opening a socket.
	Muted bool
	Err   error
}

// Error gives the cause.
func (r *StartRefused) Error() string { return r.Err.Error() }

// Unwrap gives the cause.
func (r *StartRefused) Unwrap() error { return r.Err }

// FellBack is a start with the extensions of an earlier generation.
type FellBack struct {
	Name           string
	Generation, To uint64 // the one that is made, and the earlier one
	Extensions     []state.Extension
	Muted          bool   // as of StartRefused
	Why            string // the whole story
}

// refused says of an error with an exit code that it refuses the extensions, where it
// does.
func (s *start) refused(err error, is *situation) error {
	var exit *ExitError
	if !slices.Contains(judging, s.run.Failed()) || !errors.As(err, &exit) {
		return err
	}
	return &ExitError{exit.Code, &StartRefused{Name: s.name, Step: s.run.Failed(), Tried: s.tried, Muted: s.muted(is), Err: err}}
}

// fellBack tells that a start has taken earlier extensions.
func (s *start) fellBack(is *situation, m *made, to uint64, why string) {
	if s.FellBack == nil {
		s.warn(why)
		return
	}
	s.FellBack(FellBack{
		Name: s.name, Generation: m.source.Generation, To: to, Extensions: attemptOf(m.all.picked()), Muted: s.muted(is), Why: why,
	})
}

// muted says whether a seccomp filter may kill for opening the journal's socket. Of
// what made it only the unit is known that has started us.
func (s *start) muted(is *situation) bool {
	filtered, err := haveFilter()
	if err == nil && !filtered {
		return false
	}
	return !s.systemd || is.settings.Unit != s.own || is.settings.Service.DeniesJournal()
}
