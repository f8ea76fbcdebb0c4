package hierarchy

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

// fixture is a root on a tmpfs, a service in it, and three versions of /etc.
type fixture struct {
	t        testing.TB
	dir      string // the tmpfs
	svc      *nsmounttest.Service
	ns       *os.File
	live     *nsmount.Namespace
	limits   nsmount.Limits
	serial   uint64
	known    func(h, rel string) bool
	rehearse bool
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mount(t testing.TB, source, target, fsType string, flags uintptr) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); fsType != "" && err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, fsType, flags, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", source, target, err)
	}
}

// newFixture makes the tmpfs; prepare runs before the service starts.
func newFixture(t testing.TB, o nsmounttest.Options, prepare func(f *fixture)) *fixture {
	t.Helper()
	nsmounttest.Root(t)
	f := &fixture{t: t, dir: t.TempDir(), limits: nsmount.Probe()}
	mount(t, "tmpfs", f.dir, "tmpfs", 0)
	t.Cleanup(func() {
		if err := unix.Unmount(f.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	mount(t, "", f.dir, "", unix.MS_SHARED)
	write(t, f.dir+"/root/etc/base", "base")
	write(t, f.dir+"/root/etc/secret", "SECRET")
	write(t, f.dir+"/root/etc/dir/inner", "base inner")
	write(t, f.dir+"/root/usr/lib/os-release", "ID=test\nVERSION_ID=1\n")
	write(t, f.dir+"/root/src/bound", "bound")
	write(t, f.dir+"/root/src/null", "")
	for v := 1; v <= 3; v++ {
		write(t, fmt.Sprintf("%s/L%d/version", f.dir, v), fmt.Sprint(v))
	}
	if prepare != nil {
		prepare(f)
	}
	o.Root = f.dir + "/root"
	f.svc = nsmounttest.Start(t, o)
	f.ns = f.svc.MountNS()
	live, err := nsmount.Enter(f.ns)
	if err != nil {
		t.Fatal(err)
	}
	f.live = live
	t.Cleanup(func() { _ = live.Close() })
	return f
}

func (f *fixture) take(hierarchies ...string) (*View, error) {
	return Take(f.t.Context(), f.ns, f.live, Options{Hierarchies: hierarchies, Limits: f.limits, FromBase: f.known})
}

// stage builds /etc from the named layers.
func (f *fixture) stage(layers ...string) (*View, *Staged, error) {
	v, err := f.take("/etc")
	if err != nil {
		return nil, nil, err
	}
	f.serial++
	w := Wanted{Source: Source{Generation: f.serial, Serial: f.serial, Name: "test"}}
	for _, l := range layers {
		d, err := os.OpenFile(filepath.Join(f.dir, l), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return v, nil, err
		}
		tree, err := nsmount.CloneDir(d, false, nsmount.AttrReadOnly)
		if err != nil {
			return v, nil, err
		}
		defer d.Close()
		defer tree.Close()
		w.Layers, w.Owners = append(w.Layers, tree.File()), append(w.Owners, tree)
	}
	staged, err := Stage(f.t.Context(), v, []Wanted{w}, f.rehearse)
	if err != nil {
		_ = v.Close()
		return nil, nil, err
	}
	return v, staged[0], nil
}

// exchange makes /etc show the named layers.
func (f *fixture) exchange(layers ...string) *Staged {
	f.t.Helper()
	v, s, err := f.stage(layers...)
	if err != nil {
		f.t.Fatal(err)
	}
	defer v.Close()
	defer s.Close()
	meant := s.Covered()
	f.run(s.Exchange)
	if s.Covered() != meant {
		f.t.Errorf("%d covered, %d were meant to be", s.Covered(), meant)
	}
	table, err := f.live.Table()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := s.Landed(table); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) run(do func() error) {
	f.t.Helper()
	if err := f.live.Do(f.t.Context(), do); err != nil {
		f.t.Fatal(err)
	}
}

// stack is how many mounts that many exchanges leave on a hierarchy: before Linux 6.5
// each new tree goes on top of the old one.
func (f *fixture) stack(exchanges int) int {
	if f.limits.NoBeneath {
		return exchanges
	}
	return 1
}

// want checks what the service reads, PATH=CONTENT.
func (f *fixture) want(pairs ...string) {
	f.t.Helper()
	for _, p := range pairs {
		path, content, _ := strings.Cut(p, "=")
		if got := f.svc.Read(path); got != content {
			f.t.Errorf("the service reads %q in %s, want %q", got, path, content)
		}
	}
}

func TestExchange(t *testing.T) {
	for _, p := range []struct {
		name string
		flag uintptr
	}{{"shared", unix.MS_SHARED}, {"private", unix.MS_PRIVATE}, {"slave", unix.MS_SLAVE}} {
		t.Run(p.name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{Propagation: p.flag}, nil)
			f.exchange("L1")
			f.want("/etc/version=1", "/etc/base=base")
			before := f.svc.Table(" /etc ")
			for range 3 {
				f.exchange("L2")
				f.want("/etc/version=2", "/etc/base=base")
				f.exchange("L1", "L3")
				f.want("/etc/version=3")
			}
			after := f.svc.Table(" /etc ")
			if len(after) != f.stack(7) || len(before) != 1 {
				t.Fatalf("mounts on /etc: %q, then %q; want one, then %d", before, after, f.stack(7))
			}
			if shared := strings.Contains(after[len(after)-1], "shared:"); shared != (p.flag == unix.MS_SHARED) {
				t.Errorf("propagation was not kept: %s", after[len(after)-1])
			}
			f.exchange()
			f.want("/etc/base=base")
			left := 0
			if f.limits.NoBeneath {
				left = 8 // what is covered cannot be reached: one that shows the base goes on top
			}
			if m := f.svc.Table(" /etc "); len(m) != left {
				t.Errorf("after the last layer has gone, /etc has %q, want %d", m, left)
			}
		})
	}
}

func TestExchangeBack(t *testing.T) {
	for _, carry := range []bool{false, true} {
		t.Run(fmt.Sprintf("carry=%v", carry), func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, nil)
			if carry {
				f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
			}
			f.exchange("L1")
			v, s, err := f.stage("L2")
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			defer s.Close()
			f.run(s.Exchange)
			f.want("/etc/version=2")
			f.run(s.ExchangeBack)
			f.want("/etc/version=1")
			if carry {
				f.want("/etc/secret=")
			}
			if m := f.svc.Table(" /etc "); len(m) != 1 {
				t.Errorf("mounts on /etc after the way back: %q", m)
			}
			f.exchange("L3")
			f.want("/etc/version=3")
		})
	}
}

