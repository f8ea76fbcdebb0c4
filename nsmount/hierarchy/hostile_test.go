package hierarchy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestFakeProc has a service that mounts a /proc of its own, whose files are
// fifos and lies: nothing of it is read.
func TestFakeProc(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/root/src/proc/thread-self/keep", "")
		write(f.t, f.dir+"/root/src/proc/self/fd/keep", "")
		for _, fifo := range []string{"thread-self/mountinfo", "self/mountinfo", "mounts"} {
			if err := unix.Mkfifo(f.dir+"/root/src/proc/"+fifo, 0o666); err != nil {
				f.t.Fatal(err)
			}
		}
		for fd := range 256 {
			if err := os.Symlink("/tmp/lie", fmt.Sprintf("%s/root/src/proc/self/fd/%d", f.dir, fd)); err != nil {
				f.t.Fatal(err)
			}
		}
	})
	f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	f.svc.Mount("/src/proc", "/proc", "", unix.MS_BIND, "")
	for v := 1; v <= 3; v++ {
		f.exchange(fmt.Sprintf("L%d", v))
		f.want(fmt.Sprintf("/etc/version=%d", v), "/etc/secret=")
	}
	if m := f.svc.Table(" /etc "); len(m) != f.stack(3) {
		t.Errorf("mounts on /etc: %q, want %d", m, f.stack(3))
	}
}

// TestLinkedHierarchyStaysInside: a service that makes its /etc a link to
// somewhere else gets its own files there overlaid, never the host's.
func TestLinkedHierarchyStaysInside(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/outside/base", "outside")
		write(f.t, f.dir+"/root"+f.dir+"/outside/base", "inside")
		for _, err := range []error{os.Rename(f.dir+"/root/etc", f.dir+"/root/oldetc"), os.Symlink(f.dir+"/outside", f.dir+"/root/etc")} {
			if err != nil {
				f.t.Fatal(err)
			}
		}
	})
	f.exchange("L1")
	f.want("/etc/base=inside", "/etc/version=1")
	if _, err := os.Stat(f.dir + "/outside/version"); err == nil {
		t.Error("the overlay lies over a directory outside the service's root")
	}
}

// opened watches a file and returns how often it was opened since.
func opened(t testing.TB, path string) func() int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	return func() int {
		n, err := unix.Read(fd, make([]byte, 4096))
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		return max(0, n) / unix.SizeofInotifyEvent
	}
}

// TestDevicesAreNotOpened: where a regular file is expected, a service puts a device
// node. To open one does something, with a tape or a watchdog for one.
func TestDevicesAreNotOpened(t *testing.T) {
	mknod := func(f *fixture, path string) string {
		f.t.Helper()
		if err := unix.Mknod(f.dir+"/root"+path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			f.t.Fatal(err)
		}
		return f.dir + "/root" + path
	}
	for _, hierarchies := range [][]string{{"/etc"}, {"/usr", "/etc"}} {
		var asked func() int
		f := newFixture(t, nsmounttest.Options{}, func(f *fixture) { asked = opened(f.t, mknod(f, "/etc/os-release")) })
		_, err := f.take(hierarchies...)
		if err == nil || !strings.Contains(err.Error(), `read "/etc/os-release" of the service's root: not a regular file (Dc---------)`) {
			t.Errorf("a device as os-release: %v", err)
		}
		if n := asked(); n != 0 {
			t.Errorf("the device was opened %d times", n)
		}
	}
	t.Run("under a carried mount", func(t *testing.T) {
		var asked func() int
		f := newFixture(t, nsmounttest.Options{}, func(f *fixture) { asked = opened(f.t, mknod(f, "/src/device")) })
		f.exchange("L1")
		f.svc.Mount("/src/device", "/etc/secret", "", unix.MS_BIND, "")
		if err := os.Rename(f.dir+"/root/src/null", f.dir+"/root/src/device"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(f.dir + "/root/src/device"); err != nil {
			t.Fatal(err)
		}
		_, _, err := f.stage("L2")
		if err == nil || !strings.Contains(err.Error(), `carry mount "/etc/secret": its source was removed, and it cannot be copied: not a regular file`) {
			t.Errorf("a device whose node was removed: %v", err)
		}
		if n := asked(); n != 0 {
			t.Errorf("the device was opened %d times", n)
		}
	})
}

// TestMountStorm mounts and unmounts below the hierarchy all the time: each try
// goes through or says why, and the old or the new state is there.
func TestMountStorm(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.exchange("L1")
	f.svc.Storm("/src", "/etc/dir")
	defer f.svc.Tally()
	done := 0
	for i := range 60 {
		v, s, err := f.stage([]string{"L2", "L3"}[i%2])
		if err != nil {
			if !strings.Contains(err.Error(), "carry mount") && !strings.Contains(err.Error(), "try again") {
				t.Fatalf("error %v", err)
			}
			continue
		}
		same, err := v.Unchanged(f.live)
		if err != nil {
			t.Fatal(err)
		}
		if same {
			f.run(s.Exchange)
			done++
		}
		s.Close()
		v.Close()
		if got := f.svc.Read("/etc/base"); got != "base" {
			t.Fatalf("after try %d the service reads %q", i, got)
		}
	}
	t.Logf("%d of 60 exchanges", done)
}

// TestHangingFileSystem has a file system below the hierarchy that nobody
// answers for: the survey does not ask it, and a lookup that does hang ends with
// the context.
func TestHangingFileSystem(t *testing.T) {
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("open /dev/fuse: %v", err)
	}
	defer fuse.Close()
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/root/etc/hang/keep", "")
		data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())
		if err := unix.Mount("hang", f.dir+"/root/etc/hang", "fuse", 0, data); err != nil {
			f.t.Fatal(err)
		}
	})
	for v := 1; v <= 2; v++ {
		s := f.exchange(fmt.Sprintf("L%d", v))
		if len(s.Carried) != 1 || s.Carried[0].FSType != "fuse" {
			t.Errorf("carried %+v, want the one that hangs", s.Carried)
		}
		f.want(fmt.Sprintf("/etc/version=%d", v))
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		<-asked
		cancel()
	}()
	err = f.live.Do(ctx, func() error {
		close(asked)
		_, err := os.Stat("/etc/hang/file")
		return err
	})
	if err == nil || ctx.Err() == nil {
		t.Errorf("a lookup that hangs: %v", err)
	}
}

