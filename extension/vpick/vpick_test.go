package vpick

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// populate makes a tree: a name with a slash at its end is a directory, one with
// " -> " a symbolic link, one that starts with "|" a fifo.
func populate(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		target := ""
		if at := strings.Index(name, " -> "); at >= 0 {
			name, target = name[:at], name[at+4:]
		}
		fifo := strings.HasPrefix(name, "|")
		path := filepath.Join(root, strings.TrimPrefix(name, "|"))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case target != "":
			must(t, os.Symlink(strings.ReplaceAll(target, "ROOT", root), path))
		case fifo:
			must(t, syscall.Mkfifo(path, 0o600))
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		default:
			must(t, os.WriteFile(path, nil, 0o600))
		}
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var fooV = []string{
	"foo.v/foo_5.5.raw", "foo.v/foo_55.raw", "foo.v/foo_5.raw", "foo.v/foo_5_ia64.raw", "foo.v/foo_7.raw",
	"foo.v/foo_7_x86-64.raw", "foo.v/foo_55_x86-64.raw", "foo.v/foo_55_x86.raw", "foo.v/foo_99_x86.raw",
	"foo.v/foo_100_sparc.raw", "foo.v/quux_1_s390.raw", "foo.v/quux_2_s390+4-6.raw", "foo.v/quux_3_s390+0-10.raw",
}

func without(names []string, gone string) []string {
	var rest []string
	for _, n := range names {
		if n != gone {
			rest = append(rest, n)
		}
	}
	return rest
}

