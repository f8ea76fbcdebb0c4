package rig

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// commandLimit bounds every command that a helper runs by itself.
const commandLimit = 60 * time.Second

// A Container is a booted system, as one test holds it. Its helpers end the test when they fail, so call
// them on the test's own goroutine; Exec, Run and Start do so only when the command cannot be run.
type Container struct {
	m *machine
	t testing.TB
}

// Shared returns the container of the suite that the tests of this process share; the first call boots it.
// Whatever a test makes in it, the test removes: what is left fails the run. Tests may use it side by side,
// with unit names of their own.
func Shared(t testing.TB, s Suite) *Container {
	t.Helper()
	m, err := func() (*machine, error) {
		Require(t)
		r, err := theRun()
		if err != nil {
			return nil, err
		}
		return r.sharedOf(s)
	}()
	if err != nil {
		t.Fatal(err)
	}
	return &Container{m: m, t: t}
}

// Boot boots a container for this test alone. It is stopped, and checked for leftovers, when the test ends.
func Boot(t testing.TB, s Suite, o Options) *Container {
	t.Helper()
	Require(t)
	r, err := theRun()
	if err != nil {
		t.Fatal(err)
	}
	m, err := bootMachine(r, s, o)
	if err != nil {
		t.Fatal(err)
	}
	c := &Container{m: m, t: t}
	t.Cleanup(c.Close)
	return c
}

// Each runs f once a suite, side by side, as subtests with the suite's name, on the shared containers.
func Each(t *testing.T, f func(t *testing.T, c *Container)) {
	t.Helper()
	for _, s := range Suites() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			f(t, Shared(t, s))
		})
	}
}

// For returns the same container for another test, a subtest say.
func (c *Container) For(t testing.TB) *Container { return &Container{m: c.m, t: t} }

// Cleanup registers a function for the end of the test that holds the container.
func (c *Container) Cleanup(f func()) { c.t.Cleanup(f) }

// Close stops a container that [Boot] made, and fails the test if something is left behind. It may be called
// before the end of the test, and again.
func (c *Container) Close() {
	c.t.Helper()
	c.m.closing.Do(func() {
		if err := c.m.leaks(); err != nil {
			c.t.Error(err)
		}
		if err := c.m.stop(); err != nil {
			c.t.Error(err)
		}
	})
}

// Suite is the Debian release that the container runs.
func (c *Container) Suite() Suite { return c.m.suite }

// SystemdVersion is what its systemctl says.
func (c *Container) SystemdVersion() int { return c.m.version }

// State is what systemd said of itself after the boot: "running", or "degraded" where a unit failed.
func (c *Container) State() string { return c.m.state }

// Leader is the host's pid of the container's systemd.
func (c *Container) Leader() int { return c.m.leader }

// Root is the host's path of the directory that is the container's "/". What is mounted in the container
// does not show there: see [Container.Path].
func (c *Container) Root() string { return c.m.rootDir() }

// Path is a path that leads a process of the host to a file as the container's systemd sees it. Do not use
// it where a component is an absolute symlink: it would be followed on the host.
func (c *Container) Path(p string) string {
	return filepath.Join("/proc", strconv.Itoa(c.m.leader), "root", p)
}

// Inside runs f on a thread in the container's namespaces: paths, mounts and sockets are the container's.
// Only what happens on the calling goroutine does, so f starts no goroutine, and it must not end the test.
func (c *Container) Inside(f func() error) error { return c.m.inside.do(f) }

// Exec runs a command and waits for it.
func (c *Container) Exec(ctx context.Context, argv ...string) Result {
	c.t.Helper()
	return c.Run(ctx, Command{Argv: argv})
}

