package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// undoBound is how long all inverses of a transaction may take together. It is
// well below systemd's default TimeoutStartSec= of 90 s, which also bounds an
// ExecReload=: systemd must not kill us while we put the old state back.
const undoBound = 25 * time.Second

// errOver is what a step gets that is begun after the transaction was undone.
var errOver = errors.New("the transaction was undone already")

// A Run is one transaction. Its zero value is ready for use, on one goroutine.
type Run struct {
	// Hook, where it is set, is called before and after every step and every
	// inverse, with the name of that point (see the package comment). Its error
	// fails the point: an error before a step means that the step is not done, an
	// error after it that it was done and will be undone.
	Hook func(point string) error

	// UndoTimeout bounds all inverses together; 0 means 25 s.
	UndoTimeout time.Duration

	begun    []string
	failed   string
	inverses []inverse
	owned    []io.Closer
	over     bool
}

// A Step is one thing to do and how to take it back.
type Step[T any] struct {
	// Do does the step. When it fails it must leave nothing behind.
	Do func(ctx context.Context) (T, error)

	// Undo takes back what Do did and gets what Do returned; nil where there is
	// nothing to take back. Its context is never cancelled with the transaction's,
	// but has a deadline.
	Undo func(ctx context.Context, done T) error
}

// An UndoError is an inverse that failed: the state that it should have put back
// is not back.
type UndoError struct {
	Step string // the step whose inverse failed
	Err  error
}

func (e *UndoError) Error() string { return fmt.Sprintf("undo %s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *UndoError) Unwrap() error { return e.Err }

type inverse struct {
	step  string
	later bool // registered by OnUndo: counts only once its step has begun
	undo  func(ctx context.Context) error
}

// Do runs one step of the transaction and returns what it made. The step is not
// begun when ctx is over; the error is then the cause of that. Errors of the step
// are returned as they are, without the name of the step: [Run.Failed] has it.
func Do[T any](ctx context.Context, r *Run, name string, s Step[T]) (T, error) {
	var none T
	if err := r.begin(ctx, name); err != nil {
		return none, err
	}
	done, err := s.Do(ctx)
	if err != nil {
		return none, r.fail(name, err)
	}
	if s.Undo != nil {
		r.inverses = append(r.inverses, inverse{
			step: name,
			undo: func(ctx context.Context) error { return s.Undo(ctx, done) },
		})
	}
	if err := r.reach("after " + name); err != nil {
		return none, r.fail(name, err)
	}
	return done, nil
}

// begin notes that a step begins, unless the transaction is over.
func (r *Run) begin(ctx context.Context, name string) error {
	if r.over {
		return r.fail(name, errOver)
	}
	if ctx.Err() != nil {
		return r.fail(name, fmt.Errorf("begin %s: %w", name, context.Cause(ctx)))
	}
	if err := r.reach("before " + name); err != nil {
		return r.fail(name, err)
	}
	r.begun = append(r.begun, name)
	return nil
}

// OnUndo registers f as the inverse of the step called name, which comes later.
// Undo calls it at this place of its order, so after the inverses of all steps
// that are done between now and then, and only when that step was begun: a step
// that failed half way is taken back this way too. For example the inverse of
// "apply" is registered before "exchange", because the service is to be told
// again when the old trees are back, not before.
func (r *Run) OnUndo(name string, f func(ctx context.Context) error) {
	r.inverses = append(r.inverses, inverse{step: name, later: true, undo: f})
}

// Own takes ownership of c: Close closes it, however the transaction ends.
func (r *Run) Own(c io.Closer) { r.owned = append(r.owned, c) }

// Steps returns the names of the steps that were begun, in order.
func (r *Run) Steps() []string { return slices.Clone(r.begun) }

// Failed returns the name of the step that failed first, "" when none did.
func (r *Run) Failed() string { return r.failed }

// Undo takes back what was done, last first. Every inverse is attempted; what
// failed is joined, each as an [*UndoError]. Values of ctx are passed on to the
// inverses, its cancellation is not. A second call has nothing left to do.
func (r *Run) Undo(ctx context.Context) error {
	r.over = true
	bound := r.UndoTimeout
	if bound == 0 {
		bound = undoBound
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	defer cancel()

	var errs []error
	for len(r.inverses) > 0 {
		last := len(r.inverses) - 1
		inv := r.inverses[last]
		r.inverses = r.inverses[:last]
		if inv.later && !slices.Contains(r.begun, inv.step) {
			continue
		}
		if err := r.undoOne(ctx, inv); err != nil {
			errs = append(errs, &UndoError{Step: inv.step, Err: err})
		}
	}
	return errors.Join(errs...)
}

func (r *Run) undoOne(ctx context.Context, inv inverse) error {
	if err := r.reach("before undo " + inv.step); err != nil {
		return err
	}
	if err := inv.undo(ctx); err != nil {
		return err
	}
	return r.reach("after undo " + inv.step)
}

// Close releases what Own took, last first, and joins the errors. It undoes
// nothing: a transaction that failed is undone before. A second call has nothing
// left to do.
func (r *Run) Close() error {
	r.over = true
	var errs []error
	for len(r.owned) > 0 {
		last := len(r.owned) - 1
		c := r.owned[last]
		r.owned = r.owned[:last]
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (r *Run) reach(point string) error {
	if r.Hook == nil {
		return nil
	}
	return r.Hook(point)
}

func (r *Run) fail(name string, err error) error {
	if r.failed == "" {
		r.failed = name
	}
	return err
}
