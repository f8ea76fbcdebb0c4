package layers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

func TestMain(m *testing.M) { nsmounttest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func fingerprint(t testing.TB, path string) string {
	t.Helper()
	s, err := Fingerprint(openDir(t, path, unix.O_PATH))
	must(t, err)
	return s
}

func sample(t testing.TB) string {
	t.Helper()
	top := filepath.Join(t.TempDir(), "web_1")
	must(t, os.MkdirAll(filepath.Join(top, "usr/lib/empty"), 0o755))
	must(t, os.MkdirAll(filepath.Join(top, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(top, "usr/lib/a"), []byte("a"), 0o644))
	must(t, os.WriteFile(filepath.Join(top, "usr/lib/b"), []byte("b"), 0o644))
	must(t, os.Symlink("a", filepath.Join(top, "usr/lib/link")))
	must(t, os.Symlink("/", filepath.Join(top, "root")))
	return top
}

// TestFingerprintSeesEveryChange makes each kind of change to a tree; each must
// give a fingerprint of its own.
func TestFingerprintSeesEveryChange(t *testing.T) {
	top := sample(t)
	at := func(name string) string { return filepath.Join(top, name) }
	seen := map[string]string{fingerprint(t, top): "the start"}
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"content in place", func() error { return os.WriteFile(at("usr/lib/a"), []byte("A"), 0) }},
		{"size", func() error { return os.WriteFile(at("usr/lib/a"), []byte("AA"), 0) }},
		{"mode", func() error { return os.Chmod(at("usr/lib/a"), 0o600) }},
		{"mode of a directory", func() error { return os.Chmod(at("usr/lib"), 0o700) }},
		{"mtime", func() error { return os.Chtimes(at("usr/lib/a"), time.Time{}, time.Unix(1, 1)) }},
		{"new file", func() error { return os.WriteFile(at("usr/c"), nil, 0o644) }},
		{"rename", func() error { return os.Rename(at("usr/c"), at("usr/d")) }},
		{"move up", func() error { return os.Rename(at("usr/d"), at("d")) }},
		{"file replaced by another", func() error { return os.Rename(at("usr/lib/b"), at("usr/lib/a")) }},
		{"file gone", func() error { return os.Remove(at("d")) }},
		{"link target", func() error { return errors.Join(os.Remove(at("usr/lib/link")), os.Symlink("b", at("usr/lib/link"))) }},
		{"new empty directory", func() error { return os.Mkdir(at("opt"), 0o755) }},
		{"directory gone", func() error { return os.Remove(at("usr/lib/empty")) }},
		{"type", func() error { return errors.Join(os.Remove(at("usr/lib/link")), os.Mkdir(at("usr/lib/link"), 0o777)) }},
		{"hard link", func() error { return os.Link(at("usr/lib/a"), at("usr/lib/z")) }},
		{"extended attribute", func() error { return unix.Setxattr(at("usr/lib/a"), "user.x", []byte("y"), 0) }},
		{"extended attribute of a directory", func() error { return unix.Setxattr(at("etc"), "user.x", []byte("y"), 0) }},
		{"owner", func() error { return chown(t, at("usr/lib/a"), 1, -1) }},
		{"group", func() error { return chown(t, at("usr/lib/a"), -1, 1) }},
	} {
		// A change within the tick of the file system's clock can leave the
		// times as they were; what the test is about is a change that shows.
		waitForClock(t, top)
		must(t, c.change())
		now := fingerprint(t, top)
		if before, ok := seen[now]; ok {
			t.Errorf("%s: same fingerprint as %s", c.name, before)
		}
		seen[now] = c.name
		if again := fingerprint(t, top); again != now {
			t.Errorf("after %s: %s, and then %s", c.name, now, again)
		}
	}
}

// chown changes an owner where the test may; else the mode stands in for it.
func chown(t *testing.T, path string, uid, gid int) error {
	if os.Geteuid() != 0 {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("needs root")
		}
		return os.Chmod(path, os.FileMode(0o100+uid+gid))
	}
	return os.Chown(path, uid, gid)
}

// waitForClock returns once the file system stamps files with a later time.
func waitForClock(t *testing.T, top string) {
	t.Helper()
	beside := filepath.Join(filepath.Dir(top), "clock")
	stamp := func() time.Time {
		must(t, os.WriteFile(beside, []byte{'x'}, 0o600))
		info, err := os.Stat(beside)
		must(t, err)
		return info.ModTime()
	}
	for start := stamp(); !stamp().After(start); {
		runtime.Gosched()
	}
}