// TestPickVectors has systemd's own vectors (test-vpick.c), with the host's
// architecture as a column.
func TestPickVectors(t *testing.T) {
	less := without(fooV, "foo.v/foo_99_x86.raw")
	anyV := []string{
		"test.v/test_1.raw", "test.v/test_2.raw", "test.v/test_3.raw", "test.v/test_4/", "test.v/test_5/",
		"test.v/test_10.txt", "test.v/test_11.img", "test.v/test_12",
	}
	noDirs := without(without(anyV, "test.v/test_4/"), "test.v/test_5/")
	noRaws := []string{"test.v/test_10.txt", "test.v/test_11.img", "test.v/test_12"}
	resolveV := []string{
		"target_dir/", "target_file.raw", "intermediate_link.raw -> target_file.raw", "resolve.v/resolve_1 -> ../target_dir",
		"resolve.v/resolve_2.raw -> ../target_file.raw", "resolve.v/resolve_3.raw -> ../intermediate_link.raw",
	}
	only := func(gone ...string) []string {
		rest := resolveV
		for _, g := range gone {
			rest = without(rest, g)
		}
		return rest
	}
	raw, dirs := []Filter{Raw()}, []Filter{Dir()}
	for _, c := range []struct {
		name    string
		tree    []string
		path    string
		native  string
		filters []Filter
		resolve bool
		want    Candidate // Path, Version, Arch, tries; Path empty: no match
	}{
		{"newest on x86-64", fooV, "foo.v", "x86-64", raw, false, pickd("foo.v/foo_99_x86.raw", "99", "x86")},
		{"newest on x86", fooV, "foo.v", "x86", raw, false, pickd("foo.v/foo_99_x86.raw", "99", "x86")},
		{"slash at the end", fooV, "foo.v/", "x86", raw, false, pickd("foo.v/foo_99_x86.raw", "99", "x86")},
		{"arch x86-64", fooV, "foo.v", "arm64", filter("", "", "x86-64", Regular), false, pickd("foo.v/foo_55_x86-64.raw", "55", "x86-64")},
		{"arch ia64", fooV, "foo.v", "x86-64", filter("", "", "ia64", Regular), false, pickd("foo.v/foo_5_ia64.raw", "5", "ia64")},
		{"version 5", fooV, "foo.v", "x86-64", filter("", "5", "", Regular), false, pickd("foo.v/foo_5.raw", "5", "")},
		{"version 5 on ia64", fooV, "foo.v", "ia64", filter("", "5", "", Regular), false, pickd("foo.v/foo_5_ia64.raw", "5", "ia64")},
		{"version 5 for ia64", fooV, "foo.v", "x86-64", filter("", "5", "ia64", Regular), false, pickd("foo.v/foo_5_ia64.raw", "5", "ia64")},
		{"version 5 for cris", fooV, "foo.v", "x86-64", filter("", "5", "cris", Regular), false, Candidate{}},
		{"without 99 on x86-64", less, "foo.v", "x86-64", raw, false, pickd("foo.v/foo_55_x86-64.raw", "55", "x86-64")},
		{"without 99 on x86", less, "foo.v", "x86", raw, false, pickd("foo.v/foo_55_x86.raw", "55", "x86")},
		{"native beats none", less, "foo.v", "riscv64", raw, false, pickd("foo.v/foo_55.raw", "55", "")},
		{"pattern", less, "foo.v/foo___.raw", "x86-64", raw, false, pickd("foo.v/foo_55_x86-64.raw", "55", "x86-64")},
		{"pattern, slash at the end, raw", less, "foo.v/foo___.raw/", "x86-64", raw, false, Candidate{}},
		{"literal as directory", fooV, "foo.v/foo_5.raw", "x86-64", dirs, false, Candidate{}},
		{"literal as file", fooV, "foo.v/foo_5.raw", "x86-64", filter("", "", "", Regular), false, pickd("foo.v/foo_5.raw", "", "")},
		{"tries", fooV, "foo.v", "x86-64", filter("quux", "", "s390", Regular), false, tried(pickd("foo.v/quux_2_s390+4-6.raw", "2", "s390"), 4, 6)},

		{"any", anyV, "test.v", "x86-64", Any(), false, pickd("test.v/test_5", "5", "")},
		{"any without directories", noDirs, "test.v", "x86-64", Any(), false, pickd("test.v/test_3.raw", "3", "")},
		{"raw among any", anyV, "test.v", "x86-64", raw, false, pickd("test.v/test_3.raw", "3", "")},
		{"any without either", noRaws, "test.v", "x86-64", Any(), false, Candidate{}},
		{"any with a new directory", append(noRaws[:3:3], "test.v/test_6/"), "test.v", "x86-64", Any(), false, pickd("test.v/test_6", "6", "")},
		{"directories", []string{"myimage.v/myimage_1/", "myimage.v/myimage_2/"}, "myimage.v", "x86-64", dirs, false, pickd("myimage.v/myimage_2", "2", "")},
		{"empty", []string{"myimage.v/"}, "myimage.v", "x86-64", dirs, false, Candidate{}},

		{"link to link", resolveV, "resolve.v", "x86-64", raw, false, pickd("resolve.v/resolve_3.raw", "3", "")},
		{"link to link, resolved", resolveV, "resolve.v", "x86-64", raw, true, pickd("target_file.raw", "3", "")},
		{"link", only("resolve.v/resolve_3.raw -> ../intermediate_link.raw"), "resolve.v", "x86-64", raw, false, pickd("resolve.v/resolve_2.raw", "2", "")},
		{"link, resolved", only("resolve.v/resolve_3.raw -> ../intermediate_link.raw"), "resolve.v", "x86-64", raw, true, pickd("target_file.raw", "2", "")},
		{"link to directory", resolveV, "resolve.v", "x86-64", dirs, false, pickd("resolve.v/resolve_1", "1", "")},
		{"link to directory, resolved", resolveV, "resolve.v", "x86-64", dirs, true, pickd("target_dir", "1", "")},

		{"raw directory name, raw", []string{"foo.raw.v/foo_1.raw"}, "foo.raw.v", "x86-64", raw, false, pickd("foo.raw.v/foo_1.raw", "1", "")},
		{"raw directory name, directory", []string{"foo.raw.v/foo.raw_1/"}, "foo.raw.v", "x86-64", dirs, false, pickd("foo.raw.v/foo.raw_1", "1", "")},
		{"link to the directory", []string{"real/foo_1.raw", "foo.v -> real"}, "foo.v", "x86-64", raw, false, pickd("foo.v/foo_1.raw", "1", "")},
		{"unknown word cut off", []string{"foo.v/foo_1.2_bogus.raw"}, "foo.v", "x86-64", raw, false, pickd("foo.v/foo_1.2_bogus.raw", "1.2", "")},
		{"underscore in the version", []string{"foo.v/foo_bar_1.0.raw"}, "foo.v", "x86-64", raw, false, pickd("foo.v/foo_bar_1.0.raw", "bar", "")},
		{"architecture as version", []string{"foo.v/foo_x86-64.raw"}, "foo.v", "x86-64", raw, false, pickd("foo.v/foo_x86-64.raw", "x86-64", "")},
		{"no underscore", []string{"foo.v/foo.raw", "foo.v/foo"}, "foo.v", "x86-64", raw, false, Candidate{}},
		{"pattern without suffix", []string{"foo.v/bar_1/", "foo.v/bar_2.x"}, "foo.v/bar___", "x86-64", dirs, false, pickd("foo.v/bar_1", "1", "")},
		{"pattern at its last mark", []string{"foo.v/a___b_1.raw"}, "foo.v/a___b___.raw", "x86-64", raw, false, pickd("foo.v/a___b_1.raw", "1", "")},
		{"pattern for directories", []string{"foo.v/bar_1/", "foo.v/bar_2"}, "foo.v/bar___/", "x86-64", []Filter{{}}, false, pickd("foo.v/bar_1", "1", "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := populate(t, c.tree...)
			r, err := Pick(root+"/"+c.path, Options{Native: c.native, Resolve: c.resolve}, c.filters...)
			if c.want.Path == "" {
				if !errors.Is(err, ErrNoMatch) {
					t.Fatalf("Pick gives %v, want ErrNoMatch", err)
				}
				return
			}
			must(t, err)
			got := *r.Picked()
			got.Path, got.Name, got.Type = strings.TrimPrefix(got.Path, root+"/"), "", 0
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Picked() differs (-want +got):\n%s\nall: %+v", diff, r.Candidates)
			}
		})
	}
}

