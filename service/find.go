package service

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

// A MainPIDer knows the main process of a unit. The manager over D-Bus is one.
type MainPIDer interface {
	// MainPID is 0 when the unit has no main process now.
	MainPID(ctx context.Context, unit string) (int, error)
}

// FromEnvironment opens the process that $MAINPID names, which systemd sets for
// ExecReload= and ExecStop=. It is nil, nil when the variable is not set.
func FromEnvironment() (*Process, error) {
	text := os.Getenv("MAINPID")
	if text == "" {
		return nil, nil
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return nil, fmt.Errorf("read $MAINPID: %q is no process id", text)
	}
	return Open(pid)
}

// Main opens the main process of a unit. The process that the manager named may
// have ended, and its id may be another process's by the time it is opened:
// whether the manager still names it is asked again.
func Main(ctx context.Context, unit string, manager MainPIDer) (*Process, error) {
	const tries = 3
	for range tries {
		pid, err := manager.MainPID(ctx, unit)
		if err != nil {
			return nil, fmt.Errorf("find main process of %q: %w", unit, err)
		}
		if pid == 0 {
			return nil, fmt.Errorf("find main process of %q: it is not running: %w", unit, ErrGone)
		}
		p, err := Open(pid)
		if err != nil {
			continue // it has just ended; perhaps there is a new one
		}
		again, err := manager.MainPID(ctx, unit)
		if err == nil && again == pid {
			return p, nil
		}
		p.Close()
		if err != nil {
			return nil, fmt.Errorf("find main process of %q: %w", unit, err)
		}
	}
	return nil, fmt.Errorf("find main process of %q: it changes too often: %w", unit, ErrGone)
}
