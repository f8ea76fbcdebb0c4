package portable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/extexec/extexec/internal/steps"
)

// undoBound is how long all may take that takes a transaction back: services are stopped
// and started again in it, each with systemd's own timeouts.
const undoBound = 10 * time.Minute

// jobs are what systemd is asked to do besides: units in the order in which it is done.
type jobs struct {
	runtime        bool
	reload         bool
	running        []string // of what is attached
	stop, disable  []string // before
	clean          []string
	enable         []string // afterwards, as the next two
	start, restart []string
}

// A TakenBackError says that a transaction failed when it had changed units, or what
// runs, and that all is as it was.
type TakenBackError struct{ Err error }

func (e *TakenBackError) Error() string { return e.Err.Error() + "; the old state is back" }

// Unwrap returns the cause.
func (e *TakenBackError) Unwrap() error { return e.Err }

// commit makes an edit, or leaves all as it was. What it made aside and cannot remove
// after that is a note.
func (h Host) commit(ctx context.Context, e *edit, j jobs) (notes []string, err error) {
	run := &steps.Run{Hook: h.Hook, UndoTimeout: undoBound}
	kept, err := h.transact(ctx, run, e, j)
	if err != nil {
		err = j.undo(ctx, run, err)
	}
	if err == nil {
		notes = kept.notes()
	}
	if left := run.Close(); left != nil {
		notes = append(notes, fmt.Sprintf("what was made aside cannot be removed, and the next call removes it: %v", left))
	}
	return notes, err
}

// transact is all that is done. It returns what is not removed of the old images.
func (h Host) transact(ctx context.Context, run *steps.Run, e *edit, j jobs) (kept *staged, err error) {
	// These are to run once the old units are back, so before that in this list.
	run.OnUndo("stop", func(ctx context.Context) error {
		// A socket that was stopped starts only once its service has been stopped, too.
		if slices.Contains(run.Steps(), "restart") || slices.ContainsFunc(j.stop, isSocket) {
			return h.wake(ctx, j.stop, j.restart)
		}
		return h.wake(ctx, j.stop, nil)
	})
	run.OnUndo("disable", func(ctx context.Context) error { return h.enable(ctx, j.disable, j.runtime) })

	units, err := steps.Do(ctx, run, "stage units", steps.Step[*staged]{
		Do:   func(context.Context) (*staged, error) { dir, err := e.stage(); return &staged{dir: dir}, err },
		Undo: func(_ context.Context, s *staged) error { return s.Close() },
	})
	if err != nil {
		return nil, err
	}
	run.Own(units)
	images, err := steps.Do(ctx, run, "stage images", steps.Step[*staged]{
		Do: func(ctx context.Context) (*staged, error) {
			dir, err := e.shelf.stage(ctx)
			return &staged{dir: dir}, err
		},
		Undo: func(_ context.Context, s *staged) error { return errors.Join(s.Close(), e.shelf.unmake()) },
	})
	if err != nil {
		return nil, err
	}
	run.Own(images)
	written, err := steps.Do(ctx, run, "journal", steps.Step[*journal]{
		Do:   func(context.Context) (*journal, error) { return e.note(units.dir, images, j.reload) },
		Undo: func(_ context.Context, w *journal) error { return w.Close() },
	})
	if err != nil {
		return nil, err
	}
	run.Own(written) // and so closed before the directories that it names
	// Once the old units are back, and before the journal goes.
	run.OnUndo("daemon-reload", h.reload(j))
	if err := h.before(ctx, run, j); err != nil {
		return nil, err
	}
	if err := e.exchangeAll(ctx, run, units.dir, images); err != nil {
		return nil, err
	}
	if err := do(ctx, run, "daemon-reload", h.reload(j), nil); err != nil {
		return nil, err
	}
	if err := h.afterwards(ctx, run, j); err != nil {
		return nil, err
	}
	if err := do(ctx, run, "clear", func(context.Context) error { return e.shelf.clear(images.dir) },
		func(context.Context) error { return e.shelf.restore(images.dir, len(e.shelf.gone)) }); err != nil {
		return nil, err
	}
	images.stay = e.shelf.left
	return images, nil
}

// note writes the journal. By then the images that may have to stay are where they do.
func (e *edit) note(units string, images *staged, reload bool) (*journal, error) {
	if roots, err := e.shelf.replacesRoots(); err != nil {
		return nil, err
	} else if roots {
		if err := images.keep(); err != nil {
			return nil, err
		}
	}
	w, err := e.journal(units, images.dir, reload)
	if err != nil {
		return nil, err
	}
	return w, w.write()
}

// undo takes back what was done before a step failed, and says so of the error where
// that was more than making things aside.
func (j jobs) undo(ctx context.Context, run *steps.Run, failed error) error {
	begun, at := run.Steps(), run.Failed()
	if err := run.Undo(ctx); err != nil {
		return fmt.Errorf("%w; %w", failed, err)
	}
	stopped := slices.Contains(begun, "stop") && len(j.stop)+len(j.disable) > 0
	if stopped || slices.Contains(begun, "exchange") && at != "exchange" {
		return &TakenBackError{Err: failed}
	}
	return failed
}

