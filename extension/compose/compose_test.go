package compose_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/compose"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/image/build"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

func TestMain(m *testing.M) { nsmounttest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// part makes a part of a directory that has a release file of its own name.
func part(t *testing.T, dir string) compose.Part {
	t.Helper()
	f := open(t, dir)
	releases, err := release.FindAll(f, filepath.Base(dir), false)
	must(t, err)
	return compose.DirectoryPart(filepath.Base(dir), f, releases)
}

// A world makes random trees.
type world struct {
	t *testing.T
	r *rand.Rand
}

func (w *world) pick(words ...string) string { return words[w.r.IntN(len(words))] }

// fill makes random files in a directory; with whiteouts and opaque directories in a layer.
func (w *world) fill(dir string, depth int, layer bool) {
	w.t.Helper()
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if w.r.IntN(3) == 0 {
			continue
		}
		path := filepath.Join(dir, name)
		kind := w.pick("file", "file", "link", "dir", "dir", "dir", "whiteout", "fifo", "hard")
		switch {
		case kind == "dir" && depth > 0:
			must(w.t, os.Mkdir(path, 0o755))
			w.fill(path, depth-1, layer)
			if layer && w.r.IntN(4) == 0 {
				must(w.t, unix.Lsetxattr(path, "trusted.overlay.opaque", []byte("y"), 0))
			}
		case kind == "link":
			must(w.t, os.Symlink(w.pick("a", "../b", "/etc/passwd", "/"), path))
		case kind == "whiteout" && layer:
			must(w.t, unix.Mknod(path, unix.S_IFCHR, 0))
			continue
		case kind == "fifo":
			must(w.t, unix.Mkfifo(path, 0o600))
		case kind == "hard" && name > "a" && w.regular(filepath.Join(dir, "a")):
			must(w.t, os.Link(filepath.Join(dir, "a"), path))
			continue
		default:
			must(w.t, os.WriteFile(path, []byte(strings.Repeat(w.pick("x", "y", ""), w.r.IntN(9000))), 0o644))
		}
		w.dress(path, kind == "link")
	}
}

func (w *world) regular(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().IsRegular()
}

func (w *world) dress(path string, link bool) {
	must(w.t, os.Lchown(path, w.r.IntN(3), w.r.IntN(3)*1000))
	if !link {
		must(w.t, unix.Chmod(path, []uint32{0o755, 0o700, 0o4755, 0o2711, 0o1777, 0o600}[w.r.IntN(6)]))
		if st, err := os.Lstat(path); err == nil && (st.IsDir() || st.Mode().IsRegular()) && w.r.IntN(2) == 0 {
			must(w.t, unix.Lsetxattr(path, "user.color", []byte(w.pick("red", "", "blue\x00")), 0))
			must(w.t, unix.Lsetxattr(path, "trusted.color", []byte("green"), 0))
		}
	}
	when := unix.NsecToTimespec(int64(1e18 + w.r.IntN(1e9)))
	must(w.t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
}

// extension makes a random extension.
func (w *world) extension(dir string, classes ...release.Class) {
	w.t.Helper()
	for _, c := range classes {
		for _, h := range compose.Hierarchies(c) {
			if h != "opt" || w.r.IntN(2) == 0 {
				must(w.t, os.MkdirAll(filepath.Join(dir, h), 0o755))
				w.fill(filepath.Join(dir, h), 4, true)
				w.dress(filepath.Join(dir, h), false)
			}
		}
		write(w.t, filepath.Join(dir, c.Dir(), "extension-release."+filepath.Base(dir)), "ID=_any\n")
	}
}

// TestComposeShowsWhatTheStackShows compares what overlayfs makes of the parts with what it makes of the one that they
// were composed to, each over the same base.
func TestComposeShowsWhatTheStackShows(t *testing.T) {
	nsmounttest.Root(t)
	for seed := range uint64(25) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 5))}
		dir := t.TempDir()
		var parts []compose.Part
		var dirs []string
		for i := range 2 + w.r.IntN(3) {
			d := filepath.Join(dir, fmt.Sprintf("part%d", i))
			classes := [][]release.Class{{release.Sysext}, {release.Confext}, release.Classes()}[w.r.IntN(3)]
			w.extension(d, classes...)
			parts, dirs = append(parts, part(t, d)), append(dirs, d)
		}
		images := seed%5 == 0 // else directories: the parts, and what they come to
		if images {
			for i, d := range dirs {
				dirs[i] = mounted(t, d, []build.Format{build.Squashfs, build.Erofs}[i%2])
				f := open(t, dirs[i])
				parts[i] = compose.DirectoryPart(parts[i].Name, f, parts[i].Releases)
			}
		}
		one := filepath.Join(dir, "one")
		must(t, os.Mkdir(one, 0o755))
		_, err := compose.Compose(t.Context(), one, "one", parts)
		must(t, err)
		if images {
			one = mounted(t, one, build.Erofs)
		}
		releases, err := compose.Check(open(t, one), "one_1.2")
		must(t, err)
		for _, r := range releases {
			for _, h := range compose.Hierarchies(r.Class) {
				var stack []string
				for i, p := range parts {
					if slices.ContainsFunc(p.Releases, func(q release.Release) bool { return q.Class == r.Class }) {
						stack = append(stack, filepath.Join(dirs[i], h))
					}
				}
				base := filepath.Join(dir, "base", h)
				must(t, os.MkdirAll(base, 0o755))
				w.fill(base, 4, false)
				want, got := overlay(t, append([]string{base}, stack...)), overlay(t, []string{base, filepath.Join(one, h)})
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("seed %d, %s of %d parts (-stack +one):\n%s", seed, h, len(stack), d)
				}
			}
		}
		must(t, os.RemoveAll(dir))
	}
}