func pickd(path, version, arch string) Candidate {
	return Candidate{Path: path, Version: version, Arch: arch, TriesLeft: Unlimited, TriesDone: Unlimited}
}

func tried(c Candidate, left, done uint) Candidate {
	c.TriesLeft, c.TriesDone = left, done
	return c
}

func filter(basename, version, arch string, types Type) []Filter {
	return []Filter{{Basename: basename, Version: version, Arch: arch, Suffix: ".raw", Types: types}}
}

// TestOrder has the vectors of pick_result_compare: each pair has the worse
// candidate first.
func TestOrder(t *testing.T) {
	p := newPreference("", "x86-64")
	base := Candidate{Version: "1", TriesLeft: 5, TriesDone: 5, Name: "a"}
	change := func(f func(*Candidate)) *Candidate {
		c := base
		f(&c)
		return &c
	}
	for name, pair := range map[string][2]*Candidate{
		"name":                 {&base, change(func(c *Candidate) { c.Name = "b" })},
		"version":              {&base, change(func(c *Candidate) { c.Version = "2" })},
		"left 0 < 1":           {change(func(c *Candidate) { c.TriesLeft = 0 }), change(func(c *Candidate) { c.TriesLeft = 1 })},
		"left 1 < 5":           {change(func(c *Candidate) { c.TriesLeft = 1 }), &base},
		"left 5 < none":        {&base, change(func(c *Candidate) { c.TriesLeft = Unlimited })},
		"done 5 < 1":           {&base, change(func(c *Candidate) { c.TriesDone = 1 })},
		"no arch < native":     {&base, change(func(c *Candidate) { c.Arch = "x86-64" })},
		"no arch < secondary":  {&base, change(func(c *Candidate) { c.Arch = "x86" })},
		"secondary < native":   {change(func(c *Candidate) { c.Arch = "x86" }), change(func(c *Candidate) { c.Arch = "x86-64" })},
		"version beats arch":   {change(func(c *Candidate) { c.Arch = "x86-64" }), change(func(c *Candidate) { c.Version = "2" })},
		"version beats left":   {&base, change(func(c *Candidate) { c.Version, c.TriesLeft = "2", 1 })},
		"tries beat version":   {change(func(c *Candidate) { c.Version, c.TriesLeft = "2", 0 }), change(func(c *Candidate) { c.TriesLeft = 1 })},
		"arch beats more left": {&base, change(func(c *Candidate) { c.Arch, c.TriesLeft = "x86-64", 1 })},
		"usable beats all":     {change(func(c *Candidate) { c.Version, c.Why = "9", "x" }), change(func(c *Candidate) { c.TriesLeft = 0 })},
	} {
		if p.better(pair[1], pair[0]) >= 0 || p.better(pair[0], pair[1]) <= 0 {
			t.Errorf("%s: %+v must be better than %+v", name, *pair[1], *pair[0])
		}
	}
}