// TestFingerprintOfTheSame shows what is no change: another name of the top, its
// times and mode, another order of creation, reading, and how it was opened.
func TestFingerprintOfTheSame(t *testing.T) {
	top := sample(t)
	before := fingerprint(t, top)
	renamed := filepath.Join(filepath.Dir(top), "web_2")
	must(t, os.Rename(top, renamed))
	must(t, os.Chmod(renamed, 0o700))
	must(t, os.Chtimes(renamed, time.Unix(1, 0), time.Unix(1, 0)))
	_, err := os.ReadFile(filepath.Join(renamed, "usr/lib/a"))
	must(t, err)
	if after := fingerprint(t, renamed); after != before {
		t.Errorf("rename of the top: %s, was %s", after, before)
	}
	if s, err := Fingerprint(openDir(t, renamed, unix.O_RDONLY)); err != nil || s != before {
		t.Errorf("through a readable descriptor: %s, %v", s, err)
	}
}

// TestTwinsDiffer: two trees with the same names and sizes are told apart although
// all their times are equal.
func TestTwinsDiffer(t *testing.T) {
	top := t.TempDir()
	entries := map[string][]Entry{}
	for _, twin := range []string{"a", "b"} {
		must(t, os.Mkdir(filepath.Join(top, twin), 0o755))
		must(t, os.WriteFile(filepath.Join(top, twin, "who.conf"), []byte(twin), 0o644))
		must(t, Walk(openDir(t, filepath.Join(top, twin), unix.O_PATH), func(e *Entry) error {
			e.Mtime, e.Ctime = time.Unix(1, 0), time.Unix(1, 0)
			entries[twin] = append(entries[twin], *e)
			return nil
		}))
	}
	if string(appendEntry(nil, &entries["a"][0])) == string(appendEntry(nil, &entries["b"][0])) {
		t.Errorf("%+v and %+v are one", entries["a"][0], entries["b"][0])
	}
}

// TestEveryFieldCounts: a change of the group, say, shows by itself and not only
// by the time of change that comes with it.
func TestEveryFieldCounts(t *testing.T) {
	base := Entry{Name: "a", Depth: 1, Mode: unix.S_IFREG | 0o644, Mtime: time.Unix(1, 0), Ctime: time.Unix(1, 0)}
	for name, change := range map[string]func(*Entry){
		"name": func(e *Entry) { e.Name = "b" }, "depth": func(e *Entry) { e.Depth++ }, "mode": func(e *Entry) { e.Mode ^= 1 },
		"type": func(e *Entry) { e.Mode ^= unix.S_IFREG ^ unix.S_IFIFO }, "uid": func(e *Entry) { e.UID++ }, "gid": func(e *Entry) { e.GID++ },
		"size": func(e *Entry) { e.Size++ }, "inode": func(e *Entry) { e.Inode++ }, "device": func(e *Entry) { e.Device++ },
		"mtime": func(e *Entry) { e.Mtime = time.Unix(2, 0) }, "mtime ns": func(e *Entry) { e.Mtime = time.Unix(1, 1) },
		"ctime": func(e *Entry) { e.Ctime = time.Unix(2, 0) }, "ctime ns": func(e *Entry) { e.Ctime = time.Unix(1, 1) },
		"target": func(e *Entry) { e.Target = "x" }, "covered": func(e *Entry) { e.Covered = true },
	} {
		e := base
		change(&e)
		if string(appendEntry(nil, &e)) == string(appendEntry(nil, &base)) {
			t.Errorf("%s does not count", name)
		}
	}
}

// TestNestingCounts: the same names at another depth are another state, also
// where all times are the same.
func TestNestingCounts(t *testing.T) {
	one := appendEntry(appendEntry(nil, &Entry{Name: "a", Depth: 1}), &Entry{Name: "b", Depth: 2})
	two := appendEntry(appendEntry(nil, &Entry{Name: "a", Depth: 1}), &Entry{Name: "b", Depth: 1})
	if string(one) == string(two) {
		t.Error("a/b is written as a, b")
	}
	one = appendEntry(nil, &Entry{Name: "ab", Target: "c"})
	two = appendEntry(nil, &Entry{Name: "a", Target: "bc"})
	if string(one) == string(two) {
		t.Error("names and targets run into each other")
	}
}

