package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
	"github.com/extexec/extexec/service"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newExec(a *app) *cobra.Command {
	var dir stateDir
	var workingDirectory string
	c := &cobra.Command{
		Use:   "exec [flags] NAME -- COMMAND [ARGUMENT]...",
		Short: "Run a command in a service's place: its namespaces, root, user and environment",
		Long: `Exec runs a command as the service itself would: in all its namespaces, with its
root, user, groups, capabilities and environment, and in its cgroup. Its seccomp
filter and security label do not apply. The exit code is that of the command, or
128 and the number of the signal that ended it.`,
		Example: `  extexec exec web -- ls /usr/share/web
  extexec exec web.service -- sh`,
		Args: nameAndCommand,
		RunE: func(c *cobra.Command, args []string) error {
			dirs, err := dir.dirs()
			if err != nil {
				return err
			}
			p, err := processOf(c.Context(), dirs, args[0])
			if err != nil {
				return err
			}
			defer p.Close()
			return runInPlace(c.Context(), p, args[1:], workingDirectory)
		},
	}
	dir.flag(c)
	c.Flags().StringVarP(&workingDirectory, "working-directory", "C", "/", "run it in `DIR`, as the service sees it")
	c.ValidArgsFunction = completeNames(&dir)
	return c
}

func nameAndCommand(c *cobra.Command, args []string) error {
	if c.ArgsLenAtDash() != 1 || len(args) < 2 {
		return fmt.Errorf("%s wants NAME -- COMMAND", c.Name())
	}
	return nil
}

// processOf opens a process of the service that a name means: what the record says,
// else what systemd says of a unit of that name.
func processOf(ctx context.Context, dirs state.Dirs, name string) (*service.Process, error) {
	p, err := recordedProcess(dirs, name)
	if err == nil {
		return p, nil
	}
	var bad *state.NameError
	if errors.As(err, &bad) {
		return nil, err
	}
	unit := name
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	p, byManager := service.Main(ctx, unit, bus{})
	if byManager != nil {
		return nil, fmt.Errorf("%w (systemd does not help: %w)", err, byManager)
	}
	if err := apart(p); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// apart refuses a process in the host's mount namespace: what was meant for the
// service would be done to the host. That of a unit that is only being started is
// there still, before it has become the service.
func apart(p *service.Process) error {
	id, err := p.MountNS()
	if err != nil {
		return err
	}
	host, err := service.IsHostNamespace(id)
	if err == nil && host {
		err = fmt.Errorf("process %d is in the host's mount namespace: the service has none of its own, or is only being started: wait for it, or run the command without extexec", p.PID())
	}
	return err
}

// recordedProcess opens the main process that the record of a name means, or the
// oldest that is left in its mount namespace.
func recordedProcess(dirs state.Dirs, name string) (*service.Process, error) {
	u, r, err := recorded(dirs, name)
	if err != nil {
		return nil, err
	}
	s, pid, pids := status.Alive(r)
	if s != status.Live {
		return nil, fmt.Errorf("find the process of %q: it is %s: start it first", u.Name(), s)
	}
	if pid != 0 {
		pids = []int{pid}
	}
	var oldest *service.Process
	for _, pid := range pids {
		p, err := service.Open(pid)
		if err != nil {
			continue // it has ended meanwhile
		}
		left := p
		if oldest == nil || p.StartTime() < oldest.StartTime() {
			left, oldest = oldest, p
		}
		if left != nil {
			_ = left.Close() // it only held the process
		}
	}
	if oldest == nil {
		return nil, fmt.Errorf("find the process of %q: %w: start it first", u.Name(), service.ErrGone)
	}
	return oldest, nil
}

// runInPlace runs the command, with our own input and output.
func runInPlace(ctx context.Context, p *service.Process, argv []string, dir string) error {
	// At a terminal the command gets the signals of the keyboard itself, and
	// decides what they mean.
	foreground := term.IsTerminal(int(os.Stdin.Fd()))
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGHUP}
	if foreground {
		keys := make(chan os.Signal, 1)
		signal.Notify(keys, syscall.SIGINT, syscall.SIGQUIT)
		defer signal.Stop(keys)
	} else {
		ends = append(ends, syscall.SIGINT)
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	defer stop()

	_, err := service.Run(ctx, service.Place{Process: p}, service.Command{
		Argv: argv, Dir: dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Foreground: foreground, KeepRest: true,
	})
	var ended *service.ExitError
	var start *service.StartError
	switch {
	case errors.As(err, &ended) && ended.Signal != 0:
		return &exitError{code: 128 + int(ended.Signal)}
	case errors.As(err, &ended):
		return &exitError{code: ended.Code}
	case errors.As(err, &start):
		return &exitError{code: start.ExitCode(), err: err}
	case ctx.Err() != nil:
		return &exitError{code: 128 + int(syscall.SIGTERM)}
	}
	return err
}