// TestCarriedKinds carries one mount of each kind over several generations.
func TestCarriedKinds(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		mount(t, "tmpfs", f.dir+"/root/src/nested", "tmpfs", 0)
		write(t, f.dir+"/root/src/nested/a", "outer")
		mount(t, "tmpfs", f.dir+"/root/src/nested/deep", "tmpfs", 0)
		write(t, f.dir+"/root/src/nested/deep/b", "deep")
		write(t, f.dir+"/root/etc/bound", "hidden")
		write(t, f.dir+"/root/etc/ro/x", "base x")
		write(t, f.dir+"/L2/ro/x", "new x")
		for _, d := range []string{"nested", "tmp"} {
			write(t, f.dir+"/root/etc/"+d+"/keep", "")
		}
	})
	f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	f.svc.Mount("/src/bound", "/etc/bound", "", unix.MS_BIND, "")
	f.svc.Mount("", "/etc/bound", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOEXEC, "")
	f.svc.Mount("/src/nested", "/etc/nested", "", unix.MS_BIND|unix.MS_REC, "")
	f.svc.Mount("tmpfs", "/etc/tmp", "tmpfs", unix.MS_NOSUID, "size=1m")
	f.svc.Mount("/etc/ro", "/etc/ro", "", unix.MS_BIND, "")
	f.svc.Mount("", "/etc/ro", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	for round, version := range []string{"1", "2", "3", "2"} {
		s := f.exchange("L" + version)
		f.want("/etc/version="+version, "/etc/secret=", "/etc/bound=bound", "/etc/nested/a=outer", "/etc/nested/deep/b=deep", "/etc/base=base")
		x := "base x"
		if version == "2" {
			x = "new x"
		}
		f.want("/etc/ro/x=" + x)
		how := map[string]How{}
		for _, c := range s.Carried {
			how[c.Path] = c.How
		}
		if how["ro"] != Rebuilt || how["bound"] != Cloned || len(how) != 5 {
			t.Errorf("round %d: carried %v", round, how)
		}
		line := f.svc.Table(" /etc/bound ")
		if len(line) == 0 || !strings.Contains(line[len(line)-1], "ro,noexec") {
			t.Errorf("attributes of a carried mount: %q", line)
		}
	}
}