func TestWalk(t *testing.T) {
	top := sample(t)
	must(t, unix.Mkfifo(filepath.Join(top, "etc/fifo"), 0o600))
	var got []string
	err := Walk(openDir(t, top, unix.O_PATH), func(e *Entry) error {
		got = append(got, fmt.Sprintf("%s %o %d %q", e.Path(), e.Mode&unix.S_IFMT, e.Depth, e.Target))
		if e.Mtime.Before(time.Unix(1e9, 0)) || e.Ctime.Before(time.Unix(1e9, 0)) || e.UID != uint32(os.Getuid()) {
			t.Errorf("%s: %+v", e.Path(), e)
		}
		return nil
	})
	must(t, err)
	want := []string{
		`etc 40000 1 ""`, `etc/fifo 10000 2 ""`, `root 120000 1 "/"`, `usr 40000 1 ""`, `usr/lib 40000 2 ""`, `usr/lib/a 100000 3 ""`,
		`usr/lib/b 100000 3 ""`, `usr/lib/empty 40000 3 ""`, `usr/lib/link 120000 3 "a"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Walk differs (-want +got):\n%s", diff)
	}
	stop := errors.New("stop")
	if err := Walk(openDir(t, top, unix.O_PATH), func(*Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Walk returns %v", err)
	}
}

// TestMountsAreNoPart: what is mounted in a layer is not walked, and a mount that
// comes or goes shows in the fingerprint, but not what happens in it.
func TestMountsAreNoPart(t *testing.T) {
	nsmounttest.Root(t)
	top := sample(t)
	at := openDir(t, top+"/usr/lib/empty", unix.O_PATH)
	tree, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs"})
	must(t, err)
	must(t, tree.Attach(at))
	must(t, tree.Close())
	before := fingerprint(t, top)
	must(t, os.WriteFile(top+"/usr/lib/empty/hidden", nil, 0o600))
	must(t, os.Chmod(top+"/usr/lib/empty", 0o700))
	covered := 0
	must(t, Walk(openDir(t, top, unix.O_PATH), func(e *Entry) error {
		if e.Covered != (e.Path() == "usr/lib/empty") || e.Name == "hidden" {
			t.Errorf("%+v", e)
		}
		if e.Covered {
			covered++
		}
		return nil
	}))
	after := fingerprint(t, top)
	t.Chdir("/") // DetachTop leaves the working directory elsewhere; this puts it back.
	must(t, nsmount.DetachTop(at))
	if covered != 1 || before != after {
		t.Errorf("%d covered entries; fingerprint %s, was %s", covered, after, before)
	}
	if bare := fingerprint(t, top); bare == before {
		t.Error("without the mount the fingerprint is the same")
	}
	// The top may be a mount itself, and is the layer then.
	bind, err := nsmount.CloneDir(openDir(t, top, unix.O_PATH), false, nsmount.AttrReadOnly)
	must(t, err)
	defer bind.Close()
	if s, err := Fingerprint(bind.File()); err != nil || s != fingerprint(t, top) {
		t.Errorf("of a tree: %s, %v", s, err)
	}
}

// TestWalkIsBounded: a tree that is deeper than anyone needs is an error that
// says so, and no descriptor stays open.
func TestWalkIsBounded(t *testing.T) {
	top := t.TempDir()
	dir := openDir(t, top, unix.O_PATH)
	path := top
	for range maxDepth + 1 {
		path += "/d"
	}
	must(t, os.MkdirAll(path, 0o755))
	before := countFDs(t)
	_, err := Fingerprint(dir)
	if err == nil || !strings.Contains(err.Error(), "more than 256 directories deep") {
		t.Errorf("Fingerprint gives %v", err)
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestManyNames(t *testing.T) {
	top := t.TempDir()
	const n = 2000 // More than one getdents(2) gives.
	for i := range n {
		must(t, os.WriteFile(fmt.Sprintf("%s/%s%04d", top, strings.Repeat("x", 40), i), nil, 0o600))
	}
	count := 0
	must(t, Walk(openDir(t, top, unix.O_PATH), func(e *Entry) error {
		if want := fmt.Sprintf("%s%04d", strings.Repeat("x", 40), count); e.Name != want {
			t.Fatalf("entry %d is %q", count, e.Name)
		}
		count++
		return nil
	}))
	if count != n {
		t.Errorf("%d entries, want %d", count, n)
	}
}

// BenchmarkFingerprint is of three directories of 100 files, as many as a reload
// of an ordinary service looks at.
func BenchmarkFingerprint(b *testing.B) {
	var dirs []*os.File
	for range 3 {
		top := b.TempDir()
		for i := range 100 {
			dir := fmt.Sprintf("%s/usr/lib/d%d", top, i%5)
			must(b, os.MkdirAll(dir, 0o755))
			must(b, os.WriteFile(fmt.Sprintf("%s/file-%d.conf", dir, i), []byte("x"), 0o644))
		}
		dirs = append(dirs, openDir(b, top, unix.O_PATH))
	}
	for b.Loop() {
		for _, dir := range dirs {
			if _, err := Fingerprint(dir); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestFingerprintRefusesRedirects: what such a directory shows is another's
// business, and the overlay that it becomes a layer of does not follow it.
func TestFingerprintRefusesRedirects(t *testing.T) {
	nsmounttest.Root(t)
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/etc/moved", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Fingerprint(f); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(dir+"/etc/moved", redirectAttribute, []byte("/ssl"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Fingerprint(f); err == nil || !strings.Contains(err.Error(), "etc/moved") || !strings.Contains(err.Error(), "setfattr -x") {
		t.Errorf("error %v, want one that names the directory and the remedy", err)
	}
}
