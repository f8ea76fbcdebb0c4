package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const sysextFile = "usr/lib/extension-release.d/extension-release."

// tree makes the files of a map; " -> target" as content makes a symbolic link.
func tree(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	top := t.TempDir()
	for name, content := range files {
		path := filepath.Join(top, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, " -> "); ok {
			must(t, os.Symlink(target, path))
		} else {
			must(t, os.WriteFile(path, []byte(content), 0o600))
		}
	}
	return openTop(t, top)
}

func openTop(t *testing.T, top string) *os.File {
	t.Helper()
	fd, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), top)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setStrict(t *testing.T, root *os.File, path, value string) {
	t.Helper()
	must(t, unix.Setxattr(filepath.Join(root.Name(), path), strictXattr, []byte(value), 0))
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name      string
		class     Class
		extension string
		relax     bool
		files     map[string]string
		strict    map[string]string // files that get the attribute
		wantFile  string            // "": none
		wantText  string            // in the error
	}{
		{"exact", Sysext, "foo", false, map[string]string{sysextFile + "foo": "ID=a"}, nil, "foo", ""},
		{"exact with version", Sysext, "foo_1.2", false, map[string]string{sysextFile + "foo_1.2": "ID=a", sysextFile + "foo": "ID=b"}, nil, "foo_1.2", ""},
		{"exact needs no attribute", Sysext, "foo", false, map[string]string{sysextFile + "foo": "ID=a"}, map[string]string{sysextFile + "foo": "true"}, "foo", ""},
		{"base name", Sysext, "foo_1.2_x86-64+3", false, map[string]string{sysextFile + "foo": "ID=a"}, nil, "foo", ""},
		{"base name of a real underscore", Sysext, "my_app", false, map[string]string{sysextFile + "my": "ID=a"}, nil, "my", ""},
		{"other name", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, nil, "",
			`no release file /usr/lib/extension-release.d/extension-release.foo; "/usr/lib/extension-release.d/extension-release.bar" has another name`},
		{"other name, relaxed", Sysext, "foo", true, map[string]string{sysextFile + "bar": "ID=a"}, nil, "bar", ""},
		{"other name, not strict", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, map[string]string{sysextFile + "bar": "false"}, "bar", ""},
		{"other name, 0", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, map[string]string{sysextFile + "bar": "0"}, "bar", ""},
		{"other name, Off", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, map[string]string{sysextFile + "bar": "Off"}, "bar", ""},
		{"other name, strict", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, map[string]string{sysextFile + "bar": "1"}, "", "has another name"},
		{"other name, nonsense", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, map[string]string{sysextFile + "bar": "maybe"}, "", "has another name"},
		{"other name, long nonsense", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a"}, map[string]string{sysextFile + "bar": strings.Repeat("f", 99)}, "", "has another name"},
		{"a loop of links", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> extension-release.foo"}, nil, "",
			"extension-release.foo: too many levels of symbolic links: a link leads back to itself: put the release file itself there"},
		{"two, relaxed", Sysext, "foo", true, map[string]string{sysextFile + "bar": "ID=a", sysextFile + "baz": "ID=a"}, nil, "", "two release files"},
		{"two, not strict", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a", sysextFile + "baz": "ID=a"},
			map[string]string{sysextFile + "bar": "no", sysextFile + "baz": "no"}, "", "two release files"},
		{"base name and not strict", Sysext, "foo_1", false, map[string]string{sysextFile + "foo": "ID=a", sysextFile + "baz": "ID=a"},
			map[string]string{sysextFile + "baz": "no"}, "", `remove one, or name one of them "extension-release.foo_1"`},
		{"two, one strict", Sysext, "foo", false, map[string]string{sysextFile + "bar": "ID=a", sysextFile + "baz": "ID=a"},
			map[string]string{sysextFile + "bar": "no"}, "bar", ""},
		{"two, one exact", Sysext, "foo", true, map[string]string{sysextFile + "foo": "ID=a", sysextFile + "baz": "ID=a"}, nil, "foo", ""},
		{"not the other class", Confext, "foo", true, map[string]string{sysextFile + "foo": "ID=a"}, nil, "", "no release file /etc/extension-release.d/extension-release.foo"},
		{"nothing", Sysext, "foo", true, nil, nil, "", "no release file"},
		{"confext", Confext, "foo_1", false, map[string]string{"etc/extension-release.d/extension-release.foo_1": "ID=a"}, nil, "foo_1", ""},
		{"bad name", Sysext, "a/b", true, map[string]string{sysextFile + "foo": "ID=a"}, nil, "", "cannot be the name of an extension"},
		{"temporary file is none", Sysext, "foo", true, map[string]string{sysextFile + ".#foo": "ID=a"}, nil, "", "no release file"},

		{"link inside", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> ../../share/rel", "usr/share/rel": "ID=a"}, nil, "foo", ""},
		{"absolute link inside", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> /usr/share/rel", "usr/share/rel": "ID=a"}, nil, "foo", ""},
		{"directory is a link inside", Sysext, "foo", false, map[string]string{"usr/lib": " -> /lib", "lib/extension-release.d/extension-release.foo": "ID=a"}, nil, "foo", ""},
		{"link is scanned over", Sysext, "foo", true, map[string]string{sysextFile + "bar": " -> ../../share/rel", "usr/share/rel": "ID=a"}, nil, "", "it is a symbolic link"},
		{"link out of the tree", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> /etc/passwd"}, nil, "",
			`is a symbolic link to "/etc/passwd", which is not in the extension`},
		{"link up and out of the tree", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> ../../../../../../../../../../etc/passwd"}, nil, "", "which is not in the extension"},
		{"directory is a link out of the tree", Sysext, "foo", false, map[string]string{"usr/lib": " -> /lib"}, nil, "", "no release file"},
		{"link to itself", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> extension-release.foo"}, nil, "", "too many levels of symbolic links"},
		{"magic link", Sysext, "foo", false, map[string]string{sysextFile + "foo": " -> /proc/self/fd/0"}, nil, "", "not in the extension"},
		{"directory", Sysext, "foo", false, map[string]string{sysextFile + "foo/x": "ID=a"}, nil, "", "it is a directory, and must be a regular file"},
		{"not a directory", Sysext, "foo", false, map[string]string{"usr/lib/extension-release.d": "ID=a"}, nil, "", "not a directory"},
		{"bad text", Sysext, "foo", false, map[string]string{sysextFile + "foo": "ID=\x00"}, nil, "", "a NUL byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree(t, c.files)
			for path, value := range c.strict {
				setStrict(t, root, path, value)
			}
			r, err := Find(root, c.class, c.extension, c.relax)
			if c.wantFile != "" {
				must(t, err)
				if want := c.class.Dir() + "/extension-release." + c.wantFile; r.File != want || r.Class != c.class || r.Fields["ID"] != "a" {
					t.Errorf("Find gives %+v, want %q with ID=a", r, want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.wantText) {
				t.Errorf("Find gives %+v, %v; want an error with %q", r, err, c.wantText)
			}
			if none := strings.Contains(c.wantText, "no release file") || strings.Contains(c.wantText, "another name"); none && !errors.Is(err, ErrNoFile) {
				t.Errorf("%v is not ErrNoFile", err)
			}
		})
	}
}

func TestFindAll(t *testing.T) {
	const confextFile = "etc/extension-release.d/extension-release."
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []Class
		text  string
	}{
		{"sysext", map[string]string{sysextFile + "foo": "ID=a"}, []Class{Sysext}, ""},
		{"confext", map[string]string{confextFile + "foo_1": "ID=a"}, []Class{Confext}, ""},
		{"both", map[string]string{sysextFile + "foo": "ID=a", confextFile + "foo_1": "ID=a"}, []Class{Sysext, Confext}, ""},
		{"one of them bad", map[string]string{sysextFile + "foo": "ID=a", confextFile + "foo_1/x": "ID=a"}, nil, "it is a directory"},
		{"none", map[string]string{sysextFile + "bar": "", confextFile + "baz": ""}, nil,
			`"foo_1" has no release file; "/usr/lib/extension-release.d/extension-release.bar" has another name; ` +
				`"/etc/extension-release.d/extension-release.baz" has another name: it needs ` +
				`/usr/lib/extension-release.d/extension-release.foo_1 (a sysext) or /etc/extension-release.d/extension-release.foo_1 (a confext)`},
	} {
		found, err := FindAll(tree(t, c.files), "foo_1", false)
		var got []Class
		for _, r := range found {
			got = append(got, r.Class)
		}
		if !slices.Equal(got, c.want) || (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, %v; want %v, %q", c.name, got, err, c.want, c.text)
		}
	}
}

// TestFindIsNotHeldUp shows that what is no regular file is refused, at once and
// without being opened, under the exact name and when it is scanned over.
func TestFindIsNotHeldUp(t *testing.T) {
	root := tree(t, map[string]string{sysextFile + "big": "", sysextFile + "huge": ""})
	at := func(name string) string { return filepath.Join(root.Name(), sysextFile+name) }
	must(t, unix.Mkfifo(at("fifo"), 0o666))
	must(t, os.Truncate(at("big"), 1<<30))
	must(t, os.Truncate(at("huge"), MaxSize+1))
	wants := map[string]string{
		"fifo": "it is a fifo, and must be a regular file", "big": "it has 1073741824 bytes", "huge": "it has 1048577 bytes",
	}
	if needRoot(t, "to make a device") {
		must(t, unix.Mknod(at("device"), unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0)))) // /dev/tty
		wants["device"] = "it is a device"
	}
	start := time.Now()
	for name, want := range wants {
		if _, err := Find(root, Sysext, name, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := Find(root, Sysext, "other", true); !errors.Is(err, ErrNoFile) {
		t.Errorf("scan: %v, want ErrNoFile", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// needRoot says whether the rest can run. Where the rig is required, root is.
func needRoot(t *testing.T, why string) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatalf("needs root %s", why)
	}
	t.Logf("not all of this test runs: it needs root %s", why)
	return false
}

func TestFindBoundsTheDirectory(t *testing.T) {
	files := map[string]string{}
	for i := range maxEntries + 1 {
		files[fmt.Sprintf("usr/lib/extension-release.d/%d", i)] = ""
	}
	if _, err := Find(tree(t, files), Sysext, "foo", true); err == nil || !strings.Contains(err.Error(), "more than 4096 entries") {
		t.Errorf("Find gives %v", err)
	}
}

func TestReadOS(t *testing.T) {
	for _, c := range []struct {
		name     string
		files    map[string]string
		wantFile string
		wantID   string
	}{
		{"etc first", map[string]string{"etc/os-release": "ID=a", "usr/lib/os-release": "ID=b"}, "/etc/os-release", "a"},
		{"usr alone", map[string]string{"usr/lib/os-release": "ID=b"}, "/usr/lib/os-release", "b"},
		{"as Debian has it", map[string]string{"etc/os-release": " -> ../usr/lib/os-release", "usr/lib/os-release": "ID=b"}, "/etc/os-release", "b"},
		{"link that leads nowhere", map[string]string{"etc/os-release": " -> /nowhere", "usr/lib/os-release": "ID=b"}, "/usr/lib/os-release", "b"},
	} {
		got, err := ReadOS(tree(t, c.files))
		if err != nil || got.File != c.wantFile || got.Fields["ID"] != c.wantID {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	if _, err := ReadOS(tree(t, nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadOS(tree(t, map[string]string{"etc/os-release/x": ""})); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
}