// TestHiddenStaysHidden is the leak that locking is for: what a carried mount hides
// is never seen, neither by path, nor through a directory that was opened before,
// nor below a carried directory.
func TestHiddenStaysHidden(t *testing.T) {
	rounds := 2000
	if os.Getenv("EXTEXEC_LONG") != "" || os.Getenv("CI") != "" {
		rounds = 20000
	}
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(t, f.dir+"/root/src/cover/inner", "covered")
	})
	f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	f.svc.Mount("/src/cover", "/etc/dir", "", unix.MS_BIND, "")
	f.exchange("L1")
	f.svc.OpenDir("old", "/etc")
	// Two threads: on two processors the exchanges are to get on, too.
	f.svc.Hammer("/etc/secret,/etc/dir/inner", "old:secret,/etc/secret,/etc/version")
	for i := range rounds {
		f.exchange([]string{"L1", "L2"}[i%2])
	}
	for found, n := range f.svc.Tally() {
		switch found {
		case "/etc/secret=", "/etc/dir/inner=covered", "old:secret=", "/etc/version=1", "/etc/version=2":
		default:
			t.Errorf("%d times: %s", n, found)
		}
	}
}

func TestHostMountsFollow(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(t, f.dir+"/root/etc/ext/keep", "")
		mount(t, "tmpfs", f.dir+"/root/etc/ext", "tmpfs", 0)
		write(t, f.dir+"/root/etc/ext/late/keep", "")
	})
	f.exchange("L1")
	f.exchange("L2")
	f.exchange("L3")
	// The host mounts below a carried mount: the link is still there.
	mount(t, "tmpfs", f.dir+"/root/etc/ext/late", "tmpfs", 0)
	write(t, f.dir+"/root/etc/ext/late/file", "late")
	f.want("/etc/ext/late/file=late")
	// What the host unmounts is not carried on.
	f.known = func(h, rel string) bool { return rel == "ext" || rel == "ext/late" }
	for _, p := range []string{"/root/etc/ext/late", "/root/etc/ext"} {
		if err := unix.Unmount(f.dir+p, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	s := f.exchange("L1")
	if len(s.Carried) != 0 {
		t.Errorf("carried %v, want nothing", s.Carried)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(f *fixture)
		service func(f *fixture)
		want    string
	}{
		{"symlink where a mount is carried", func(f *fixture) {
			if err := os.Symlink("/src", f.dir+"/L2/dir"); err != nil {
				t.Fatal(err)
			}
		}, func(f *fixture) { f.svc.Mount("/src", "/etc/dir", "", unix.MS_BIND, "") }, `carry mount "/etc/dir": the new version has a symbolic link`},
		{"relative symlink", func(f *fixture) {
			if err := os.Symlink("base", f.dir+"/L2/secret"); err != nil {
				t.Fatal(err)
			}
		}, func(f *fixture) { f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "") }, `carry mount "/etc/secret": the new version has a symbolic link`},
		{"another type", func(f *fixture) { write(f.t, f.dir+"/L2/dir", "a file") },
			func(f *fixture) { f.svc.Mount("/src", "/etc/dir", "", unix.MS_BIND, "") }, `the new version has a file there, the mount is a directory`},
		{"mount point gone", func(f *fixture) {
			write(f.t, f.dir+"/L1/only/here", "1")
		}, func(f *fixture) {
			f.exchange("L1")
			f.svc.Mount("/src/null", "/etc/only/here", "", unix.MS_BIND, "")
		}, `carry mount "/etc/only/here": the new version has nothing to mount it on`},
		{"unbindable", nil, func(f *fixture) {
			f.svc.Mount("/src", "/etc/dir", "", unix.MS_BIND, "")
			f.svc.Mount("", "/etc/dir", "", unix.MS_UNBINDABLE, "")
		}, `carry mount "/etc/dir": it is unbindable`},
		{"a mount over our overlay", nil, func(f *fixture) {
			f.exchange("L1")
			f.svc.Mount("/src", "/etc", "", unix.MS_BIND, "")
		}, `survey "/etc": another mount covers the overlay ("extexec:1.1:test")`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, tt.prepare)
			tt.service(f)
			before := f.svc.Table("/etc")
			v, s, err := f.stage("L2")
			if err == nil {
				s.Close()
				v.Close()
				t.Fatalf("no error, want %q", tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not contain %q", err, tt.want)
			}
			if after := f.svc.Table("/etc"); strings.Join(before, "\n") != strings.Join(after, "\n") {
				t.Errorf("the refusal changed something:\n%q\n%q", before, after)
			}
		})
	}
}

