package reload

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/unitfile/settings"
)

// applyStep tells the service to read again.
type applyStep struct {
	steps.Step[struct{}]
}

// again is the inverse of an exchange that was applied: the service is told once
// more, now that the old trees are back.
func (a applyStep) again(ctx context.Context) error {
	_, err := a.Do(ctx)
	return err
}

// apply runs ReloadCommand= in the service's place, and sends ReloadSignal=.
func (t *transaction) apply(target *target, is *situation) applyStep {
	return applyStep{steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		for _, c := range is.settings.ReloadCommand {
			if err := t.command(ctx, "ReloadCommand=", c, target.process); err != nil {
				return struct{}{}, err
			}
		}
		if s := is.settings.ReloadSignal; s != 0 {
			if err := target.process.Signal(unix.Signal(s)); err != nil {
				return struct{}{}, fmt.Errorf("send ReloadSignal=%d to process %d: %w", s, target.process.PID(), err)
			}
		}
		return struct{}{}, nil
	}}}
}

// command runs one Reload*= line in the place of a process.
func (t *transaction) command(ctx context.Context, setting string, c settings.Command, p *service.Process) error {
	env, err := p.Environ()
	if err != nil {
		return err
	}
	mainPID, err := pidInside(p)
	if err != nil {
		return err
	}
	env = append(env, "MAINPID="+mainPID)
	argv := c.Expand(func(name string) (string, bool) { return lookup(env, name) })
	res, err := service.Run(ctx, service.Place{Process: p}, service.Command{Argv: argv, Env: []string{"MAINPID=" + mainPID}})
	if err == nil {
		return nil
	}
	if c.IgnoreFailure {
		var exit *service.ExitError
		if errors.As(err, &exit) {
			t.res.Warnings = append(t.res.Warnings, fmt.Sprintf("%s:%d: %s%s: %v (ignored)", c.File, c.Line, setting, argv[0], err))
			return nil
		}
	}
	if out := strings.TrimSpace(string(res.Output)); out != "" {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return fmt.Errorf("%s:%d: %s%s: %w", c.File, c.Line, setting, argv[0], err)
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
