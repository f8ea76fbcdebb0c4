package manager

import (
	"context"
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

// Start starts a unit and waits for the job's end, as systemctl start does.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.job(ctx, "start", unit, m.conn.StartUnitContext)
}

// Stop stops a unit and waits for the job's end.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	return m.job(ctx, "stop", unit, m.conn.StopUnitContext)
}

// Restart restarts a unit, or starts it, and waits for the job's end.
func (m *Manager) Restart(ctx context.Context, unit string) error {
	return m.job(ctx, "restart", unit, m.conn.RestartUnitContext)
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
	// The library sends the result while it holds the lock that every other job
	// needs: the channel must have room for it, also when nobody waits any more.
	done := make(chan string, 1)
	if _, err := call(ctx, unit, mode, done); err != nil {
		return fmt.Errorf("%s unit %q: %w", verb, unit, plain(ctx, err))
	}
	select {
	case result := <-done:
		if result != "done" {
			return &JobError{Verb: verb, Unit: unit, Result: result}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s unit %q: %w: the job goes on, see systemctl list-jobs", verb, unit, context.Cause(ctx))
	}
}
