package nsmount_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { nsmounttest.Main(m) }

// TestProbe compares what is found by trying with what the kernel is known for. Only
// this test looks at its version.
func TestProbe(t *testing.T) {
	nsmounttest.Root(t)
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	before := major < 6 || major == 6 && minor < 5 // both came with 6.5
	if got, want := nsmount.Probe(), (nsmount.Limits{NoBeneath: before, NoLowerdir: before}); got != want {
		t.Errorf("Linux %d.%d: probed %+v, want %+v", major, minor, got, want)
	}
}

// TestNamespaceLeavesNoTrace works in another namespace: this process's own view
// and its threads stay as they were.
func TestNamespaceLeavesNoTrace(t *testing.T) {
	svc := nsmounttest.Start(t, nsmounttest.Options{})
	before := nsmounttest.Mounts()
	ns, err := nsmount.EnterCopy(svc.MountNS(), nsmount.Private)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := nsmount.EmptyTree("here")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var seen error
	err = ns.Do(t.Context(), func() error {
		at, err := nsmount.OpenInRoot("/usr", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer at.Close()
		if err := tree.Attach(at); err != nil {
			return err
		}
		_, seen = os.Stat("/usr/here")
		return nil
	})
	if err != nil || seen != nil {
		t.Errorf("attach in a copy of the namespace: %v, then stat: %v", err, seen)
	}
	if err := ns.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/usr/here"); err == nil {
		t.Error("what was done in the copy is seen here")
	}
	if got := svc.Read("/usr/here"); !strings.Contains(got, "no such file") {
		t.Errorf("what was done in the copy is seen in the original: %q", got)
	}
	if after := nsmounttest.Mounts(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("this process's mount table changed")
	}
}

