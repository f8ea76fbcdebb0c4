package hierarchy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// userNamespace is one that maps root to another user, and ends with the test.
func userNamespace(t testing.TB) *os.File {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	mapping := []syscall.SysProcIDMap{{HostID: 100000, Size: 1000}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: mapping, GidMappings: mapping}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// idmapped mounts source on target with its ids mapped, mount_setattr(2).
func idmapped(t testing.TB, source, target string) {
	t.Helper()
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userNamespace(t).Fd())}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr)
	if errors.Is(err, unix.EINVAL) {
		t.Skip("a tmpfs takes no mapping of ids before Linux 6.3")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
}

// TestIDMappedMount carries one of the host's: its ids stay mapped.
func TestIDMappedMount(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(t, f.dir+"/root/src/mapped/file", "mapped")
		idmapped(t, f.dir+"/root/src/mapped", f.dir+"/root/etc/dir")
	})
	for _, l := range []string{"L1", "L2", "L3"} {
		f.exchange(l)
		f.want("/etc/version="+l[1:], "/etc/dir/file=mapped")
		if m := f.svc.Table(" /etc/dir "); !strings.Contains(m[len(m)-1], ",idmapped") {
			t.Errorf("the ids are not mapped any more: %q", m)
		}
	}
}

// TestStackedMounts carries what is seen of mounts that lie on one another, the unit's
// and the host's, a directory and a file.
func TestStackedMounts(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		for _, d := range []string{"lower", "upper"} {
			write(t, f.dir+"/root/src/"+d+"/name", d)
		}
		write(t, f.dir+"/root/etc/host/keep", "")
		mount(t, f.dir+"/root/src/lower", f.dir+"/root/etc/host", "", unix.MS_BIND)
		mount(t, f.dir+"/root/src/upper", f.dir+"/root/etc/host", "", unix.MS_BIND)
	})
	for _, d := range []string{"lower", "upper"} {
		f.svc.Mount("/src/"+d, "/etc/dir", "", unix.MS_BIND, "")
		f.svc.Mount("/src/"+d+"/name", "/etc/secret", "", unix.MS_BIND, "")
	}
	for _, l := range []string{"L1", "L2", "L3"} {
		s := f.exchange(l)
		f.want("/etc/version="+l[1:], "/etc/dir/name=upper", "/etc/secret=upper", "/etc/host/name=upper")
		if len(s.Carried) != 3 {
			t.Errorf("carried %+v, want the three that are seen", s.Carried)
		}
	}
}

// TestHostMountsWhileStaged has mounts of the host's come and go below a carried one
// after the trees were staged: that is seen, and the trees made anew have it.
func TestHostMountsWhileStaged(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(t, f.dir+"/root/etc/ext/keep", "")
		mount(t, "tmpfs", f.dir+"/root/etc/ext", "tmpfs", 0)
		write(t, f.dir+"/root/etc/ext/late/keep", "")
	})
	late := f.dir + "/root/etc/ext/late"
	f.exchange("L1")
	f.known = func(_, rel string) bool { return rel == "ext" }
	for _, step := range []struct {
		layer string
		do    func()
		want  string
	}{
		{"L2", func() {
			mount(t, "tmpfs", late, "tmpfs", 0)
			write(t, late+"/file", "late")
		}, "/etc/ext/late/file=late"},
		{"L3", func() {
			if err := unix.Unmount(late, 0); err != nil {
				t.Fatal(err)
			}
		}, "/etc/ext/late/keep="},
	} {
		v, s, err := f.stage(step.layer)
		if err != nil {
			t.Fatal(err)
		}
		step.do()
		same, err := v.Unchanged(f.live)
		if err != nil || same {
			t.Errorf("before %s: unchanged %v, %v; something was mounted or unmounted", step.layer, same, err)
		}
		if err := errors.Join(s.Close(), v.Close()); err != nil {
			t.Error(err)
		}
		f.exchange(step.layer)
		f.want("/etc/version="+step.layer[1:], step.want)
	}
}

// TestAutomountIsRefused names an automount point below a hierarchy, the service's and
// the host's, and changes nothing.
func TestAutomountIsRefused(t *testing.T) {
	for _, whose := range []string{"service", "host"} {
		t.Run(whose, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
				on := f.dir + "/root/src/auto"
				if whose == "host" {
					on = f.dir + "/root/etc/dir"
				}
				if err := os.MkdirAll(on, 0o755); err != nil {
					t.Fatal(err)
				}
				data := fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", w.Fd(), unix.Getpgrp())
				if err := unix.Mount("auto", on, "autofs", 0, data); err != nil {
					t.Fatal(err)
				}
			})
			if whose == "service" {
				f.svc.Mount("/src/auto", "/etc/dir", "", unix.MS_BIND, "")
			}
			v, s, err := f.stage("L1")
			if err == nil {
				_ = s.Close()
				_ = v.Close()
			}
			if err == nil || !strings.Contains(err.Error(), `carry mount "/etc/dir": an automount point cannot be carried`) {
				t.Errorf("error %v, want one that names the automount point", err)
			}
			if m := f.svc.Table("extexec:"); len(m) != 0 {
				t.Errorf("something has changed: %q", m)
			}
		})
	}
}
