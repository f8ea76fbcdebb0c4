package reload

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// Left says how a transaction that failed left the service.
type Left int

// The ways in which a transaction can end badly.
const (
	Unchanged Left = iota // nothing was changed
	TakenBack             // it was changed, and the old state is live again
	Broken                // it could not be taken back whole
)

// Failure is a transaction that failed.
type Failure struct {
	Verb string // what was done: "reload", "rollback"
	Name string // of the unit or instance; "" before it is known
	Step string // that failed
	Left Left
	Err  error
	// Tried are the extensions that it was about, as far as they were known, and Live is
	// the generation that was there before; 0 where there was none.
	Tried []state.Extension
	Live  uint64
	// Untold is why the service could not be told that the old state is back.
	Untold error

	look string // the command that shows how things are
}

// Error says what failed and how things are now.
func (f *Failure) Error() string {
	subject := f.Verb
	if f.Name != "" {
		subject = fmt.Sprintf("%s %q", f.Verb, f.Name)
	}
	switch {
	case f.Left == TakenBack && f.Untold != nil:
		return fmt.Sprintf("%s: %v; the old state is live again, but the service could not be told so: %v", subject, f.Err, f.Untold)
	case f.Left == TakenBack:
		return fmt.Sprintf("%s: %v; the old state is live again", subject, f.Err)
	case f.Left == Broken:
		return fmt.Sprintf("%s: %v; it could not be taken back whole: see %s, then reload again or restart the service", subject, f.Err, f.look)
	default:
		return fmt.Sprintf("%s: %v; nothing was changed", subject, f.Err)
	}
}

// Refused says that nothing has changed and that it is the extensions that did not do.
func (f *Failure) Refused() bool {
	return f.Left == Unchanged && slices.Contains(judging, f.Step)
}

// judging are the steps, of a reload and of a start, that fail where the extensions do
// not do.
var judging = []string{"pick", "open", "stage", "check"}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// failure judges a failed transaction. changed says that the exchange was made.
func failure(verb, name string, run *steps.Run, changed bool, err, undo, untold error) *Failure {
	f := &Failure{Verb: verb, Name: name, Step: run.Failed(), Err: err, Untold: untold}
	if changed {
		f.Left = TakenBack
	}
	if undo != nil {
		f.Err = errors.Join(err, undo)
	}
	var broken *steps.UndoError
	if errors.As(f.Err, &broken) {
		f.Left = Broken
	}
	return f
}

// explainFiles adds to an error that came of too few descriptors which limit that is,
// and what would do. The Go runtime has raised the soft limit to the hard one, and puts
// it back for what is executed, so it is the hard one that counts.
func explainFiles(err error, is *situation) error {
	var limit unix.Rlimit
	if is == nil || !errors.Is(err, unix.EMFILE) || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return err
	}
	// Of each extension a tree, for an image perhaps one of its usr partition, and a
	// directory for each hierarchy; and what there is but once.
	const once = 100
	need := once
	for _, r := range is.settings.Refs {
		need += 1 + len(is.settings.Hierarchies)
		if r.Kind == settings.Image {
			need++
		}
	}
	return fmt.Errorf("%w: %d extensions need up to %d open files, and the limit is %d: set LimitNOFILE=%d in the unit (by hand: ulimit -n %d)",
		err, len(is.settings.Refs), need, limit.Cur, need, need)
}

// ExitError is a failure of [Run] that has an exit code of systemd's own,
// systemd.exec(5).
type ExitError struct {
	Code int
	Err  error
}

// The exit codes of a start, systemd.exec(5).
const (
	ExitChdir     = 200
	ExitExec      = 203
	ExitUser      = 217
	ExitNamespace = 226
)

// Error gives the cause.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *ExitError) Unwrap() error { return e.Err }