// mounted makes an image of a directory and mounts it until the test ends.
func mounted(t *testing.T, dir string, format build.Format) string {
	t.Helper()
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "mksquashfs")
	file, at := t.TempDir()+"/image", t.TempDir()
	_, err := build.Build(t.Context(), dir, file, build.Options{Format: format, Time: time.Unix(2e9, 0)})
	must(t, err)
	if out, err := exec.Command("mount", "-o", "loop,ro", file, at).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { must(t, exec.Command("umount", at).Run()) })
	return at
}

// overlay describes what overlayfs shows of a stack, the lowest first; those that are not there are left out.
func overlay(t *testing.T, stack []string) map[string]string {
	t.Helper()
	stack = slices.DeleteFunc(slices.Clone(stack), func(d string) bool { _, err := os.Stat(d); return err != nil })
	slices.Reverse(stack)
	if len(stack) == 1 {
		stack = append(stack, t.TempDir())
	}
	at := t.TempDir()
	out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+strings.Join(stack, ":"), at).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defer func() { must(t, exec.Command("umount", at).Run()) }()
	return describe(t, at)
}

// describe says everything of each file below a directory, but of release files, which differ.
func describe(t *testing.T, top string) map[string]string {
	t.Helper()
	all := map[string]string{}
	links := map[uint64]string{}
	must(t, filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil || strings.Contains(rel, "extension-release.d") || rel == "." {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(path, &st)
		if errors.Is(err, unix.ENOENT) {
			// A whiteout in a directory that one layer alone has: overlayfs lists it (ovl_iterate_real).
			return nil
		}
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			text += fmt.Sprintf(" %d %x %d.%d", st.Size, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec)
		} else if rel != "lib" {
			text += fmt.Sprintf(" %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		} else {
			all[rel] = "the directory with the release files"
			return nil
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(b)
			if first, ok := links[st.Ino]; ok {
				text += " link to " + first
			} else {
				links[st.Ino] = rel
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + target
		}
		all[rel] = text + attributes(t, path)
		return nil
	}))
	return all
}

func attributes(t *testing.T, path string) string {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	must(t, err)
	values := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		must(t, err)
		values[name] = string(value[:n])
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&text, " %s=%q", name, values[name])
	}
	return text.String()
}

