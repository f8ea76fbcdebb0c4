package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/extexec/extexec/service/credential"
	"golang.org/x/sys/unix"
)

// A Place is where a command runs: in all namespaces of a process, with its
// root, credentials, environment, open-file limit and umask, and in its cgroup.
// Not its seccomp filter and not its security label.
type Place struct {
	Process *Process

	// Mount is a mount namespace to be in instead of the process's own, such as
	// a copy of it. The Place does not own it.
	Mount *os.File
	// Credential and Environ replace those of the process, for one that has yet
	// to become what it will be.
	Credential *credential.Credential
	Environ    []string
}

// A Command is what to run.
type Command struct {
	// Argv[0] without a slash is searched for along PATH of the place's
	// environment, in the place's root.
	Argv []string
	// Env is added to the place's environment, and wins.
	Env []string
	// Dir is the working directory, in the place's root; "" means "/".
	Dir string

	// Stdin defaults to /dev/null. What is nil of Stdout and Stderr goes to
	// [Result.Output], both of them in the order of writing.
	Stdin, Stdout, Stderr *os.File
	// OutputLimit bounds Output, in bytes; 0 means 64 KiB. The rest is read and
	// thrown away, so that the command is not held up.
	OutputLimit int

	// Foreground leaves the command in the caller's session and process group,
	// for one at a terminal.
	Foreground bool
	// KeepRest leaves alone what outlives the command and has left its process
	// group: a daemon that it started.
	KeepRest bool
}

// directory is the working directory.
func (c *Command) directory() string { return cmp.Or(c.Dir, "/") }

// A Result is how a command ended.
type Result struct {
	Code      int            // exit status; -1 where a signal ended it
	Signal    syscall.Signal // 0 where it exited
	Output    []byte
	Truncated bool // Output was longer than its limit
}

// An ExitError says that the command ran, and did not end with status 0.
type ExitError struct {
	Argv   []string
	Code   int
	Signal syscall.Signal
}

func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return fmt.Sprintf("run %q: killed by %s", program(e.Argv), unix.SignalName(e.Signal))
	}
	return fmt.Sprintf("run %q: exit status %d", program(e.Argv), e.Code)
}

// program is what messages name of a command: its arguments may be secrets.
func program(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	return argv[0]
}

// A StartError says that a command was not executed, and what could not be had
// of its place. It wraps [ErrGone] where the process had ended.
type StartError struct {
	Argv []string
	PID  int
	Step string // "join the user namespace", "execute", …
	Err  error
	code int
}

func (e *StartError) Error() string {
	return fmt.Sprintf("run %q in the place of process %d: %s: %v%s", program(e.Argv), e.PID, e.Step, e.Err, e.remedy())
}

func (e *StartError) Unwrap() error { return e.Err }

// ExitCode is the exit status that systemd would give a service for the same
// failure: 203 execute, 200 directory, 217 user, 226 namespace and so on.
func (e *StartError) ExitCode() int { return e.code }

func (e *StartError) remedy() string {
	switch {
	case e.code == exitNamespace && errors.Is(e.Err, unix.EPERM):
		return ": run extexec as root, with all capabilities, outside of the service's sandbox"
	case errors.Is(e.Err, ErrGone):
		return ": start the service"
	case e.code == exitChdir:
		return ": it must be there in the service's own root, and its user must be allowed to enter it"
	case e.code == exitExec:
		return ": the command must be there in the service's own root, executable for its user"
	}
	return ""
}

// Run runs a command in a place and waits for it. However it ends, and also
// when this process is killed, everything that the command started is killed
// before Run returns (see [Command.KeepRest]); only what another process was
// asked to start stays, and what the kernel does not let go of within ten seconds: who
// waits for a file system that the service serves itself, and that does not answer.
//
// The error is an [*ExitError] when the command ended with a status other than
// 0, a [*StartError] when it was not executed, and wraps the context's error
// when that ended it. The Result is meaningful for the first and the last.
//
// A place is never approximated: where one of its namespaces cannot be joined
// or one of its capabilities cannot be had, the command does not run.
func Run(ctx context.Context, in Place, c Command) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("run %q: %w", program(c.Argv), err)
	}
	type outcome struct {
		result Result
		err    error
	}
	done := make(chan outcome, 1)
	// The thread is one in the state that this process began with.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result, err := run(ctx, in, c)
		done <- outcome{result, err}
	}()
	o := <-done
	return o.result, o.err
}

