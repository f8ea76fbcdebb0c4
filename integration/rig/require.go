package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// required says that this run may skip nothing for want of root, the rig or a tool.
func required() bool { return os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" }

// Skip skips the test, or fails it where EXTEXEC_REQUIRE_RIG=1 forbids skips. The reason says what is
// missing and how to get it.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if required() {
		t.Fatalf("EXTEXEC_REQUIRE_RIG=1 forbids to skip this: %s", reason)
	}
	t.Skip(reason)
}

// RequireRoot skips the test unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root: run it with sudo, or make test")
	}
}

// Require skips the test unless containers can be booted here.
func Require(t testing.TB) {
	t.Helper()
	if err := Available(); err != nil {
		Skip(t, err.Error())
	}
}

// RequireTool skips the test unless the program is on the host's PATH, and returns its path.
func RequireTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Skip(t, fmt.Sprintf("needs %s: make test installs it", name))
	}
	return path
}

// Available says why no container can be booted here; nil where it can.
var Available = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("the rig needs root: run it with sudo, or make test")
	}
	cg, err := cgroup2Mount()
	if err != nil {
		return fmt.Errorf("the rig needs a cgroup2 mount: %w", err)
	}
	if err := unix.Access(cg, unix.W_OK); err != nil {
		return fmt.Errorf("the rig needs a writable cgroup2 at %s: %w", cg, err)
	}
	return nil
})