func TestUses(t *testing.T) {
	for _, path := range []string{
		"foo.v", "path/to/foo.v", "./path/to/foo.v", "path/to.v/foo.v", "path/to/foo.raw.v", "/var/lib/machines/mymachine.raw.v/",
		"path/to.v/foo___.hi/a.v", "to.v/foo___.raw", "path/to.v/foo___.raw",
	} {
		if uses, err := Uses(path); !uses || err != nil {
			t.Errorf("Uses(%q) = %v, %v", path, uses, err)
		}
	}
	for _, path := range []string{
		"path/to/foo.mp4.vtt", "path/to/foo.mp4.v.1", "path/to.v/a", "path/to/foo___.raw", "path/to.v/foo__", "foo___.raw", "/", ".",
		"/..", "//",
	} {
		if uses, err := Uses(path); uses || err != nil {
			t.Errorf("Uses(%q) = %v, %v", path, uses, err)
		}
	}
	if _, err := Uses(""); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Uses(\"\") gives %v, want EINVAL", err)
	}
}

// TestCandidates shows that every entry that has a part in the choice is named,
// the best first, with the reason why it was not picked.
func TestCandidates(t *testing.T) {
	root := populate(t, "foo.v/foo_1.raw", "foo.v/foo_2.raw", "foo.v/foo_2_x86-64.raw", "foo.v/foo_3+0-3.raw", "foo.v/foo_4_arm64.raw",
		"foo.v/foo_5.raw/", "foo.v/foo_6.raw -> /nowhere/at/all", "foo.v/foo_7.raw", "|foo.v/foo_8.raw", "foo.v/foo_9+x.raw",
		"foo.v/other_1.raw", "foo.v/foo_10.raw.tmp", "foo.v/.#foo_11.raw", "foo.v/foo_12.raw -> foo_12.raw")
	refuse := func(c *Candidate, f *os.File) (string, error) {
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			t.Errorf("the file of %q: %v, %v", c.Name, info, err)
		}
		if c.Name == "foo_7.raw" {
			return "was refused", nil
		}
		return "", nil
	}
	r, err := Pick(root+"/foo.v", Options{Native: "x86-64", PassOver: refuse}, Raw())
	must(t, err)
	var got [][2]string
	for _, c := range r.Candidates {
		got = append(got, [2]string{c.Name, c.Why})
	}
	want := [][2]string{
		{"foo_12.raw", "cannot be opened: too many levels of symbolic links"},
		{"foo_8.raw", "is a fifo, not a regular file or a block device"},
		{"foo_7.raw", "was refused"},
		{"foo_6.raw", "cannot be opened: no such file or directory"},
		{"foo_5.raw", "is a directory, not a regular file or a block device"},
		{"foo_2_x86-64.raw", ""},
		{"foo_2.raw", `is for architecture none, "foo_2_x86-64.raw" is preferred`},
		{"foo_1.raw", `is older than "foo_2_x86-64.raw"`},
		{"foo_3+0-3.raw", "has no tries left"},
		{"foo_9+x.raw", `has no valid version in its name ("9+x")`},
		{"foo_4_arm64.raw", "is for architecture arm64, not x86-64"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Candidates differ (-want +got):\n%s", diff)
	}
	if len(r.Warnings) != 2 || !strings.Contains(r.Warnings[1], `foo_6.raw" is passed over: it cannot be opened`) {
		t.Errorf("Warnings = %q", r.Warnings)
	}
}