func run(ctx context.Context, in Place, c Command) (Result, error) {
	s, err := prepare(ctx, in, c)
	if err != nil {
		return Result{}, startError(in, c, err)
	}
	defer s.close()
	child, err := s.start()
	if err != nil {
		return Result{}, startError(in, c, err)
	}
	s.closeForChild()
	stop := context.AfterFunc(ctx, child.terminate)
	output := s.collect()
	waitErr := child.wait()
	stop()
	result := Result{}
	result.Output, result.Truncated = output()
	state, err := s.outcome()
	if err = errors.Join(waitErr, err); err != nil {
		if cause := ctx.Err(); cause != nil {
			return result, fmt.Errorf("run %q: %w", program(c.Argv), cause)
		}
		return result, startError(in, c, err)
	}
	return result.ended(ctx, c, state)
}

func (r Result) ended(ctx context.Context, c Command, state syscall.WaitStatus) (Result, error) {
	r.Code = state.ExitStatus() // -1 where it was a signal
	if state.Signaled() {
		r.Signal = state.Signal()
	}
	if err := ctx.Err(); err != nil && r.Signal == unix.SIGKILL {
		return r, fmt.Errorf("run %q: %w", program(c.Argv), err)
	}
	if r.Code != 0 {
		return r, &ExitError{Argv: c.Argv, Code: r.Code, Signal: r.Signal}
	}
	return r, nil
}

// The exit codes that systemd has for a failure to start a service
// (systemd.exec(5), "Process exit codes").
const (
	exitChdir        = 200
	exitFork         = 202
	exitExec         = 203
	exitLimits       = 205
	exitStdio        = 208
	exitUser         = 217
	exitCapabilities = 218
	exitCgroup       = 219
	exitNamespace    = 226
)

// A failure is a step that went wrong, in parent or child.
type failure struct {
	step string
	code int
	err  error
}

func (f *failure) Error() string { return f.step + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func failed(step string, code int, err error) error { return &failure{step, code, err} }

// startError is the error that callers see. Whatever went wrong, if the process
// is no more, then that is the reason.
func startError(in Place, c Command, err error) error {
	e := &StartError{Argv: c.Argv, Step: "start", Err: err, code: exitFork}
	var f *failure
	if errors.As(err, &f) {
		e.Step, e.Err, e.code = f.step, f.err, f.code
	}
	if e.code == exitChdir {
		e.Step += fmt.Sprintf(" %q", c.directory())
	}
	if in.Process == nil {
		return e
	}
	e.PID = in.Process.PID()
	if !in.Process.Alive() && !errors.Is(err, ErrGone) {
		e.Err = fmt.Errorf("%w (%w)", ErrGone, e.Err)
	}
	return e
}

// rawFailures says what the child was doing at each step.
var rawFailures = map[rawStep]failure{
	stepStart:        {step: "start the child", code: exitFork},
	stepGuardian:     {step: "start the guardian", code: exitFork},
	stepPID:          {step: "join the pid namespace", code: exitNamespace},
	stepCgroup:       {step: "enter the cgroup", code: exitCgroup},
	stepRoot:         {step: "enter the root", code: exitNamespace},
	stepLimit:        {step: "set the open-file limit", code: exitLimits},
	stepGroups:       {step: "set the groups", code: exitUser},
	stepIDs:          {step: "set user and group", code: exitUser},
	stepUser:         {step: "join the user namespace", code: exitNamespace},
	stepCapabilities: {step: "set the capabilities", code: exitCapabilities},
	stepBounding:     {step: "set the bounding set", code: exitCapabilities},
	stepAmbient:      {step: "set the ambient capabilities", code: exitCapabilities},
	stepNoNewPrivs:   {step: "set no_new_privs", code: exitCapabilities},
	stepParent:       {step: "tie the command to its guardian", code: exitFork},
	stepStdio:        {step: "set up standard input and output", code: exitStdio},
	stepDirectory:    {step: "enter the working directory", code: exitChdir},
	stepExec:         {step: "execute", code: exitExec},
}
