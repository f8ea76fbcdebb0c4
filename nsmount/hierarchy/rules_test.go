package hierarchy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestFollowers has namespaces below the service's, as its own children make
// them: both see every exchange, with what is carried.
func TestFollowers(t *testing.T) {
	for name, flag := range map[string]uintptr{"peer": unix.MS_SHARED, "slave": unix.MS_SLAVE} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, nil)
			f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
			f.exchange("L1")
			f.svc.Follow(flag)
			for _, l := range []string{"L2", "L3", "L1"} {
				f.exchange(l)
				for path, want := range map[string]string{"/etc/version": l[1:], "/etc/secret": ""} {
					if got := f.svc.FollowerRead(path); got != want {
						t.Errorf("after %s the follower reads %q in %s, want %q", l, got, path, want)
					}
				}
			}
		})
	}
}

// TestServiceCannotUncover: the mounts of a staged tree are locked, so not even
// the service, with all capabilities, can take one off.
func TestServiceCannotUncover(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	f.exchange("L1")
	if err := f.svc.Unmount("/etc/secret"); err == nil {
		t.Error("the service could unmount a carried mount")
	}
	f.want("/etc/secret=")
}

// TestWritableSelfBind is ReadWritePaths= below a hierarchy: it keeps the base's
// content, and stays writable.
func TestWritableSelfBind(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/L2/dir/inner", "hidden by the writable one")
	})
	f.svc.Mount("/etc/dir", "/etc/dir", "", unix.MS_BIND, "")
	for _, l := range []string{"L1", "L2", "L3"} {
		f.exchange(l)
		f.want("/etc/dir/inner=base inner")
		write(t, f.dir+"/root/etc/dir/new", l)
		f.want("/etc/dir/new=" + l)
		if lines := f.svc.Table(" /etc/dir "); !strings.Contains(lines[len(lines)-1], " rw,") {
			t.Errorf("it is not writable any more: %q", lines)
		}
	}
}

// TestSourceDirectoryReplaced carries a mount whose source directory was removed
// and made again, and refuses one whose source directory is gone.
func TestSourceDirectoryReplaced(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) { write(f.t, f.dir+"/root/src/d/inner", "old") })
	f.svc.Mount("/src/d", "/etc/dir", "", unix.MS_BIND, "")
	f.exchange("L1")
	f.want("/etc/dir/inner=old")
	src := f.dir + "/root/src/"
	if err := os.RemoveAll(src + "d"); err != nil {
		t.Fatal(err)
	}
	write(t, src+"d/inner", "new")
	f.exchange("L2")
	f.want("/etc/dir/inner=new")
	if err := os.RemoveAll(src + "d"); err != nil {
		t.Fatal(err)
	}
	v, s, err := f.stage("L3")
	if err == nil {
		s.Close()
		v.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `carry mount "/etc/dir": its source directory`) {
		t.Errorf("error %v, want one that names the mount and its source", err)
	}
	f.want("/etc/version=2")
}

// systemdOverlay lays an overlay as systemd does it for a unit.
func (f *fixture) systemdOverlay(layer string) {
	f.t.Helper()
	write(f.t, f.dir+"/root/layers/keep", "")
	if err := os.Rename(f.dir+"/"+layer, f.dir+"/root/layers/"+layer); err != nil {
		f.t.Fatal(err)
	}
	f.svc.Mount("systemd-extensions", "/etc", "overlay", unix.MS_RDONLY, "lowerdir=/layers/"+layer+":/etc")
}

// TestAdopt replaces systemd's own overlay: beneath where nothing is mounted in
// it; else on top, since its mounts are not locked to it, and what they hide would
// be seen. The covered one stays, and there is only ever one.
func TestAdopt(t *testing.T) {
	t.Run("bare", func(t *testing.T) {
		f := newFixture(t, nsmounttest.Options{}, nil)
		f.systemdOverlay("L1")
		f.want("/etc/version=1")
		if s := f.exchange("L2"); s.Covered() != f.stack(2)-1 {
			t.Errorf("%d covered, want %d", s.Covered(), f.stack(2)-1)
		}
		f.want("/etc/version=2", "/etc/base=base")
		if m := f.svc.Table(" /etc "); len(m) != f.stack(2) {
			t.Errorf("mounts on /etc: %q, want %d", m, f.stack(2))
		}
	})
	t.Run("with a mount in it", func(t *testing.T) {
		f := newFixture(t, nsmounttest.Options{}, nil)
		f.systemdOverlay("L1")
		f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
		f.svc.OpenDir("old", "/etc")
		f.svc.Hammer("/etc/secret", "old:secret")
		rounds := 50
		if f.limits.NoBeneath {
			rounds = 6 // all of them stay
		}
		for i := range rounds {
			if s := f.exchange([]string{"L2", "L3"}[i%2]); s.Covered() != f.stack(i+1) {
				t.Fatalf("%d covered, want %d", s.Covered(), f.stack(i+1))
			}
		}
		f.want("/etc/version=3")
		for found, n := range f.svc.Tally() {
			if found != "/etc/secret=" && found != "old:secret=" {
				t.Errorf("%d times %s", n, found)
			}
		}
	})
}

