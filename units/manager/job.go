package manager

import (
	"context"
	"errors"
	"fmt"
)

// A JobError says that a job was queued and did not end well.
type JobError struct {
	Verb   string // "start", "stop", "restart", "reload"
	Unit   string
	Result string // "failed", "timeout", "canceled", "dependency", "skipped", …
}

func (e *JobError) Error() string {
	return fmt.Sprintf("%s unit %q: %s: look at systemctl status %s", e.Verb, e.Unit, e.Result, e.Unit)
}

// Start starts units and waits for the end of all jobs, as systemctl start does. The jobs
// are queued in this order, none waited for before the next: systemd keeps to After=
// between two of them where the unit that is to be first comes first. Else it may have
// begun with the other before it hears of that one.
func (m *Manager) Start(ctx context.Context, units ...string) error {
	return m.jobs(ctx, "start", units, m.conn.StartUnitContext)
}

// Stop stops units and waits for the end of all jobs, queued in this order: the unit that
// is to be stopped first comes first.
func (m *Manager) Stop(ctx context.Context, units ...string) error {
	return m.jobs(ctx, "stop", units, m.conn.StopUnitContext)
}

// Restart restarts units, or starts them, and waits for the end of all jobs, queued in the
// order of Start.
func (m *Manager) Restart(ctx context.Context, units ...string) error {
	return m.jobs(ctx, "restart", units, m.conn.RestartUnitContext)
}

// TryRestart restarts a unit if it runs. It gives way to a job that the unit has
// already, a stop say: that is an error, then.
func (m *Manager) TryRestart(ctx context.Context, unit string) error {
	return m.jobIn(ctx, "fail", "restart", unit, m.conn.TryRestartUnitContext)
}

// Reload reloads a unit, which must be active, and waits for the job's end.
func (m *Manager) Reload(ctx context.Context, unit string) error {
	return m.job(ctx, "reload", unit, m.conn.ReloadUnitContext)
}

// DaemonReload makes systemd read all unit files again and waits until it has.
func (m *Manager) DaemonReload(ctx context.Context) error {
	if err := m.conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("make systemd read the unit files again: %w", plain(ctx, err))
	}
	return nil
}

// Enable has a unit started with those that its [Install] section names, from the
// next daemon-reload on. It says whether that is new.
func (m *Manager) Enable(ctx context.Context, unit string) (changed bool, err error) {
	_, changes, err := m.conn.EnableUnitFilesContext(ctx, []string{unit}, false, false)
	if err != nil {
		return false, fmt.Errorf("enable unit %q: %w", unit, plain(ctx, err))
	}
	return len(changes) > 0, nil
}

// Disable takes back what Enable did.
func (m *Manager) Disable(ctx context.Context, unit string) error {
	if _, err := m.conn.DisableUnitFilesContext(ctx, []string{unit}, false); err != nil {
		return fmt.Errorf("disable unit %q: %w", unit, plain(ctx, err))
	}
	return nil
}

type jobCall func(ctx context.Context, unit, mode string, done chan<- string) (int, error)

func (m *Manager) job(ctx context.Context, verb, unit string, call jobCall) error {
	return m.jobIn(ctx, "replace", verb, unit, call)
}

// jobIn queues a job in one of systemd's job modes, see systemctl(1), and waits for it.
func (m *Manager) jobIn(ctx context.Context, mode, verb, unit string, call jobCall) error {
	j, err := queue(ctx, mode, verb, unit, call)
	if err != nil {
		return err
	}
	return j.wait(ctx)
}

// jobs queues a job of each unit, and waits for all.
func (m *Manager) jobs(ctx context.Context, verb string, units []string, call jobCall) error {
	var waiting []*job
	var failed []error
	for _, u := range units {
		j, err := queue(ctx, "replace", verb, u, call)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		waiting = append(waiting, j)
	}
	for _, j := range waiting {
		if err := j.wait(ctx); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 1 {
		return fmt.Errorf("%w; so do %d more units", failed[0], len(failed)-1)
	}
	return errors.Join(failed...)
}

// A job is one that was queued.
type job struct {
	verb, unit string
	done       <-chan string
}

func queue(ctx context.Context, mode, verb, unit string, call jobCall) (*job, error) {
	// The library sends the result while it holds the lock that every other job
	// needs: the channel must have room for it, also when nobody waits any more.
	done := make(chan string, 1)
	if _, err := call(ctx, unit, mode, done); err != nil {
		return nil, fmt.Errorf("%s unit %q: %w", verb, unit, plain(ctx, err))
	}
	return &job{verb: verb, unit: unit, done: done}, nil
}

func (j *job) wait(ctx context.Context) error {
	select {
	case result := <-j.done:
		if result != "done" {
			return &JobError{Verb: j.verb, Unit: j.unit, Result: result}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s unit %q: %w: the job goes on, see systemctl list-jobs", j.verb, j.unit, context.Cause(ctx))
	}
}
