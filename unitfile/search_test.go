package unitfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// root makes a file system: a value "-> X" is a symlink to X.
// unreadable is a disk that fails.
type unreadable struct{ fstest.MapFS }

func (unreadable) Lstat(name string) (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: syscall.EIO}
}

func root(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		f := &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			f = &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
		}
		m[strings.TrimPrefix(name, "/")] = f
	}
	return m
}

// desc is the values of Description= in the order in which they apply.
func desc(u *Unit) []string {
	var list []string
	for _, a := range u.All("U", "D") {
		list = append(list, a.Value)
	}
	return list
}

func text(d string) string { return "[U]\nD=" + d + "\n" }

const (
	etc = "/etc/systemd/system/"
	run = "/run/systemd/system/"
	usr = "/usr/lib/systemd/system/"
)

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		unit  string
		is    string // the unit's name
		names string
		from  string // fragment
		want  []string
	}{
		{"highest priority", map[string]string{etc + "a.service": text("etc"), usr + "a.service": text("usr")}, "a.service", "a.service", "a.service", etc + "a.service", []string{"etc"}},
		{"control over etc", map[string]string{etc + "a.service": text("etc"), "/run/systemd/system.control/a.service": text("control")}, "a.service", "a.service", "a.service", "/run/systemd/system.control/a.service", []string{"control"}},
		{"lib is usr/lib", map[string]string{"/lib": "-> usr/lib", usr + "a.service": text("1"), usr + "a.service.d/x.conf": text("2")}, "a.service", "a.service", "a.service", usr + "a.service", []string{"1", "2"}},
		{"template", map[string]string{usr + "a@.service": text("t")}, "a@x.service", "a@x.service", "a@x.service", usr + "a@.service", []string{"t"}},
		{"instance before template", map[string]string{usr + "a@.service": text("t"), usr + "a@x.service": text("i")}, "a@x.service", "a@x.service", "a@x.service", usr + "a@x.service", []string{"i"}},
		{"relative alias", map[string]string{usr + "a.service": text("a"), etc + "b.service": "-> ../../../usr/lib/systemd/system/a.service", etc + "b.service.d/1.conf": text("b1"), etc + "a.service.d/2.conf": text("a2")}, "b.service", "a.service", "a.service b.service", usr + "a.service", []string{"a", "b1", "a2"}},
		{"asked by the main name", map[string]string{usr + "a.service": text("a"), etc + "b.service": "-> /usr/lib/systemd/system/a.service", etc + "b.service.d/1.conf": text("b1")}, "a.service", "a.service", "a.service b.service", usr + "a.service", []string{"a", "b1"}},
		{"alias of an alias", map[string]string{usr + "a.service": text("a"), usr + "b.service": "-> a.service", etc + "c.service": "-> /usr/lib/systemd/system/b.service"}, "c.service", "a.service", "a.service c.service b.service", usr + "a.service", []string{"a"}},
		{"alias of a unit that etc overrides", map[string]string{usr + "a.service": text("usr"), etc + "a.service": text("etc"), usr + "b.service": "-> a.service"}, "b.service", "a.service", "a.service b.service", etc + "a.service", []string{"etc"}},
		{"link to its own name", map[string]string{usr + "a.service": text("a"), etc + "a.service": "-> /usr/lib/systemd/system/a.service"}, "a.service", "a.service", "a.service", usr + "a.service", []string{"a"}},
		{"linked unit", map[string]string{"/srv/x/real.service": text("x"), etc + "a.service": "-> /srv/x/real.service"}, "a.service", "a.service", "a.service", etc + "a.service", []string{"x"}},
		{"template alias", map[string]string{usr + "a@.service": text("t"), usr + "b@.service": "-> a@.service", etc + "b@x.service.d/1.conf": text("b")}, "b@x.service", "a@x.service", "a@x.service b@x.service", usr + "a@.service", []string{"t", "b"}},
		{"instance alias of a template", map[string]string{usr + "a@.service": text("t"), etc + "b@x.service": "-> /usr/lib/systemd/system/a@.service"}, "b@x.service", "a@x.service", "a@x.service b@x.service", usr + "a@.service", []string{"t"}},
		{"drop-ins by name and directory", map[string]string{
			usr + "a.service": text("a"), usr + "a.service.d/10.conf": text("usr10"), usr + "a.service.d/30.conf": text("usr30"),
			run + "a.service.d/20.conf": text("run20"), run + "a.service.d/30.conf": text("run30"),
			etc + "a.service.d/05.conf": text("etc05"), etc + "a.service.d/.x.conf": text("hidden"), etc + "a.service.d/x.txt": text("txt"),
		}, "a.service", "a.service", "a.service", usr + "a.service", []string{"a", "etc05", "usr10", "run20", "run30"}},
		{"masked drop-ins", map[string]string{
			usr + "a.service": text("a"), usr + "a.service.d/10.conf": text("10"), usr + "a.service.d/20.conf": text("20"), usr + "a.service.d/30.conf": text("30"),
			etc + "a.service.d/10.conf": "-> /dev/null", etc + "a.service.d/20.conf": "",
		}, "a.service", "a.service", "a.service", usr + "a.service", []string{"a", "30"}},
		{"dangling drop-in hides nothing", map[string]string{
			usr + "a.service": text("a"), usr + "a.service.d/10.conf": text("10"), etc + "a.service.d/10.conf": "-> /nowhere",
		}, "a.service", "a.service", "a.service", usr + "a.service", []string{"a", "10"}},
		{"linked drop-in and directory", map[string]string{
			usr + "a.service": text("a"), "/srv/d/10.conf": text("10"), etc + "a.service.d": "-> /srv/d", "/srv/20": text("20"), run + "a.service.d/20.conf": "-> ../../../../srv/20",
		}, "a.service", "a.service", "a.service", usr + "a.service", []string{"a", "10", "20"}},
		{"specific before general", map[string]string{
			usr + "foo-bar@.service": text("f"),
			etc + "service.d/s.conf": text("type"), etc + "foo-.service.d/s.conf": text("prefix"), etc + "foo-bar@.service.d/s.conf": text("template"), etc + "foo-bar@x.service.d/s.conf": text("own"),
			etc + "service.d/1.conf": text("type1"), etc + "foo-.service.d/2.conf": text("prefix2"), etc + "foo-bar@.service.d/3.conf": text("template3"),
		}, "foo-bar@x.service", "foo-bar@x.service", "foo-bar@x.service", usr + "foo-bar@.service", []string{"f", "type1", "prefix2", "template3", "own"}},
		{"directory before specificity, type last", map[string]string{
			usr + "foo-bar.service":       text("f"),
			etc + "foo-.service.d/s.conf": text("etc prefix"), run + "foo-bar.service.d/s.conf": text("run own"),
			etc + "service.d/t.conf": text("etc type"), run + "foo-bar.service.d/t.conf": text("run own t"),
		}, "foo-bar.service", "foo-bar.service", "foo-bar.service", usr + "foo-bar.service", []string{"f", "etc prefix", "run own t"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := Load(root(c.files), c.unit, SystemPath())
			if err != nil {
				t.Fatal(err)
			}
			if u.Name.String() != c.is || u.Fragment != c.from || strings.Join(u.Names, " ") != c.names {
				t.Errorf("is %s (%v) from %s; want %s (%s) from %s", u.Name, u.Names, u.Fragment, c.is, c.names, c.from)
			}
			if d := cmp.Diff(c.want, desc(u)); d != "" {
				t.Errorf("order (-want +got):\n%s", d)
			}
			if u.Requested != c.unit || len(u.DropIns) != len(c.want)-1 {
				t.Errorf("requested %s, drop-ins %v", u.Requested, u.DropIns)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	loop := map[string]string{etc + "a.service": "-> b.service", etc + "b.service": "-> a.service"}
	for _, c := range []struct {
		name  string
		files map[string]string
		unit  string
		want  string
	}{
		{"not there", nil, "a.service", `unit "a.service" not found in systemd's search path`},
		{"only a drop-in", map[string]string{etc + "a.service.d/1.conf": text("1")}, "a.service", "not found"},
		{"instance without template", map[string]string{etc + "a.service": text("1")}, "a@x.service", `unit "a@x.service" not found`},
		{"alias of nothing", map[string]string{etc + "a.service": "-> b.service"}, "a.service", `it is an alias of "b.service", which is not there`},
		{"alias loop", loop, "a.service", "aliases in a row, or a loop"},
		{"masked by link", map[string]string{etc + "a.service": "-> /dev/null", usr + "a.service": text("1")}, "a.service", `unit "a.service" is masked by /etc/systemd/system/a.service`},
		{"masked by relative link", map[string]string{etc + "a.service": "-> ../../../dev/null"}, "a.service", "is masked"},
		{"masked by empty file", map[string]string{etc + "a.service": "", usr + "a.service": text("1")}, "a.service", "is masked"},
		{"masked template", map[string]string{etc + "a@.service": "-> /dev/null"}, "a@x.service", "is masked"},
		{"alias of masked", map[string]string{etc + "b.service": "-> a.service", etc + "a.service": "-> /dev/null"}, "b.service", "is masked"},
		{"alias of another type", map[string]string{etc + "a.service": "-> a.socket", etc + "a.socket": text("1")}, "a.service", "not found"},
		{"dangling linked unit", map[string]string{etc + "a.service": "-> /srv/gone.service"}, "a.service", `read unit file "/etc/systemd/system/a.service": `},
		{"template", map[string]string{etc + "a@.service": text("1")}, "a@.service", "is a template: name an instance"},
		{"directory", map[string]string{etc + "a.service/x": ""}, "a.service", "not found"},
		{"bad fragment", map[string]string{etc + "a.service": "[U"}, "a.service", "/etc/systemd/system/a.service:1: invalid section header"},
		{"bad drop-in", map[string]string{etc + "a.service": text("1"), etc + "a.service.d/1.conf": "\n[U"}, "a.service", "a.service.d/1.conf:2: invalid section header"},
		{"no name", nil, "a", "has no type"},
	} {
		u, err := Load(root(c.files), c.unit, SystemPath())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want %q", c.name, u, err, c.want)
		}
	}
	_, err := Load(root(nil), "a.service", SystemPath())
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, new(*NotFoundError)) {
		t.Errorf("%v is no NotFoundError and fs.ErrNotExist", err)
	}
	if _, err := Load(unreadable{root(nil)}, "a.service", SystemPath()); err == nil || !strings.Contains(err.Error(), "/etc/systemd/system.control: ") || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("%v does not say what could not be read", err)
	}
	_, err = Load(root(map[string]string{etc + "a.service": ""}), "a.service", SystemPath())
	var masked *MaskedError
	if !errors.As(err, &masked) || masked.Unit != "a.service" || masked.Path != etc+"a.service" {
		t.Errorf("%v is no MaskedError", err)
	}
}

