package byhand

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A memoryGroup is a cgroup with the memory controller, of the version that the machine has.
type memoryGroup struct {
	t         *testing.T
	path, dir string // as /proc/self/cgroup names it, and where it is
	limit     string // the name of a file
}

// newMemoryGroup makes a group. With version 2 it is MemoryMax= of a unit that is set in it.
func newMemoryGroup(t *testing.T) *memoryGroup {
	t.Helper()
	const top = "/sys/fs/cgroup"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g := &memoryGroup{t: t, path: "/extexec-by-hand", limit: "memory.max"}
	own, err := os.ReadFile("/proc/self/cgroup")
	must(err)
	for line := range strings.Lines(string(own)) {
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if words[1] == "memory" { // version 1
			g.path, g.limit = filepath.Join(words[2], g.path), "memory.limit_in_bytes"
			g.dir = filepath.Join(top, "memory", g.path)
		}
	}
	if g.dir == "" {
		if err := os.WriteFile(top+"/cgroup.subtree_control", []byte("+memory"), 0o600); err != nil {
			t.Skipf("no memory controller to be had; withsystemd has it: %v", err)
		}
		g.dir = filepath.Join(top, g.path)
	}
	must(os.Mkdir(g.dir, 0o755))
	t.Cleanup(func() { must(os.Remove(g.dir)) })
	return g
}

// allow sets the limit, in bytes.
func (g *memoryGroup) allow(n int) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, g.limit), fmt.Append(nil, n), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// command is one that runs in the group, from its start.
func (g *memoryGroup) command(argv ...string) *exec.Cmd {
	script := []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}
	argv = slices.Concat(script, argv)
	return exec.Command(argv[0], argv[1:]...)
}

// TestMemoryMax has images of which a copy is made, in a cgroup with a limit as MemoryMax= sets it: one for which there is
// no room is refused with the name of what leaves too little, before it is read, and nothing is killed for it; with room
// it starts. So it is with a reload.
func TestMemoryMax(t *testing.T) {
	const (
		mib   = 1 << 20
		image = 32 * mib // there must be room for the program, which is half as large
		block = 64 << 10 // larger than a page, so the kernel does not verify it
	)
	s := newStage(t)
	g := newMemoryGroup(t)
	good, _, tree, root := s.protect(protection{size: image, block: block})
	s.must(os.WriteFile(s.dir+"/web.verity", tree, 0o600))
	s.must(os.WriteFile(s.dir+"/web.roothash", []byte(root), 0o600))
	s.put(good)
	start := func() *exec.Cmd {
		return g.command(s.extexec, "run", "--state-dir", s.dir+"/state", "--name", "memory", "--extension-image", s.dir+"/web.raw", "--", "/usr/bin/sleep", "infinity")
	}
	refused := func(cmd *exec.Cmd, code int) {
		t.Helper()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != code {
			t.Errorf("%v, want exit status %d: %s", err, code, out)
		}
		for _, word := range []string{s.dir + "/web.raw", "verifying it takes a copy of ", g.limit + " of the cgroup " + g.path + " leaves ", "raise that, or use a smaller image"} {
			if !strings.Contains(string(out), word) {
				t.Errorf("it said %q, want %q in it", out, word)
			}
		}
	}
	g.allow(image)
	refused(start(), 226)

	g.allow(4 * image)
	cmd := start()
	cmd.Stderr = os.Stderr
	s.must(cmd.Start())
	t.Cleanup(func() {
		s.must(cmd.Process.Kill())
		_ = cmd.Wait()
	})
	v := &verified{s, "memory", cmd.Process.Pid}
	v.running("/usr/bin/sleep")
	if out, _ := v.call("status"); !strings.Contains(out, "verified (copy)") {
		t.Errorf("status:\n%s", out)
	}
	v.read(nil)

	// The first copy is charged to the group as well.
	g.allow(2 * image)
	refused(g.command(s.extexec, "reload", "--force", "--state-dir", s.dir+"/state", "memory"), 1)
	v.read(nil)
}