// TestSourceReplaced carries a mount whose source file was replaced by rename,
// and one whose source is gone.
func TestSourceReplaced(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(t, f.dir+"/root/etc/bound", "hidden")
		write(t, f.dir+"/root/etc/gone", "hidden")
		write(t, f.dir+"/root/src/gone", "gone")
	})
	f.svc.Mount("/src/bound", "/etc/bound", "", unix.MS_BIND, "")
	f.svc.Mount("/src/gone", "/etc/gone", "", unix.MS_BIND, "")
	f.exchange("L1")
	write(t, f.dir+"/root/src/new", "replaced")
	if err := os.Rename(f.dir+"/root/src/new", f.dir+"/root/src/bound"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.dir + "/root/src/gone"); err != nil {
		t.Fatal(err)
	}
	f.want("/etc/bound=bound", "/etc/gone=gone")
	f.exchange("L2")
	f.want("/etc/bound=replaced", "/etc/gone=gone")
	f.exchange("L3")
	f.want("/etc/bound=replaced", "/etc/gone=gone", "/etc/version=3")
}

// interrupt leaves a new tree beneath the old one, as a kill between the two system
// calls does.
func (f *fixture) interrupt(layer string) {
	f.t.Helper()
	if f.limits.NoBeneath {
		f.t.Skip("the kernel has no MOVE_MOUNT_BENEATH: an exchange is one system call there, which nothing can cut")
	}
	v, s, err := f.stage(layer)
	if err != nil {
		f.t.Fatal(err)
	}
	defer v.Close()
	defer s.Close()
	f.run(func() error {
		top, err := nsmount.OpenInRoot("/etc", unix.O_PATH)
		if err != nil {
			return err
		}
		defer top.Close()
		return s.tree.AttachBeneath(top)
	})
}

// TestInterrupted goes on after an exchange that was cut off.
func TestInterrupted(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.exchange("L1")
	f.interrupt("L2")
	f.want("/etc/version=1")
	v, err := f.take("/etc")
	if err != nil {
		t.Fatal(err)
	}
	if !v.Interrupted() {
		t.Error("the view does not see that an exchange was interrupted")
	}
	v.Close()
	f.exchange("L3")
	f.want("/etc/version=3")
	if m := f.svc.Table(" /etc "); len(m) != 1 {
		t.Errorf("mounts on /etc: %q, want one", m)
	}
}