// A symlink of another root stays in that root, also where the fs.FS would
// follow it out (os.DirFS) or refuse it (os.Root).
func TestLoadRealFileSystem(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(usr+"a.service", text("a"))
	write(etc+"a.service.d/x", "")
	write("/srv/10.conf", text("10"))
	link("/srv/10.conf", etc+"a.service.d/10.conf")
	link("/dev/null", etc+"m.service")
	link("/srv/../../../../srv/10.conf", etc+"a.service.d/20.conf")
	link("loop.conf", etc+"a.service.d/loop.conf")
	if err := syscall.Mkfifo(filepath.Join(dir, etc, "a.service.d/fifo.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, etc, "f.service"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, fsys := range map[string]fs.FS{"DirFS": os.DirFS(dir), "Root": r.FS()} {
		u, err := Load(fsys, "a.service", SystemPath())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff([]string{"a", "10", "10"}, desc(u)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if len(u.Warnings) != 2 {
			t.Errorf("%s: warnings %v, want the fifo and the loop", name, u.Warnings)
		}
		if _, err := Load(fsys, "m.service", SystemPath()); !errors.As(err, new(*MaskedError)) {
			t.Errorf("%s: masked: %v", name, err)
		}
		if _, err := Load(fsys, "f.service", SystemPath()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: fifo: %v", name, err)
		}
	}
}

func TestLoadFile(t *testing.T) {
	fsys := root(map[string]string{
		"/srv/a.service": text("a"), "/srv/a.service.d/1.conf": text("1"), "/srv/t@.service": text("t"), "/srv/t@x.service.d/1.conf": text("tx"),
		"/srv/link.service": "-> a.service", "/srv/null.service": "-> /dev/null", etc + "a.service.d/2.conf": text("etc"), "/srv/a.txt": text("x"),
	})
	for file, want := range map[string][]string{
		"/srv/a.service": {"a", "1"}, "/srv//./a.service": {"a", "1"}, "/srv/t@x.service": {"t", "tx"}, "/srv/t@.service": {"t"}, "/srv/link.service": {"a"},
	} {
		u, err := LoadFile(fsys, file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		} else if d := cmp.Diff(want, desc(u)); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
	for file, want := range map[string]string{
		"srv/a.service": "not absolute", "/srv/no.service": `unit file "/srv/no.service" not found`, "/srv/null.service": "is masked", "/srv/a.txt": "is no unit type",
	} {
		if _, err := LoadFile(fsys, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestMergedView(t *testing.T) {
	f, err := Parse("u", []byte("[S]\na=1\na=2\na=\na=3\na=4\n[T]\na=5\n[S]\nb=1\nb=\n"))
	if err != nil {
		t.Fatal(err)
	}
	u := &Unit{Assignments: f.Assignments}
	if as := u.List("S", "a"); len(as) != 2 || as[0].Value != "3" || as[1].Line != 6 {
		t.Errorf("list %v", as)
	}
	if as := u.List("S", "b"); len(as) != 0 {
		t.Errorf("list after a reset: %v", as)
	}
	if a, ok := u.Last("S", "b"); !ok || a.Value != "" {
		t.Errorf("last %v %v", a, ok)
	}
	if _, ok := u.Last("S", "c"); ok {
		t.Error("last of nothing")
	}
}

func TestDropInDirs(t *testing.T) {
	for in, want := range map[string]string{
		"foo.service":         "foo.service.d",
		"foo-bar-baz.service": "foo-bar-baz.service.d foo-bar-.service.d foo-.service.d",
		"foo-bar@x.service":   "foo-bar@x.service.d foo-bar@.service.d foo-.service.d foo-@x.service.d foo-@.service.d",
		"-foo.service":        "-foo.service.d",
		"foo--bar.service":    "foo--bar.service.d foo--.service.d foo-.service.d",
		"foo-.service":        "foo-.service.d",
	} {
		n, err := ParseName(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(dropInDirs(n), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