// before is what the units that are attached are asked for while they still are. What
// is cleaned does not come back.
func (h Host) before(ctx context.Context, run *steps.Run, j jobs) error {
	if err := do(ctx, run, "stop", func(ctx context.Context) error { return h.stop(ctx, j.stop) }, nil); err != nil {
		return err
	}
	if err := do(ctx, run, "disable", func(ctx context.Context) error { return h.disable(ctx, j.disable, j.runtime) }, nil); err != nil {
		return err
	}
	return do(ctx, run, "clean", func(ctx context.Context) error { return each(ctx, j.clean, h.clean) }, nil)
}

// exchangeAll makes what was staged the live state, the images first: the units need
// them.
func (e *edit) exchangeAll(ctx context.Context, run *steps.Run, units string, images *staged) error {
	if _, err := steps.Do(ctx, run, "images", steps.Step[[]string]{
		Do:   func(context.Context) ([]string, error) { return e.shelf.exchange(images.dir) },
		Undo: func(_ context.Context, names []string) error { return e.shelf.exchangeBack(images.dir, names) },
	}); err != nil {
		return err
	}
	return do(ctx, run, "exchange", func(context.Context) error { return e.exchange(units) },
		func(context.Context) error { return e.exchangeBack(units) })
}

// afterwards is what the units that are attached by now are asked for.
func (h Host) afterwards(ctx context.Context, run *steps.Run, j jobs) error {
	run.OnUndo("enable", func(ctx context.Context) error { return h.disable(ctx, j.enable, j.runtime) })
	if err := do(ctx, run, "enable", func(ctx context.Context) error { return h.enable(ctx, j.enable, j.runtime) }, nil); err != nil {
		return err
	}
	run.OnUndo("start", func(ctx context.Context) error { return h.stop(ctx, j.start) })
	start, rest := j.start, []string(nil)
	if slices.ContainsFunc(slices.Concat(j.start, j.restart), isSocket) {
		start, rest = nil, j.start // in their order with the others
	}
	if err := do(ctx, run, "start", func(ctx context.Context) error { return h.wake(ctx, start, nil) }, nil); err != nil {
		return err
	}
	if err := do(ctx, run, "restart", func(ctx context.Context) error { return h.wake(ctx, rest, j.restart) }, nil); err != nil {
		return err
	}
	return do(ctx, run, "verify", func(ctx context.Context) error { return each(ctx, append(j.start, j.restart...), h.verify) }, nil)
}

// do is a step that makes nothing to hand on.
func do(ctx context.Context, run *steps.Run, name string, f, undo func(context.Context) error) error {
	s := steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }}
	if undo != nil {
		s.Undo = func(ctx context.Context, _ struct{}) error { return undo(ctx) }
	}
	_, err := steps.Do(ctx, run, name, s)
	return err
}

// each does something with one unit after the other; it stops at the first that fails.
func each(ctx context.Context, units []string, do func(context.Context, string) error) error {
	for _, u := range units {
		if err := do(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func isSocket(unit string) bool { return strings.HasSuffix(unit, ".socket") }

// wake starts units and restarts others. systemd starts no socket whose service runs, and
// begins with a job before it has the next one: so where there are sockets, what is to be
// restarted is stopped, they first, that nothing wakes a service; and they are started first.
func (h Host) wake(ctx context.Context, start, restart []string) error {
	sockets, others := apart(slices.Concat(start, restart))
	if len(sockets) == 0 {
		return errors.Join(h.start(ctx, start), h.restart(ctx, restart))
	}
	stopFirst, stopThen := apart(restart)
	for _, phase := range []struct {
		units []string
		job   func(context.Context, []string) error
	}{{stopFirst, h.stop}, {stopThen, h.stop}, {sockets, h.start}, {others, h.start}} {
		if err := phase.job(ctx, phase.units); err != nil {
			return err
		}
	}
	return nil
}

// apart are the sockets among units, and the others.
func apart(units []string) (sockets, others []string) {
	for _, u := range units {
		if isSocket(u) {
			sockets = append(sockets, u)
		} else {
			others = append(others, u)
		}
	}
	return sockets, others
}

var errNoManager = errors.New("there is no systemd to ask")

func (h Host) clean(ctx context.Context, unit string) error {
	if h.Manager == nil {
		return fmt.Errorf("clean unit %q: %w", unit, errNoManager)
	}
	return h.Manager.Clean(ctx, unit)
}

func (h Host) verify(ctx context.Context, unit string) error {
	if h.Verify == nil || !strings.HasSuffix(unit, ".service") {
		return nil
	}
	return h.Verify(ctx, unit)
}

func (h Host) enable(ctx context.Context, units []string, runtime bool) error {
	if len(units) == 0 {
		return nil
	}
	if h.Manager == nil {
		return fmt.Errorf("enable %q: %w", units, errNoManager)
	}
	return h.Manager.EnableFiles(ctx, units, runtime)
}

func (h Host) disable(ctx context.Context, units []string, runtime bool) error {
	if len(units) == 0 {
		return nil
	}
	if h.Manager == nil {
		return fmt.Errorf("disable %q: %w", units, errNoManager)
	}
	return h.Manager.DisableFiles(ctx, units, runtime)
}

// reload has systemd read its units, where that is wanted.
func (h Host) reload(j jobs) func(context.Context) error {
	return func(ctx context.Context) error {
		if !j.reload || h.Manager == nil {
			return nil
		}
		return h.Manager.DaemonReload(ctx)
	}
}