// TestOwnUserNamespace replaces systemd's overlay in a mount namespace that belongs to
// the service's own user namespace (DelegateNamespaces=mnt), where a copy made from
// outside is locked.
func TestOwnUserNamespace(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{UserNS: true}, func(f *fixture) {
		mount(t, "tmpfs", f.dir+"/root/var", "tmpfs", 0) // of the host's, and so locked
	})
	f.systemdOverlay("L1")
	f.svc.Mount("/etc/base", "/etc/secret", "", unix.MS_BIND, "")
	f.want("/etc/version=1", "/etc/secret=base")
	for _, l := range []string{"L2", "L3", "L2"} {
		f.exchange(l)
		f.want("/etc/version="+l[1:], "/etc/secret=base", "/etc/base=base", "/etc/dir/inner=base inner")
	}
}

// TestHiddenInBase keeps a mount of the host hidden that lies below one of the
// unit's: at the first reload of an adopted unit the peeled base shows it, the
// service never has.
func TestHiddenInBase(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/root/etc/dir/sub/file", "")
		write(f.t, f.dir+"/root/src/without/own", "the unit's")
		write(f.t, f.dir+"/root/src/with/sub/own", "the unit's")
		write(f.t, f.dir+"/root/etc/with/sub/file", "")
		mount(f.t, "tmpfs", f.dir+"/root/etc/dir/sub", "tmpfs", 0)
		mount(f.t, "tmpfs", f.dir+"/root/etc/with/sub", "tmpfs", 0)
	})
	f.systemdOverlay("L1")
	f.svc.Mount("/src/without", "/etc/dir", "", unix.MS_BIND, "")
	f.svc.Mount("/src/with", "/etc/with", "", unix.MS_BIND, "")
	f.want("/etc/dir/own=the unit's", "/etc/with/sub/own=the unit's")
	f.exchange("L2")
	f.want("/etc/version=2", "/etc/dir/own=the unit's", "/etc/with/sub/own=the unit's")
	f.exchange("L3")
	f.want("/etc/version=3", "/etc/dir/own=the unit's", "/etc/with/sub/own=the unit's")
}

// TestSymlinkedHierarchy follows a link inside the service's root, and never out
// of it.
func TestSymlinkedHierarchy(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(f.t, f.dir+"/root/var/etc/base", "linked")
		for _, err := range []error{os.Rename(f.dir+"/root/etc", f.dir+"/root/oldetc"), os.Symlink("../../var/etc", f.dir+"/root/etc")} {
			if err != nil {
				f.t.Fatal(err)
			}
		}
	})
	for _, l := range []string{"L1", "L2"} {
		f.exchange(l)
		f.want("/etc/version="+l[1:], "/var/etc/version="+l[1:], "/etc/base=linked")
	}
	if m := f.svc.Table(" /var/etc "); len(m) != f.stack(2) {
		t.Errorf("mounts on /var/etc: %q, want %d", m, f.stack(2))
	}
}

// TestBadHierarchies are an error only where a layer wants them.
func TestBadHierarchies(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(etc string) error
		want string
	}{
		"missing": {func(string) error { return nil }, `hierarchy "/etc" does not exist in the service's root: create it (mkdir -m 0755 /etc)`},
		"file":    {func(etc string) error { return os.WriteFile(etc, nil, 0o644) }, `hierarchy "/etc" is not a directory`},
		"loop":    {func(etc string) error { return os.Symlink("etc", etc) }, `hierarchy "/etc" is a loop of symbolic links`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
				if err := os.RemoveAll(f.dir + "/root/etc"); err != nil {
					f.t.Fatal(err)
				}
				if err := tt.make(f.dir + "/root/etc"); err != nil {
					f.t.Fatal(err)
				}
			})
			if v, s, err := f.stage(); err != nil {
				t.Errorf("without a layer: %v", err)
			} else {
				v.Close()
				s.Close()
			}
			if _, _, err := f.stage("L1"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("with a layer: %v, want %q", err, tt.want)
			}
		})
	}
}