// TestSurveyThatIsGivenUp surveys a hierarchy below a file system that does not
// answer, gives up, and gives back all that it had, while the call that hung comes
// back. The race detector finds what the two would share: make race.
func TestSurveyThatIsGivenUp(t *testing.T) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0) // not by os: before the mount it cannot be polled
	if err != nil {
		t.Fatalf("open /dev/fuse: %v", err)
	}
	fuse := os.NewFile(uintptr(fd), "/dev/fuse")
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/root/etc/hang/keep", "")
		data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())
		if err := unix.Mount("hang", f.dir+"/root/etc/hang", "fuse", 0, data); err != nil {
			f.t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		asked <- answerFuse(fuse)
		cancel()
	}()
	v, err := Take(ctx, f.ns, f.live, Options{Hierarchies: []string{"/etc", "/etc/hang/below"}, Limits: nsmount.Probe()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a survey that hangs: %v, %v, want context.Canceled", v, err)
	}
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	// Whoever has hung gets ENOTCONN now, and goes on.
	if err := fuse.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.live.Do(t.Context(), func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// answerFuse answers the first request, INIT, and returns when there is another: a
// lookup hangs. The structures are those of linux/fuse.h.
func answerFuse(fuse *os.File) error {
	in := make([]byte, 1<<17) // more than max_write
	if _, err := fuse.Read(in); err != nil {
		return fmt.Errorf("read INIT: %w", err)
	}
	out := make([]byte, 16+64) // fuse_out_header, fuse_init_out of protocol 7.23 and later
	binary.NativeEndian.PutUint32(out, uint32(len(out)))
	copy(out[8:16], in[8:16])                      // unique
	binary.NativeEndian.PutUint32(out[16:], 7)     // major
	binary.NativeEndian.PutUint32(out[20:], 31)    // minor
	binary.NativeEndian.PutUint32(out[36:], 1<<16) // max_write
	if _, err := fuse.Write(out); err != nil {
		return fmt.Errorf("answer INIT: %w", err)
	}
	if _, err := fuse.Read(in); err != nil {
		return fmt.Errorf("read the next request: %w", err)
	}
	return nil
}

// TestElsewhereHangs has a child of the service mount a file system that does not
// answer on the hierarchy: it is left alone, and not asked.
func TestElsewhereHangs(t *testing.T) {
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("open /dev/fuse: %v", err)
	}
	defer fuse.Close()
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.exchange("L1")
	c := f.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_PRIVATE})
	in, err := nsmount.Enter(c.MountNS())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())
	if err := in.Do(t.Context(), func() error { return unix.Mount("hang", "/etc", "fuse", 0, data) }); err != nil {
		t.Fatal(err)
	}
	v, s, err := f.stage("L2")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	defer s.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a request that waits ends with the connection
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("it was asked")
			fuse.Close()
		}
	}()
	there, err := v.Elsewhere(t.Context(), in, s.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if !there.Surveys[0].leave {
		t.Error("it is not left alone")
	}
}

// TestPartOfAnOverlay has a service bind a part of our overlay on the hierarchy: that is
// something of its own, although the mount table has our source for it.
func TestPartOfAnOverlay(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.exchange("L1")
	f.svc.Mount("/etc/dir", "/etc", "", unix.MS_BIND, "")
	v, s, err := f.stage("L2")
	if err == nil {
		s.Close()
		v.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `another mount covers the overlay ("extexec:1.1:test")`) {
		t.Errorf("error %v, want that something covers the overlay", err)
	}
	if err := f.svc.Unmount("/etc"); err != nil {
		t.Fatal(err)
	}
	f.exchange("L2")
	f.want("/etc/version=2", "/etc/base=base")
}

// TestRestrictionsAreLocked: where the mount namespace belongs to a user namespace of the
// service's own, who is root there cannot lift what an overlay is restricted to, whether
// or not there are mounts below it.
func TestRestrictionsAreLocked(t *testing.T) {
	for _, carry := range []bool{false, true} {
		for _, rehearse := range []bool{false, true} {
			f := newFixture(t, nsmounttest.Options{UserNS: true}, nil)
			f.rehearse = rehearse
			if carry {
				f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
			}
			for _, l := range []string{"L1", "L2"} {
				f.exchange(l)
				for lifted, left := range map[string]uintptr{"nodev": unix.MS_RDONLY, "ro": unix.MS_NODEV} {
					err := f.svc.TryMount("", "/etc", "", unix.MS_REMOUNT|unix.MS_BIND|left, "")
					if !errors.Is(err, unix.EPERM) {
						t.Errorf("carry=%v, rehearse=%v, %s: %s could be lifted: %v", carry, rehearse, l, lifted, err)
					}
				}
			}
			f.want("/etc/version=2", "/etc/base=base")
		}
	}
}