// TestInterruptedAndBack takes back what comes after an exchange that was cut off:
// the service sees what it saw, and never what was cut off.
func TestInterruptedAndBack(t *testing.T) {
	for _, c := range []struct {
		name string
		how  func(s *Staged)
		ok   bool
	}{
		{"exchanged", func(*Staged) {}, true},
		{"on top", func(s *Staged) { s.mode = onTop }, true},
		{"failed", func(s *Staged) { s.tree.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, nil)
			f.exchange("L1")
			f.interrupt("L2")
			v, s, err := f.stage("L3")
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			defer s.Close()
			c.how(s)
			if err := f.live.Do(t.Context(), s.Exchange); (err == nil) != c.ok {
				t.Errorf("exchange: %v", err)
			}
			f.run(s.ExchangeBack)
			f.want("/etc/version=1")
			f.exchange("L3")
			f.want("/etc/version=3")
		})
	}
}

// TestLimits walks the ways for kernels and hosts that lack something.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits nsmount.Limits
		onTop  bool
	}{
		{"no beneath", nsmount.Limits{NoBeneath: true}, true},
		{"no lowerdir+", nsmount.Limits{NoLowerdir: true}, false},
		{"no user namespaces", nsmount.Limits{NoUserNS: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, nil)
			has := f.limits
			f.limits = nsmount.Limits{
				NoBeneath: has.NoBeneath || tt.limits.NoBeneath, NoLowerdir: has.NoLowerdir || tt.limits.NoLowerdir, NoUserNS: tt.limits.NoUserNS,
			}
			mounts := f.stack(3)
			if tt.onTop {
				mounts = 3
			}
			f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
			f.svc.Hammer("/etc/secret", "/etc/base")
			for v := 1; v <= 3; v++ {
				f.exchange(fmt.Sprintf("L%d", v))
				f.want(fmt.Sprintf("/etc/version=%d", v), "/etc/secret=")
			}
			if m := f.svc.Table(" /etc "); len(m) != mounts {
				t.Errorf("%d mounts on /etc, want %d: %q", len(m), mounts, m)
			}
			for found := range f.svc.Tally() {
				if found != "/etc/secret=" && found != "/etc/base=base" {
					t.Errorf("the service read %s", found)
				}
			}
		})
	}
}

// TestStagedAgain stages the same layers twice, for each kind of kernel: as a reload does
// that finds other mounts before its exchange, and one for many namespaces.
func TestStagedAgain(t *testing.T) {
	for _, limits := range []nsmount.Limits{nsmount.Probe(), {NoLowerdir: true}} {
		t.Run(fmt.Sprintf("lowerdir=%v", !limits.NoLowerdir), func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, nil)
			f.limits = limits
			d, err := os.OpenFile(f.dir+"/L1", unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			tree, err := nsmount.CloneDir(d, false, nsmount.AttrReadOnly)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			for serial := range uint64(3) {
				f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
				v, err := f.take("/etc")
				if err != nil {
					t.Fatal(err)
				}
				staged, err := Stage(t.Context(), v, []Wanted{{
					Source: Source{Generation: 1, Serial: serial, Name: "test"}, Layers: []*os.File{tree.File()}, Owners: []*nsmount.Tree{tree},
				}}, false)
				if err != nil {
					t.Fatal(err)
				}
				f.run(staged[0].Exchange)
				f.want("/etc/version=1", "/etc/secret=")
				staged[0].Close()
				v.Close()
			}
		})
	}
}