// Run runs a command and waits for it.
func (c *Container) Run(ctx context.Context, cmd Command) Result {
	c.t.Helper()
	r, err := c.m.exec(ctx, cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// Must runs a command that has to succeed, and returns its standard output without white space at the end.
func (c *Container) Must(argv ...string) string {
	c.t.Helper()
	// Not the test's context: clean-ups run commands too, and it has ended by then.
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	r := c.Exec(ctx, argv...)
	if r.Code != 0 {
		c.t.Fatalf("%s: %s", strings.Join(argv, " "), r)
	}
	return strings.TrimRight(r.Stdout, " \t\n")
}

// Script runs a shell script that has to succeed, and returns what it printed. A great many small commands
// are quickest in one.
func (c *Container) Script(text string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*commandLimit)
	defer cancel()
	r := c.Run(ctx, Command{Argv: []string{"sh", "-s"}, Stdin: strings.NewReader(text)})
	if r.Code != 0 {
		c.t.Fatalf("script: %s", r)
	}
	return r.Stdout
}

// Start starts a command; it is killed at the end of the test, unless it has ended before.
func (c *Container) Start(cmd Command) *Process {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := c.m.begin(ctx, cmd)
	if err != nil {
		cancel()
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		cancel()
		if _, err := p.result(); err != nil {
			c.t.Error(err)
		}
	})
	return p
}

// Wait returns how the process ended, once it has.
func (p *Process) Wait(ctx context.Context) (Result, error) {
	select {
	case <-p.done:
		return p.result()
	case <-ctx.Done():
		return Result{}, fmt.Errorf("wait for %q: %w", p.cmd.Args[0], context.Cause(ctx))
	}
}

// Signal sends the process a signal.
func (p *Process) Signal(s unix.Signal) error { return p.cmd.Process.Signal(s) }

// WriteFile writes a file of the container, and makes the directories above it.
func (c *Container) WriteFile(path, text string, mode fs.FileMode) {
	c.t.Helper()
	c.must(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
		return os.Chmod(path, mode) // whatever the umask is
	})
}

// ReadFile reads a file of the container.
func (c *Container) ReadFile(path string) string {
	c.t.Helper()
	var b []byte
	c.must(func() (err error) {
		b, err = os.ReadFile(path)
		return err
	})
	return string(b)
}

// Exists says whether a path is there, without following a symlink at its end.
func (c *Container) Exists(path string) bool {
	return c.Inside(func() error {
		_, err := os.Lstat(path)
		return err
	}) == nil
}

// Remove removes a file or a directory with all that is in it.
func (c *Container) Remove(path string) {
	c.t.Helper()
	c.must(func() error { return os.RemoveAll(path) })
}

// Mkdir makes a directory, and those above it.
func (c *Container) Mkdir(path string) {
	c.t.Helper()
	c.must(func() error { return os.MkdirAll(path, 0o755) })
}

// Rename renames a file or directory, as a new version of an extension arrives.
func (c *Container) Rename(from, to string) {
	c.t.Helper()
	c.must(func() error { return os.Rename(from, to) })
}

// TempDir makes a directory, on the disk that "/" is on, that is removed at the end of the test.
func (c *Container) TempDir() string {
	c.t.Helper()
	var dir string
	c.must(func() (err error) {
		if err := os.MkdirAll("/srv", 0o755); err != nil {
			return err
		}
		if dir, err = os.MkdirTemp("/srv", "test-"); err != nil {
			return err
		}
		return os.Chmod(dir, 0o755) // services have users
	})
	c.t.Cleanup(func() { c.Remove(dir) })
	return dir
}

// CopyIn copies a file of the host, an image say, into the container.
func (c *Container) CopyIn(hostPath, path string) {
	c.t.Helper()
	b, err := os.ReadFile(hostPath)
	if err != nil {
		c.t.Fatal(err)
	}
	c.WriteFile(path, string(b), 0o644)
}

func (c *Container) must(f func() error) {
	c.t.Helper()
	if err := c.Inside(f); err != nil {
		c.t.Fatalf("in %s: %v", c.m.id, err)
	}
}
