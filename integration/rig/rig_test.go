package rig

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestLeaksAreSeen makes one of everything that a test could leave behind, and wants each to be reported.
func TestLeaksAreSeen(t *testing.T) {
	Require(t)
	r, err := theRun()
	if err != nil {
		t.Fatal(err)
	}
	m, err := bootMachine(r, Forky, Options{Binds: []Bind{{Source: t.TempDir(), Target: "/bound", ReadOnly: true}}})
	if err != nil {
		t.Fatal(err)
	}
	c := &Container{m: m, t: t}
	if err := m.leaks(); err != nil {
		t.Errorf("nothing has happened yet: %v", err)
	}
	c.Must("mount", "-t", "tmpfs", "leak", "/mnt")
	c.Must("systemd-run", "--unit=leaky", "sleep", "infinity")
	c.Must("truncate", "--size=1M", "/srv/leak.raw")
	loop := c.Must("losetup", "--find", "--show", "--read-only", "/srv/leak.raw")
	c.WriteFile("/run/extexec/units/leaky/state.json", "{}", 0o600)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := m.begin(ctx, Command{Argv: []string{"sleep", "infinity"}})
	if err != nil {
		t.Fatal(err)
	}
	err = m.leaks()
	if err == nil {
		t.Fatal("no leak was seen")
	}
	for _, want := range []string{
		"mount /mnt tmpfs leak", "unit leaky.service", "cgroup /system.slice/leaky.service", "cgroup /rig",
		"loop " + loop, "file /srv/leak.raw", "file /run/extexec/units/leaky/state.json",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from: %v", want, err)
		}
	}
	cancel()
	if _, err := p.result(); err != nil {
		t.Error(err)
	}
	if err := detachLoops(m.dir); err != nil {
		t.Error(err)
	}
	if err := m.stop(); err != nil {
		t.Error(err)
	}
	for _, gone := range []string{m.dir, string(m.cgroup)} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s is still there after stop", gone)
		}
	}
}

// TestSweep leaves behind what an interrupted run would, and one run that is alive.
func TestSweep(t *testing.T) {
	Require(t)
	runs := t.TempDir()
	dead, alive := fakeRun(t, runs, "dead"), fakeRun(t, runs, "alive")
	loop := losetup(t, filepath.Join(dead.dir, "image.raw"))
	orphan := fakeCgroup(t, cgroupPrefix(runs)+"gone-forky-1") // of a run without a directory
	lock, err := lockFile(filepath.Join(alive.dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()

	if err := sweep(runs); err != nil {
		t.Error(err)
	}
	for _, gone := range []string{dead.dir, string(dead.cgroup), string(orphan.cgroup), "/sys/block/" + filepath.Base(loop) + "/loop/backing_file"} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, kept := range []string{alive.dir, string(alive.cgroup)} {
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("a living run was swept: %v", err)
		}
	}
	lock.Close()
	if err := sweep(runs); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(runs + "/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

type fake struct {
	dir    string
	cgroup cgroup
}

// fakeRun makes the directory and the cgroup of a run, with a process in it.
func fakeRun(t *testing.T, runs, id string) fake {
	t.Helper()
	f := fakeCgroup(t, cgroupPrefix(runs)+id+"-forky-1")
	f.dir = filepath.Join(runs, id)
	if err := os.MkdirAll(filepath.Join(f.dir, "root/etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

func fakeCgroup(t *testing.T, name string) fake {
	t.Helper()
	mount, err := cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	g, err := newCgroup(filepath.Join(mount, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(string(g), "child"), 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := cgroup(filepath.Join(string(g), "child")).open()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.remove()
		_ = cmd.Wait()
	})
	return fake{cgroup: g}
}

// losetup attaches a read-only loop device to a new file.
func losetup(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--read-only", path).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a\040b`: "/a b", `/a\134040`: `/a\040`, `/a\011\012`: "/a\t\n"} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}