// TestNoTriesLeft: when no candidate has tries left, the best of them is taken.
func TestNoTriesLeft(t *testing.T) {
	root := populate(t, "a.v/a_1+0-3/", "a.v/a_2+0-3/")
	r, err := Pick(root+"/a.v", Options{}, Dir())
	must(t, err)
	if got := r.Picked().Name; got != "a_2+0-3" {
		t.Errorf("picked %q", got)
	}
}

// TestTemporary: what a tool has not finished is not picked, also where its
// name would pass as a version.
func TestTemporary(t *testing.T) {
	root := populate(t, "a.v/a_1/", "a.v/a_2.tmp/", "a.v/a_3~/", ".v/.sysupdate.5/", ".v/.#4/", ".v/3/")
	for path, want := range map[string]string{"/a.v": "a_1", "/.v": "3"} {
		r, err := Pick(root+path, Options{}, Dir())
		must(t, err)
		if got := r.Picked().Name; got != want {
			t.Errorf("%s: picked %q, want %q", path, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	root := populate(t, "foo.v/foo_1_arm64.raw", "file.v", "empty.v/", "dangling -> nowhere", "|fifo.v")
	_, err := Pick(root+"/missing.v", Options{}, Raw())
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoMatch) {
		t.Errorf("missing directory: %v", err)
	}
	_, err = Pick(root+"/dangling", Options{}, Raw())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("literal path that leads nowhere: %v", err)
	}
	for _, path := range []string{"/file.v", "/fifo.v"} {
		if _, err = Pick(root+path, Options{}, Raw()); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v, want ENOTDIR", path, err)
		}
	}
	if _, err = Pick("", Options{}, Raw()); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("empty path: %v", err)
	}
	r, err := Pick(root+"/foo.v", Options{Native: "x86-64"}, Raw())
	want := `pick from "` + root + `/foo.v": no entry matches foo_*.raw; "foo_1_arm64.raw" is for architecture arm64, not x86-64`
	if !errors.Is(err, ErrNoMatch) || err.Error() != want {
		t.Errorf("wrong architecture:\n%v, want\n%s", err, want)
	}
	if len(r.Candidates) != 1 {
		t.Errorf("the result of no match has %d candidates, want 1", len(r.Candidates))
	}
	_, err = Pick(root+"/empty.v", Options{}, Dir())
	if want := `pick from "` + root + `/empty.v": no entry matches empty_*`; err == nil || err.Error() != want {
		t.Errorf("empty:\n%v, want\n%s", err, want)
	}
}