func TestConflicts(t *testing.T) {
	nsmounttest.Root(t)
	dir := t.TempDir()
	for _, p := range []string{"a", "b", "c"} {
		write(t, filepath.Join(dir, p, "etc/extension-release.d/extension-release."+p), "ID=_any\n")
		write(t, filepath.Join(dir, p, "etc/only-"+p), p)
	}
	write(t, dir+"/a/etc/both", "a")
	write(t, dir+"/b/etc/both", "b")
	write(t, dir+"/a/etc/gone/x", "a")
	must(t, unix.Mknod(dir+"/c/etc/gone", unix.S_IFCHR, 0))
	write(t, dir+"/a/etc/dir/x", "a")
	write(t, dir+"/b/etc/dir/y", "b")
	must(t, unix.Lsetxattr(dir+"/b/etc/dir", "trusted.overlay.opaque", []byte("y"), 0))
	one := t.TempDir()
	c, err := compose.Compose(t.Context(), one, "one", []compose.Part{part(t, dir+"/a"), part(t, dir+"/b"), part(t, dir+"/c")})
	must(t, err)
	want := []compose.Conflict{
		{Path: "/etc/both", By: "b", Hidden: []string{"a"}},
		{Path: "/etc/dir", By: "b", Hidden: []string{"a"}},
		{Path: "/etc/gone", By: "c", Hidden: []string{"a"}},
	}
	if d := cmp.Diff(want, c.Conflicts); d != "" {
		t.Error(d)
	}
	if b, err := os.ReadFile(one + "/etc/extension-release.d/extension-release.one"); err != nil || string(b) != "ID=_any\n" {
		t.Errorf("%q, %v", b, err)
	}
	if entries, err := os.ReadDir(one + "/etc/extension-release.d"); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if c.Newest.IsZero() || time.Since(c.Newest) > time.Hour {
		t.Errorf("newest: %v", c.Newest)
	}
}

func TestComposeRefuses(t *testing.T) {
	nsmounttest.Root(t)
	dir := t.TempDir()
	make := func(name, release string) string {
		d := filepath.Join(dir, name)
		write(t, d+"/usr/lib/extension-release.d/extension-release."+name, release)
		return d
	}
	debian, ubuntu, redirect := make("debian", "ID=debian\n"), make("ubuntu", "ID=ubuntu\n"), make("redirect", "ID=debian\n")
	must(t, os.Mkdir(redirect+"/usr/x", 0o755))
	must(t, unix.Lsetxattr(redirect+"/usr/x", "trusted.overlay.redirect", []byte("y"), 0))
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{[]string{debian, ubuntu}, `"debian" has ID="debian" and "ubuntu" has ID="ubuntu"`},
		{[]string{debian, redirect}, `"x": it has the attribute trusted.overlay.redirect`},
		{nil, "there is no extension"},
	} {
		var parts []compose.Part
		for _, p := range c.parts {
			parts = append(parts, part(t, p))
		}
		if _, err := compose.Compose(t.Context(), t.TempDir(), "one", parts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.parts, err)
		}
	}
}

// A link where the release file goes leads nowhere out of what is written.
func TestReleaseFileStaysInside(t *testing.T) {
	nsmounttest.Root(t)
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(dir+"/a/usr", 0o755))
	must(t, os.Symlink(outside, dir+"/a/usr/lib"))
	p := compose.DirectoryPart("a", open(t, dir+"/a"), []release.Release{{Class: release.Sysext, Fields: map[string]string{"ID": "_any"}}})
	if _, err := compose.Compose(t.Context(), t.TempDir(), "one", []compose.Part{p}); err == nil {
		t.Error("it was written through the link")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestCheck(t *testing.T) {
	file := "usr/lib/extension-release.d/extension-release.web"
	for _, c := range []struct {
		name  string
		files map[string]string
		as    string
		only  []release.Class
		want  string
	}{
		{"fine", map[string]string{file: "ID=_any\n", "opt/x": ""}, "web_1", nil, ""},
		{"no release file", map[string]string{"usr/x": ""}, "web", nil, "no release file"},
		{"other name", map[string]string{file: "ID=_any\n"}, "other", nil, "has another name"},
		{"no ID", map[string]string{file: "VERSION_ID=1\n"}, "web", nil, "no ID="},
		{"architecture", map[string]string{file: "ID=_any\nARCHITECTURE=amd64\n"}, "web", nil, `"amd64" is no architecture`},
		{"more", map[string]string{file: "ID=_any\n", "etc/x": ""}, "web", nil, `it has "etc", and a sysext carries only /usr and /opt`},
		{"file", map[string]string{file: "ID=_any\n", "opt": ""}, "web", nil, `its "opt" is no directory`},
		{"os-release", map[string]string{file: "ID=_any\n", "usr/lib/os-release": ""}, "web", nil, "hide that of the system"},
		{"class", map[string]string{file: "ID=_any\n"}, "web", []release.Class{release.Confext}, "no release file of a confext"},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			write(t, filepath.Join(dir, name), text)
		}
		_, err := compose.Check(open(t, dir), c.as, c.only...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := compose.Check(open(t, t.TempDir()), "web"); !errors.Is(err, release.ErrNoFile) {
		t.Errorf("empty: %v", err)
	}
}
