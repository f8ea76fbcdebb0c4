package portable

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/extexec/extexec/internal/steps"
)

// jobs are what systemd is asked to do besides: units in the order in which it is done.
type jobs struct {
	runtime        bool
	reload         bool
	stop, disable  []string // before
	enable         []string // afterwards, as the next two
	start, restart []string
}

// commit makes an edit, or leaves all as it was.
func (h Host) commit(ctx context.Context, e *edit, j jobs) (err error) {
	run := &steps.Run{Hook: h.Hook}
	defer func() {
		if err != nil {
			err = errors.Join(err, run.Undo(ctx))
		}
		err = errors.Join(err, run.Close())
	}()
	// These are to run once the old units are back, so before that in this list.
	run.OnUndo("restart", func(ctx context.Context) error { return each(ctx, j.restart, h.restart) })
	run.OnUndo("stop", func(ctx context.Context) error { return each(ctx, j.stop, h.start) })
	run.OnUndo("disable", func(ctx context.Context) error { return h.enable(ctx, j.disable, j.runtime) })
	run.OnUndo("daemon-reload", h.reload(j))

	if err := do(ctx, run, "stop", func(ctx context.Context) error { return each(ctx, j.stop, h.stop) }, nil); err != nil {
		return err
	}
	if err := do(ctx, run, "disable", func(ctx context.Context) error { return h.disable(ctx, j.disable, j.runtime) }, nil); err != nil {
		return err
	}
	staged, err := steps.Do(ctx, run, "stage", steps.Step[staged]{Do: func(context.Context) (staged, error) {
		dir, err := e.stage()
		return staged(dir), err
	}, Undo: func(_ context.Context, s staged) error { return s.Close() }})
	if err != nil {
		return err
	}
	run.Own(staged)
	if err := do(ctx, run, "exchange", func(context.Context) error { return e.exchange(string(staged)) },
		func(context.Context) error { return e.exchangeBack(string(staged)) }); err != nil {
		return err
	}
	if err := do(ctx, run, "daemon-reload", h.reload(j), nil); err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "links", steps.Step[func() error]{
		Do:   func(context.Context) (func() error, error) { return e.doLinks() },
		Undo: func(_ context.Context, undo func() error) error { return undo() },
	}); err != nil {
		return err
	}
	return h.afterwards(ctx, run, j)
}

// afterwards is what the units that are attached by now are asked for.
func (h Host) afterwards(ctx context.Context, run *steps.Run, j jobs) error {
	if err := do(ctx, run, "enable", func(ctx context.Context) error { return h.enable(ctx, j.enable, j.runtime) },
		func(ctx context.Context) error { return h.disable(ctx, j.enable, j.runtime) }); err != nil {
		return err
	}
	run.OnUndo("start", func(ctx context.Context) error { return each(ctx, j.start, h.stop) })
	if err := do(ctx, run, "start", func(ctx context.Context) error { return each(ctx, j.start, h.start) }, nil); err != nil {
		return err
	}
	return do(ctx, run, "restart", func(ctx context.Context) error { return each(ctx, j.restart, h.restart) }, nil)
}

// staged is the path of a directory that goes with the transaction.
type staged string

// Close removes it: it is what was not taken, or the old one.
func (s staged) Close() error { return os.RemoveAll(string(s)) }

// do is a step that makes nothing to hand on.
func do(ctx context.Context, run *steps.Run, name string, f, undo func(context.Context) error) error {
	s := steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }}
	if undo != nil {
		s.Undo = func(ctx context.Context, _ struct{}) error { return undo(ctx) }
	}
	_, err := steps.Do(ctx, run, name, s)
	return err
}

// each asks for a job of every unit; it stops at the first that fails.
func each(ctx context.Context, units []string, job func(context.Context, string) error) error {
	for _, u := range units {
		if err := job(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

var errNoManager = errors.New("there is no systemd to ask")

func (h Host) start(ctx context.Context, unit string) error {
	if h.Manager == nil {
		return fmt.Errorf("start unit %q: %w", unit, errNoManager)
	}
	return h.Manager.Start(ctx, unit)
}

func (h Host) stop(ctx context.Context, unit string) error {
	if h.Manager == nil {
		return fmt.Errorf("stop unit %q: %w", unit, errNoManager)
	}
	return h.Manager.Stop(ctx, unit)
}

func (h Host) restart(ctx context.Context, unit string) error {
	if h.Manager == nil {
		return fmt.Errorf("restart unit %q: %w", unit, errNoManager)
	}
	return h.Manager.Restart(ctx, unit)
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