// TestCommand has the vectors of TEST-74-AUX-UTILS.vpick.sh.
func TestCommand(t *testing.T) {
	root := populate(t, "mymachine.raw.v/mymachine_7.5.13.raw", "mymachine.raw.v/mymachine_7.5.14_x86-64.raw",
		"mymachine.raw.v/mymachine_7.6.0_arm64.raw", "mymachine.raw.v/mymachine_7.7.0_x86-64+0-5.raw",
		"mytree.v/mytree_33.4/", "mytree.v/mytree_33.5/", "mytree.v/mytree_36.0+0-5/", "mytree.v/mytree_37.0_arm64+2-3/",
		"mytree.v/mytree_38.0_arm64+0-5/", "dotvroot/", "testroot.v/testroot_32/", "testroot.v/testroot_33 -> ROOT/dotvroot")
	machine, tree := "mymachine.raw.v", "mytree.v"
	for _, c := range []struct {
		path   string
		native string
		c      Command
		want   string // "": fails
	}{
		{machine, "x86-64", Command{Suffix: ".raw"}, "ROOT/mymachine.raw.v/mymachine_7.5.14_x86-64.raw"},
		{machine, "arm64", Command{Suffix: ".raw"}, "ROOT/mymachine.raw.v/mymachine_7.6.0_arm64.raw"},
		{machine, "riscv64", Command{Suffix: ".raw"}, "ROOT/mymachine.raw.v/mymachine_7.5.13.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "7.5.13"}, "ROOT/mymachine.raw.v/mymachine_7.5.13.raw"},
		{machine, "arm64", Command{Suffix: ".raw", Version: "7.5.13"}, "ROOT/mymachine.raw.v/mymachine_7.5.13.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "7.5.14"}, "ROOT/mymachine.raw.v/mymachine_7.5.14_x86-64.raw"},
		{machine, "arm64", Command{Suffix: ".raw", Version: "7.5.14"}, ""},
		{machine, "riscv64", Command{Suffix: ".raw", Version: "7.5.14"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "7.6.0"}, ""},
		{machine, "arm64", Command{Suffix: ".raw", Version: "7.6.0"}, "ROOT/mymachine.raw.v/mymachine_7.6.0_arm64.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "7.7.0"}, "ROOT/mymachine.raw.v/mymachine_7.7.0_x86-64+0-5.raw"},
		{machine, "arm64", Command{Suffix: ".raw", Version: "7.7.0"}, ""},
		{machine, "riscv64", Command{Suffix: ".raw", Architecture: "x86-64"}, "ROOT/mymachine.raw.v/mymachine_7.5.14_x86-64.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64"}, "ROOT/mymachine.raw.v/mymachine_7.6.0_arm64.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "ia64"}, ""},
		{machine, "arm64", Command{Suffix: ".raw", Architecture: "native"}, "ROOT/mymachine.raw.v/mymachine_7.6.0_arm64.raw"},
		{machine, "riscv64", Command{Suffix: ".raw", Architecture: "secondary"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "bogus"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "version"}, "7.6.0"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "type"}, "reg"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "filename"}, "mymachine_7.6.0_arm64.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "arch"}, "arm64"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "architecture"}, "arm64"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "tries"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Print: "bogus"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "7.7.0", Print: "tries"}, "+0-5"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Types: []string{"reg"}}, "ROOT/mymachine.raw.v/mymachine_7.6.0_arm64.raw"},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Types: []string{"dir"}}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Types: []string{"fifo"}}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Types: []string{"sock"}}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Architecture: "arm64", Types: []string{"dir", "reg"}, Print: "type"}, "reg"},
		{machine, "x86-64", Command{Suffix: ".raw", Types: []string{"dir", ""}, Print: "version"}, "7.5.14"},
		{machine, "x86-64", Command{Suffix: ".raw", Types: []string{"bogus"}}, ""},
		{machine, "x86-64", Command{Suffix: "a/b"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "a+b"}, ""},
		{machine, "x86-64", Command{Suffix: ".raw", Print: "all"},
			"        Path: ROOT/mymachine.raw.v/mymachine_7.5.14_x86-64.raw\n     Version: 7.5.14\n        Type: reg\nArchitecture: x86-64"},
		{machine, "x86-64", Command{Suffix: ".raw", Version: "7.7.0", Print: "all"},
			"        Path: ROOT/mymachine.raw.v/mymachine_7.7.0_x86-64+0-5.raw\n     Version: 7.7.0\n        Type: reg\nArchitecture: x86-64\n" +
				"  Tries left: 0\n  Tries done: 5"},
		{tree, "x86-64", Command{}, "ROOT/mytree.v/mytree_33.5/"},
		{tree, "arm64", Command{}, "ROOT/mytree.v/mytree_37.0_arm64+2-3/"},
		{tree, "arm64", Command{Types: []string{"dir"}}, "ROOT/mytree.v/mytree_37.0_arm64+2-3/"},
		{tree, "x86-64", Command{Types: []string{"dir"}}, "ROOT/mytree.v/mytree_33.5/"},
		{tree, "arm64", Command{Types: []string{"reg"}}, ""},
		{tree + "/", "x86-64", Command{Basename: "mytree", Version: "33.4"}, "ROOT/mytree.v/mytree_33.4/"},
		{"testroot.v", "x86-64", Command{}, "ROOT/testroot.v/testroot_33/"},
		{"testroot.v", "x86-64", Command{Resolve: true}, "ROOT/dotvroot/"},
		{"missing.v", "x86-64", Command{}, ""},
	} {
		var out bytes.Buffer
		c.c.Native = c.native
		err := c.c.Run(&out, []string{root + "/" + c.path})
		want := strings.ReplaceAll(c.want, "ROOT", root)
		if (err == nil) != (c.want != "") || err == nil && strings.TrimSuffix(out.String(), "\n") != want {
			t.Errorf("%s on %s, %+v:\n%q, %v, want\n%q", c.path, c.native, c.c, out.String(), err, want)
		}
	}
}

// FuzzName shows that the grammar is total, that what it reads out of a name is
// in it, and that the order of any two candidates is the same both ways round.
func FuzzName(f *testing.F) {
	f.Add("foo", ".raw", "foo_1.2_x86-64+3-1.raw", "foo_1.2.raw")
	f.Add("", "", "_+-", "+1-")
	f.Add("a", "", "a_+99999999999999999999", "a_~")
	f.Add("a", "+1", "a_1+1", "a_+1+1")
	f.Fuzz(func(t *testing.T, basename, suffix, a, b string) {
		p := place{dir: "/d", basename: basename, suffix: suffix}
		ca, okA := p.parseName(a)
		cb, okB := p.parseName(b)
		if okA && !strings.Contains(a, ca.Version) || okA && !strings.Contains(a, ca.Arch) {
			t.Fatalf("parseName(%q) = %+v", a, ca)
		}
		if !okA || !okB {
			return
		}
		order := newPreference("", "x86-64")
		if order.better(&ca, &cb) != -order.better(&cb, &ca) {
			t.Fatalf("%q and %q have no order", a, b)
		}
	})
}

// TestRenamedMeanwhile: an entry that is renamed after it was listed is picked under
// its new name.
func TestRenamedMeanwhile(t *testing.T) {
	root := populate(t, "foo.v/foo_1+3", "foo.v/foo_2")
	o := Options{PassOver: func(c *Candidate, _ *os.File) (string, error) {
		if c.Version == "2" {
			_ = os.Rename(root+"/foo.v/foo_1+3", root+"/foo.v/foo_1+2-1")
			return "is not wanted", nil
		}
		return "", nil
	}}
	r, err := Pick(root+"/foo.v", o, Filter{})
	must(t, err)
	if p := r.Picked(); p.Name != "foo_1+2-1" || len(r.Warnings) != 0 {
		t.Errorf("picked %+v, warnings %q", p, r.Warnings)
	}
}

// TestShortage: that we have no descriptor left says nothing about the newest entry,
// and an older one is not picked instead.
func TestShortage(t *testing.T) {
	root := populate(t, "foo.v/foo_1.raw", "foo.v/foo_2.raw")
	o := Options{PassOver: func(*Candidate, *os.File) (string, error) { return "", unix.EMFILE }}
	if r, err := Pick(root+"/foo.v", o, Raw()); !errors.Is(err, unix.EMFILE) || r != nil {
		t.Errorf("picked %+v, %v, want EMFILE", r, err)
	}
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	d, err := os.Open(root + "/foo.v")
	must(t, err)
	defer d.Close()
	// One descriptor is left, for the directory, and none for what is in it.
	none := old
	none.Cur = uint64(d.Fd())
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	_, _, err = pin(root + "/foo.v/foo_2.raw")
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	if !Shortage(err) {
		t.Errorf("open without a descriptor left: %v", err)
	}
}