// TestAttributesLeadNowhere has the attributes in a layer by which an overlay leads
// lookups to another place: none is followed, whichever way the overlay is made. An
// image may have them, since it is not walked before it is mounted.
func TestAttributesLeadNowhere(t *testing.T) {
	const moved, metacopy = "trusted.overlay.redirect", "trusted.overlay.metacopy"
	for _, way := range []nsmount.Limits{nsmount.Probe(), {NoLowerdir: true}} {
		for _, tt := range []struct {
			name  string
			path  string // of the layer, with the attributes
			attrs map[string]string
			read  string
			want  string
		}{
			{"absolute", "dir", map[string]string{moved: "/elsewhere"}, "dir/inner", "operation not permitted"},
			{"relative", "dir", map[string]string{moved: "elsewhere"}, "dir/inner", "operation not permitted"},
			{"what the layer has there", "dir", map[string]string{moved: "/elsewhere"}, "dir/own", "operation not permitted"},
			{"not there in the base", "new", map[string]string{moved: "/elsewhere"}, "new/inner", "operation not permitted"},
			{"of a user", "dir", map[string]string{"user.overlay.redirect": "/elsewhere"}, "dir/inner", "base inner"},
			{"file", "base", map[string]string{metacopy: "", moved: "/elsewhere/inner"}, "base", "operation not permitted"},
			{"data below", "base", map[string]string{metacopy: ""}, "base", "operation not permitted"},
			{"origin", "base", map[string]string{"trusted.overlay.origin": "garbage"}, "base", "own"},
		} {
			t.Run(fmt.Sprintf("%s/lowerdir=%v", tt.name, !way.NoLowerdir), func(t *testing.T) {
				f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
					if tt.path == "base" {
						write(t, f.dir+"/L1/base", "own")
					} else {
						write(t, f.dir+"/L1/"+tt.path+"/own", "own")
					}
					for name, value := range tt.attrs {
						err := unix.Setxattr(f.dir+"/L1/"+tt.path, name, []byte(value), 0)
						if errors.Is(err, unix.EOPNOTSUPP) && strings.HasPrefix(name, "user.") {
							t.Skip("a tmpfs takes attributes of users from Linux 6.6 on")
						}
						if err != nil {
							f.t.Fatal(err)
						}
					}
					write(t, f.dir+"/root/etc/elsewhere/inner", "REDIRECTED")
				})
				f.limits = way
				f.exchange("L1")
				if got := f.svc.Read("/etc/" + tt.read); !strings.HasSuffix(got, tt.want) {
					t.Errorf("the service reads %q, want %q", got, tt.want)
				}
				f.want("/etc/version=1")
			})
		}
	}
}

func TestContextEnds(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, f.ns, f.live, Options{Hierarchies: []string{"/etc"}}); err == nil {
		t.Error("a view was taken although the context had ended")
	}
}

// TestNamespaceFull fills the service's mount namespace to the kernel's limit
// (fs.mount-max): the error says so, and nothing changes.
func TestNamespaceFull(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{Propagation: unix.MS_PRIVATE}, func(f *fixture) {
		for i := range 18 {
			write(t, fmt.Sprintf("%s/root/src/fill/%d/keep", f.dir, i), "")
		}
	})
	f.exchange("L1")
	v, s, err := f.stage("L2")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	defer s.Close()
	// Each recursive bind of the directory into itself doubles what is there.
	f.svc.Mount("tmpfs", "/src/fill", "tmpfs", 0, "")
	f.svc.Fill("/src/fill")
	err = f.live.Do(t.Context(), s.Exchange)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "fs.mount-max") {
		t.Errorf("error %v, want one that names fs.mount-max", err)
	}
	f.want("/etc/version=1")
	if m := f.svc.Table(" /etc "); len(m) != 1 {
		t.Errorf("mounts on /etc: %q", m)
	}
}

// TestRehearse shows the new state in a copy of the namespace, and not to the
// service; the exchange itself goes on as usual after it.
func TestRehearse(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.rehearse = true
	f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	for v := 1; v <= 3; v++ {
		view, s, err := f.stage(fmt.Sprintf("L%d", v))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Rehearse(t.Context(), f.ns, []*Staged{s})
		if err != nil {
			t.Fatal(err)
		}
		err = r.ns.Do(t.Context(), func() error {
			for path, want := range map[string]string{"/etc/version": fmt.Sprint(v), "/etc/secret": "", "/etc/base": "base"} {
				if got, err := os.ReadFile(path); string(got) != want || err != nil {
					t.Errorf("in the rehearsal %s has %q, %v; want %q", path, got, err, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.svc.Read("/etc/version"); got == fmt.Sprint(v) {
			t.Errorf("the service sees the rehearsal: %q", got)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		f.run(s.Exchange)
		f.want(fmt.Sprintf("/etc/version=%d", v), "/etc/secret=")
		s.Close()
		view.Close()
	}
	if m := f.svc.Table(" /etc "); len(m) != f.stack(3) {
		t.Errorf("mounts on /etc: %q, want %d", m, f.stack(3))
	}
}