// TestChanged tells every kind of change in another namespace from none.
func TestChanged(t *testing.T) {
	svc := nsmounttest.Start(t, nsmounttest.Options{})
	ns, err := nsmount.Enter(svc.MountNS())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"nothing", func() {}, false},
		{"a mount", func() { svc.Mount("tmpfs", "/tmp", "tmpfs", 0, "") }, true},
		{"another attribute", func() { svc.Mount("", "/tmp", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "") }, true},
		{"a table that was read after the change", func() {
			svc.Mount("tmpfs", "/tmp", "tmpfs", 0, "")
			if _, err := ns.Table(); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"an unmount", func() {
			if err := svc.Unmount("/tmp"); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		step.do()
		if changed, err := ns.Changed(); err != nil || changed != step.want {
			t.Errorf("%s: changed is %v (%v), want %v", step.what, changed, err, step.want)
		}
	}
}

// TestGather gathers clones of a shared mount, a file and a tree that is attached:
// nothing of it shows anywhere, and the attached one stays.
func TestGather(t *testing.T) {
	nsmounttest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	var trees []*nsmount.Tree
	for _, name := range []string{"a", "b", "c", "file", "place"} {
		path := filepath.Join(dir, name)
		err := os.Mkdir(path, 0o755)
		if name == "file" {
			err = errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tree, err := nsmount.CloneDir(f, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		if name == "place" {
			if err := tree.Attach(f); err != nil {
				t.Fatal(err)
			}
		}
		trees = append(trees, tree)
	}
	before := nsmounttest.Mounts()
	nsmount.Gather(trees)
	if after := nsmounttest.Mounts(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("the mount table was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	for _, tree := range trees {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := nsmounttest.Mounts(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("after they were closed, the mount table is\n%s", strings.Join(after, "\n"))
	}
}

func TestDoReturnsWhenTheContextEnds(t *testing.T) {
	nsmounttest.Root(t)
	ns, err := nsmount.Here()
	if err != nil {
		t.Fatal(err)
	}
	hang, hanging := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-hanging; cancel() }()
	err = ns.Do(ctx, func() error { close(hanging); <-hang; return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	close(hang)
	_ = ns.Close()
}

// TestDoCallsNothingTooLate: where the context has ended before, nothing is begun that
// would then go on behind the back of its caller.
func TestDoCallsNothingTooLate(t *testing.T) {
	nsmounttest.Root(t)
	ns, err := nsmount.Here()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	called := make(chan bool, 100)
	for range cap(called) { // a select among two that are ready draws lots
		runtime.Gosched() // the thread waits for work
		if err := ns.Do(ctx, func() error { called <- true; return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}
	if err := ns.Do(t.Context(), func() error { return nil }); err != nil { // comes after them
		t.Error(err)
	}
	if n := len(called); n > 0 {
		t.Errorf("%d of %d were called", n, cap(called))
	}
}

// TestAttributesBeforeAttach mounts with every attribute and reads them back.
func TestAttributesBeforeAttach(t *testing.T) {
	nsmounttest.Root(t)
	all := nsmount.AttrReadOnly | nsmount.AttrNoSuid | nsmount.AttrNoDev | nsmount.AttrNoExec | nsmount.AttrNoSymfollow | nsmount.AttrNoAtime
	tree, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs", Source: "attributes", Attr: all})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	scratch, err := nsmount.NewScratch(nsmount.Probe())
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	err = scratch.Do(t.Context(), func() error {
		spot, err := scratch.Attach(tree)
		if err != nil {
			return err
		}
		defer spot.Close()
		data, err := os.ReadFile("/proc/thread-self/mountinfo")
		if err != nil {
			return err
		}
		table, err := nsmount.ParseTable(data)
		if err != nil {
			return err
		}
		at, err := nsmount.Locate(spot.Dir())
		if err != nil || !at.Root || !at.Dir {
			t.Errorf("the spot is no mount's root: %v", err)
		}
		m, ok := table.ByID(at.Mount)
		if !ok || m.Attr != all || m.Source != "attributes" {
			t.Errorf("mounted as %+v, want the attributes %v", m, all)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLookupsStayInside puts every kind of link into a tree.
func TestLookupsStayInside(t *testing.T) {
	nsmounttest.Root(t)
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/real/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"abs": "/etc", "up": "../..", "rel": "real", "magic": "/proc/self/root"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := nsmount.CloneDir(f, false, nsmount.AttrReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, rel := range []string{"abs", "up", "rel", "magic", "rel/sub", "..", "../etc", "/etc", "abs/passwd"} {
		if d, err := tree.OpenDir(rel); err == nil {
			d.Close()
			t.Errorf("OpenDir(%q) succeeded", rel)
		}
	}
	d, err := tree.OpenDir("real/sub")
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := tree.OpenFile("fifo", unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	fifo.Close() // that it did not block is the point
}

func TestErrorsNameTheCause(t *testing.T) {
	nsmounttest.Root(t)
	_, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs", Options: []nsmount.Option{{Key: "nonsense", Value: "1"}}})
	var op *nsmount.OpError
	if !errors.As(err, &op) || !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an unknown option: %v", err)
	}
	if _, err := nsmount.MountFS(nsmount.FSConfig{Type: "nosuchfs"}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an unknown file system: %v", err)
	}
	layers := make([]*os.File, nsmount.MaxLayers)
	if _, err := nsmount.MountOverlay(nsmount.Overlay{Source: "x", Layers: layers}); err == nil || !strings.Contains(err.Error(), "the kernel takes 500") {
		t.Errorf("too many layers: %v", err)
	}
}

// TestLockedTree takes a tree out of a namespace of a child user namespace: its
// children cannot be taken off it, and it cannot be cloned without them.
func TestLockedTree(t *testing.T) {
	nsmounttest.Root(t)
	scratch, err := nsmount.NewScratch(nsmount.Probe())
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	outer, err := nsmount.EmptyTree("child")
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	inner, err := nsmount.EmptyTree()
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	var locked []*nsmount.Tree
	err = scratch.Do(t.Context(), func() error {
		spot, err := scratch.Attach(outer)
		if err != nil {
			return err
		}
		defer spot.Close()
		at, err := nsmount.OpenBelow(spot.Dir(), "child", unix.O_PATH)
		if err != nil {
			return err
		}
		defer at.Close()
		if err := inner.Attach(at); err != nil {
			return err
		}
		locked, err = scratch.Lock([]*nsmount.Spot{spot}, 1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer locked[0].Close()
	other, err := nsmount.NewScratch(nsmount.Probe())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = other.Do(t.Context(), func() error {
		spot, err := other.Attach(locked[0])
		if err != nil {
			return err
		}
		defer spot.Close()
		if c, err := nsmount.CloneDir(spot.Dir(), false, 0); !errors.Is(err, unix.EINVAL) {
			if err == nil {
				c.Close()
			}
			t.Errorf("clone without the locked child: %v, want EINVAL", err)
		}
		c, err := nsmount.CloneDir(spot.Dir(), true, 0)
		if err != nil {
			return err
		}
		c.Close()
		at, err := nsmount.OpenBelow(spot.Dir(), "child", unix.O_PATH)
		if err != nil {
			return err
		}
		defer at.Close()
		if err := nsmount.DetachTop(at); !errors.Is(err, unix.EINVAL) {
			t.Errorf("detach the locked child: %v, want EINVAL", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if kids, err := os.ReadFile("/proc/thread-self/children"); err == nil && strings.TrimSpace(string(kids)) != "" {
		t.Errorf("the locking child is left: %s", kids)
	}
}

// late is a value that says when it was closed.
type late chan struct{}

func (l late) Close() error { close(l); return nil }

// TestDoSharesNothing gives up on calls that then go on: what one returns too late is
// closed, and a file that it uses may be closed meanwhile. The race detector sees the
// rest: make race.
func TestDoSharesNothing(t *testing.T) {
	nsmounttest.Root(t)
	ns, err := nsmount.Here()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	hang, closed, used := make(chan struct{}), make(late), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	value, err := nsmount.Do(ctx, ns, func() (late, error) {
		cancel()
		<-hang
		_, err := nsmount.CloneDir(dir, false, 0)
		used <- err
		return closed, nil
	})
	if !errors.Is(err, context.Canceled) || value != nil {
		t.Errorf("got %v and the error %v, want nothing and context.Canceled", value, err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
	close(hang)
	if err := <-used; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the call used a closed file: %v, want os.ErrClosed", err)
	}
	<-closed
	if err := ns.Close(); err != nil {
		t.Error(err)
	}
}
