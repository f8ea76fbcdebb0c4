package reload

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/service"
)

// reloadCommand is the setting whose commands may start what outlives them.
const reloadCommand = "ReloadCommand="

// apply tells the service to read again: it runs ReloadCommand= in the service's
// place, and sends ReloadSignal=.
func (t *transaction) apply(target *target, is *situation) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		err := runCommands(ctx, reloadCommand, is.settings.ReloadCommand, service.Place{Process: target.process}, t.addWarning)
		if err != nil {
			return struct{}{}, err
		}
		if s := is.settings.ReloadSignal; s != 0 {
			if err := target.process.Signal(s); err != nil {
				return struct{}{}, fmt.Errorf("send ReloadSignal=%d to process %d: %w", s, target.process.PID(), err)
			}
		}
		return struct{}{}, nil
	}}
}

// applyAgain is the inverse of an exchange that was applied: the service is told
// once more, now that the old trees are back. That it cannot be told leaves
// nothing of the new state, so it is said and is no failed undo.
func (t *transaction) applyAgain(target *target, is *situation) func(context.Context) error {
	return func(ctx context.Context) error {
		_, t.untold = t.apply(target, is).Do(ctx)
		return nil
	}
}

// lookup finds a variable; the last one counts.
func lookup(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(env[i], "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// pidInside is the process's id as its own pid namespace sees it.
func pidInside(p *service.Process) (string, error) {
	s, err := p.Status()
	if err != nil {
		return "", err
	}
	if len(s.PIDs) == 0 {
		return strconv.Itoa(p.PID()), nil
	}
	return strconv.Itoa(s.PIDs[len(s.PIDs)-1]), nil
}