// TestLastLayerGoes: what is carried stays on an overlay of ours with one empty
// layer.
func TestLastLayerGoes(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.svc.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	f.exchange("L1")
	f.exchange()
	f.want("/etc/base=base", "/etc/secret=")
	if got := f.svc.Read("/etc/version"); !strings.HasPrefix(got, "error: ") {
		t.Errorf("the last layer's file is still there: %q", got)
	}
	if m := f.svc.Table("extexec:2.2:test"); len(m) != 1 {
		t.Errorf("overlays of ours: %q", m)
	}
	f.exchange("L2")
	f.want("/etc/version=2", "/etc/secret=")
}

// TestDepth refuses a base that is an overlay of overlays already, and says why.
func TestDepth(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) { write(f.t, f.dir+"/root/layers/a/a", "a") })
	f.svc.Mount("host", "/etc", "overlay", unix.MS_RDONLY, "lowerdir=/layers/a:/etc")
	f.svc.Mount("host", "/etc", "overlay", unix.MS_RDONLY, "lowerdir=/layers/a:/etc")
	v, s, err := f.stage("L1")
	if err == nil {
		v.Close()
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "the kernel stacks two at most") {
		t.Errorf("error %v, want one that explains the depth", err)
	}
}

// TestAttributesAreKept: read-only and nodev always, the rest as what was there,
// before and after an exchange, and what the unit asks for.
func TestAttributesAreKept(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, nil)
	f.svc.Mount("/etc", "/etc", "", unix.MS_BIND, "")
	f.svc.Mount("", "/etc", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NOATIME, "")
	for _, l := range []string{"L1", "L2", "L3"} {
		f.exchange(l)
		m := f.svc.Table(" /etc ")
		if want := " ro,nosuid,nodev,noatime "; !strings.Contains(m[len(m)-1], want) {
			t.Errorf("mounted as %q, want %q", m[len(m)-1], want)
		}
	}
	if m := f.svc.Table("extexec:"); len(m) > 2*f.stack(3) {
		t.Errorf("overlays of ours: %q", m)
	}
	s := &Survey{attr: nsmount.AttrNoSuid}
	if a := s.attrFor(Wanted{NoExec: true}); a != nsmount.AttrNoSuid|nsmount.AttrNoExec|nsmount.AttrReadOnly|nsmount.AttrNoDev {
		t.Errorf("NoExec=yes gives %v", a)
	}
}

// TestManyLayers stacks as many as are promised, at start and at an exchange; where
// the kernel takes one page of them, the rest is refused before anything changes.
func TestManyLayers(t *testing.T) {
	const n = 490
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		for i := range n {
			write(f.t, fmt.Sprintf("%s/many/%d/file%d", f.dir, i, i), fmt.Sprint(i))
		}
	})
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("many/%d", i))
	}
	if f.limits.NoLowerdir {
		if _, _, err := f.stage(all...); err == nil || !strings.Contains(err.Error(), "491 layers do not fit into the one page") {
			t.Errorf("%d layers: %v", n, err)
		}
		all = all[n-200:]
	}
	f.exchange(all...)
	first := n - len(all)
	f.want(fmt.Sprintf("/etc/file%d=%d", first, first), fmt.Sprintf("/etc/file%d=%d", n-1, n-1))
	f.exchange(all[1:]...)
	f.want(fmt.Sprintf("/etc/file%d=%d", first+1, first+1), "/etc/base=base")
}

func TestParseSource(t *testing.T) {
	long := strings.Repeat("n", 250)
	for _, s := range []Source{{1, 2, "web.service"}, {18446744073709551615, 0, `a\x2db@c.service`}, {3, 4, long}} {
		text := s.String()
		if len(text) > 255 {
			t.Errorf("%d bytes", len(text))
		}
		got, ok := ParseSource(text)
		if !ok || got.Generation != s.Generation || got.Serial != s.Serial || !got.Names(s.Name) && got.Name != shortName(s.Name) {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
	for _, text := range []string{"", "overlay", "extexec:", "extexec:1:x", "extexec:1.x:y", "extexec:-1.2:x", "extexec:1.2:"} {
		if s, ok := ParseSource(text); ok {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
}

// FuzzParseSource: what is read as ours and written again means the same.
func FuzzParseSource(f *testing.F) {
	for _, text := range []string{"extexec:1.2:web.service", "extexec:18446744073709551615.0:a:b", "extexec:1.2:", "extexec:x.2:y", "extexec:1:y", "overlay", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := ParseSource(text)
		if !ok {
			return
		}
		if again, ok := ParseSource(s.String()); !ok || again.Generation != s.Generation || again.Serial != s.Serial || !s.Names(s.Name) && len(s.Name) <= maxName || !again.Names(s.Name) {
			t.Errorf("%q is %+v, and written again %+v", text, s, again)
		}
	})
}
