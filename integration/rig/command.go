package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// searchPath is $PATH of every command in a container.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// A Command is a program to run in a container, as root, outside of every unit.
type Command struct {
	Argv  []string // Argv[0] is looked up in the container
	Env   []string // added to PATH, HOME, LANG and TERM
	Dir   string   // "" is "/"
	Stdin io.Reader
}

// String is the command line, for messages.
func (c Command) String() string { return strings.Join(c.Argv, " ") }

// A Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; 128 and the signal's number when a signal ended it, as a shell has it
}

// String is the result on a few lines, for messages.
func (r Result) String() string {
	return fmt.Sprintf("exit status %d\nstdout: %s\nstderr: %s", r.Code, strings.TrimSpace(r.Stdout), strings.TrimSpace(r.Stderr))
}

// A Process is a running command.
type Process struct {
	cmd            *exec.Cmd
	stdout, stderr *os.File
	done           chan struct{}
	err            error // of Wait; valid when done is closed
	result         func() (Result, error)
}

// exec runs a command and waits for it; an error means that it did not run to its end.
func (m *machine) exec(ctx context.Context, c Command) (Result, error) {
	p, err := m.begin(ctx, c)
	if err != nil {
		return Result{}, err
	}
	r, err := p.result()
	if ctx.Err() != nil {
		err = fmt.Errorf("run %q: %w; so far: %s", c, context.Cause(ctx), r)
	}
	return r, err
}

// begin starts a command; the end of ctx kills it.
func (m *machine) begin(ctx context.Context, c Command) (*Process, error) {
	p := &Process{done: make(chan struct{})}
	p.result = sync.OnceValues(p.collect)
	var err error
	if p.stdout, err = newMemfile("stdout"); err != nil {
		return nil, err
	}
	if p.stderr, err = newMemfile("stderr"); err != nil {
		p.stdout.Close()
		return nil, err
	}
	err = m.inside.do(func() error { return m.spawnInside(ctx, p, c) })
	if err != nil {
		p.stdout.Close()
		p.stderr.Close()
		return nil, fmt.Errorf("start %q: %w", c, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// spawnInside starts the process on a thread that is in the container.
func (m *machine) spawnInside(ctx context.Context, p *Process, c Command) error {
	path, err := lookPath(c.Argv[0])
	if err != nil {
		return err
	}
	group, err := m.execCgroup()
	if err != nil {
		return err
	}
	defer group.Close()
	p.cmd = exec.CommandContext(ctx, path)
	p.cmd.Args, p.cmd.Dir, p.cmd.Stdin = c.Argv, c.Dir, c.Stdin
	if c.Dir == "" {
		p.cmd.Dir = "/"
	}
	// Plain files, not pipes: a daemon that keeps them open holds nobody up.
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.Env = append([]string{"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}, c.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	return p.cmd.Start()
}

// execCgroup opens the group for commands. It is beside the units': for systemd they belong to none.
func (m *machine) execCgroup() (*os.File, error) {
	dir, err := os.OpenFile("/sys/fs/cgroup"+execGroup, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.Mkdir("/sys/fs/cgroup"+execGroup, 0o755); err != nil {
			return nil, err
		}
		return m.execCgroup()
	}
	return dir, err
}

const execGroup = "/rig"

// lookPath finds a program on the calling thread's view of searchPath.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(searchPath, ":") {
		p := dir + "/" + name
		if unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%q is not in the container's $PATH", name)
}

// collect waits for the end of the process and returns its result. An error means that it could not be had.
func (p *Process) collect() (Result, error) {
	<-p.done
	defer p.stdout.Close()
	defer p.stderr.Close()
	var r Result
	var errs [2]error
	r.Stdout, errs[0] = readAll(p.stdout)
	r.Stderr, errs[1] = readAll(p.stderr)
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) && !errors.Is(p.err, context.Canceled) && !errors.Is(p.err, context.DeadlineExceeded) {
		return r, p.err
	}
	ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	r.Code = ws.ExitStatus()
	if ws.Signaled() {
		r.Code = 128 + int(ws.Signal())
	}
	return r, errors.Join(errs[:]...)
}

// newMemfile makes an anonymous file in memory.
func newMemfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("extexec-rig-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// readAll reads the file from its start, wherever its offset is.
func readAll(f *os.File) (string, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	return string(b), err
}
