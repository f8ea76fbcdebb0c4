package pathtrust_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extexec/extexec/internal/pathtrust"
	"golang.org/x/sys/unix"
)

const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A house is a directory that root alone can write to.
type house struct {
	*testing.T
	top string
}

func (h house) path(p string) string { return filepath.Join(h.top, p) }

func (h house) dir(p string, mode uint32, uid int) {
	h.Helper()
	must(h.T, os.MkdirAll(h.path(p), 0o755))
	must(h.T, unix.Chmod(h.path(p), mode))
	must(h.T, os.Chown(h.path(p), uid, 0))
}

func (h house) file(p string, mode uint32, uid int) {
	h.Helper()
	must(h.T, os.WriteFile(h.path(p), nil, 0o600))
	must(h.T, unix.Chmod(h.path(p), mode))
	must(h.T, os.Chown(h.path(p), uid, 0))
}

func (h house) link(p, target string, uid int) {
	h.Helper()
	must(h.T, os.Symlink(target, h.path(p)))
	must(h.T, os.Lchown(h.path(p), uid, 0))
}

func newHouse(t *testing.T) house {
	h := house{T: t, top: t.TempDir()}
	h.dir("good", 0o755, 0)
	h.dir("good/inner", 0o750, 0)
	h.file("good/file", 0o644, 0)
	h.dir("theirs", 0o755, nobody)
	h.dir("theirs/ours", 0o755, 0)
	h.dir("group", 0o775, 0)
	h.dir("group/x", 0o755, 0)
	h.dir("others", 0o757, 0)
	h.file("good/loose", 0o646, 0)
	h.file("good/foreign", 0o644, nobody)
	h.dir("sticky", 0o1777, 0)
	h.dir("sticky/ours", 0o755, 0)
	h.dir("sticky/theirs", 0o755, nobody)
	h.dir("sticky-theirs", 0o1777, nobody)
	h.dir("sticky-theirs/ours", 0o755, 0)
	h.link("good/relative", "inner", 0)
	h.link("good/absolute", h.path("good/inner"), 0)
	h.link("good/chain", "relative", 0)
	h.link("good/up", "../good/inner/../file", 0)
	h.link("good/to-theirs", "../theirs/ours", 0)
	h.link("good/abs-theirs", h.path("theirs/ours"), 0)
	h.link("good/foreign-link", "inner", nobody)
	h.link("good/loop", "loop", 0)
	h.link("good/dangling", "nothing", 0)
	h.link("sticky/our-link", "../good/inner", 0)
	h.link("sticky/their-link", "../good/inner", nobody)
	h.link("sticky/here", ".", 0)
	h.link("good/out", "inner", 0)
	h.link("good/inner/parent", "../../theirs", 0)
	return h
}

func TestCheck(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	for _, c := range []struct {
		path  string
		fault string // the component that is named, "" when the path is trusted
		why   string
	}{
		{"good", "", ""},
		{"good/inner/", "", ""},
		{"good/./inner/../file", "", ""},
		{"good/relative", "", ""},
		{"good/absolute", "", ""},
		{"good/chain", "", ""},
		{"good/up", "", ""},
		{"sticky/ours", "", ""},
		{"sticky/our-link", "", ""},
		{"sticky/ours/../../good", "", ""},

		{"theirs", "theirs", "is owned by uid 65534"},
		{"theirs/ours", "theirs", "is owned by uid 65534"},
		{"group/x", "group", "mode 0775"},
		{"others", "others", "mode 0757"},
		{"good/loose", "good/loose", "mode 0646"},
		{"good/foreign", "good/foreign", "is owned by uid 65534"},
		{"sticky", "sticky", "mode 1777"},
		{"sticky/here", "sticky", "mode 1777"},
		{"sticky/ours/..", "sticky", "mode 1777"},
		{"sticky/theirs", "sticky/theirs", "is owned by uid 65534"},
		{"sticky/their-link", "sticky/their-link", "is a symlink owned by uid 65534"},
		{"sticky-theirs/ours", "sticky-theirs", "is owned by uid 65534"},
		{"good/to-theirs", "theirs", "is owned by uid 65534"},
		{"good/abs-theirs", "theirs", "is owned by uid 65534"},
		{"good/foreign-link", "good/foreign-link", "is a symlink owned by uid 65534"},
		{"good/out/parent/ours", "theirs", "is owned by uid 65534"},
	} {
		err := pathtrust.Check(h.top + "/" + c.path)
		if c.fault == "" {
			if err != nil {
				t.Errorf("%s: %v", c.path, err)
			}
			continue
		}
		var e *pathtrust.Error
		if !errors.As(err, &e) || e.Component != h.path(c.fault) || !strings.Contains(e.Why, c.why) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

func TestLeadsNowhere(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	for path, want := range map[string]error{
		"good/missing":      fs.ErrNotExist,
		"good/missing/x":    fs.ErrNotExist,
		"good/dangling":     fs.ErrNotExist,
		"good/file/x":       unix.ENOTDIR,
		"good/loop":         unix.ELOOP,
		"good/" + long(300): unix.ENAMETOOLONG,
	} {
		err := pathtrust.Check(h.path(path))
		if !errors.Is(err, want) {
			t.Errorf("%.40s: %v", path, err)
		}
		var e *pathtrust.Error
		if errors.As(err, &e) {
			t.Errorf("%.40s: refused: %v", path, err)
		}
	}
	for _, path := range []string{"", "relative", "./x"} {
		if err := pathtrust.Check(path); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// An ACL that lets one other user write shows in the mode.
func TestACL(t *testing.T) {
	needRoot(t)
	h := house{T: t, top: t.TempDir()}
	h.dir("d", 0o755, 0)
	// version 2; user::rwx, user:65534:rwx, group::r-x, mask::rwx, other::r-x
	acl := []byte{2, 0, 0, 0}
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, ^uint32(0)}, {2, 7, nobody}, {4, 5, ^uint32(0)}, {16, 7, ^uint32(0)}, {32, 5, ^uint32(0)}} {
		acl = append(acl, byte(e.tag), 0, byte(e.perm), 0, byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	if err := unix.Setxattr(h.path("d"), "system.posix_acl_access", acl, 0); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Logf("no ACLs on %s", h.top)
			return
		}
		t.Fatal(err)
	}
	var e *pathtrust.Error
	if err := pathtrust.Check(h.path("d")); !errors.As(err, &e) {
		t.Errorf("error %v", err)
	}
}

// No descriptor is left open, whatever the result.
func TestClosesEverything(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(entries)
	}
	before := count()
	for _, p := range []string{"good/inner", "theirs/ours", "good/loop", "good/missing", "good/abs-theirs", "sticky"} {
		_ = pathtrust.Check(h.path(p))
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func long(n int) string { return strings.Repeat("n", n) }
