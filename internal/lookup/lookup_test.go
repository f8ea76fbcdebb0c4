package lookup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory with files, directories and links that lead everywhere.
func tree(t *testing.T) *os.File {
	t.Helper()
	top := t.TempDir()
	root := top + "/root"
	for _, dir := range []string{"a/b", "usr/lib", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"a/b/f", "usr/lib/os-release", "../outside"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"lib": "usr/lib", "abs": "/usr/lib", "etc/os-release": "../usr/lib/os-release", "up": "../../../outside",
		"loop": "loop", "ping": "pong", "pong": "ping", "gone": "nowhere", "a/dot": ".", "a/slash": "b/", "a/f": "b/f",
		"a/root": "/", "deep": "a/dot/dot/dot/b/../b/f", "proc": "/proc/self/exe",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// TestByHand compares the walk by hand with the kernel's, for all paths of up to three components.
func TestByHand(t *testing.T) {
	dir := tree(t)
	names := []string{"", ".", "..", "a", "b", "f", "usr", "lib", "abs", "etc", "os-release", "up", "loop", "ping", "gone", "dot", "slash", "root", "deep", "proc", "nothing"}
	paths := []string{}
	for _, x := range names {
		paths = append(paths, x)
		for _, y := range names {
			paths = append(paths, x+"/"+y)
			for _, z := range names {
				paths = append(paths, x+"/"+y+"/"+z)
			}
		}
	}
	opened := 0
	for _, flags := range []int{unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_PATH | unix.O_DIRECTORY, unix.O_RDONLY | unix.O_NONBLOCK, unix.O_RDONLY | unix.O_NOFOLLOW} {
		for _, way := range []Way{Beneath, InRoot} {
			for _, path := range paths {
				// A slash at the end asks for a directory, and has its last link followed whatever the flags
				// say. Nobody asks for that here.
				if strings.HasSuffix(path, "/") && len(path) > 1 {
					continue
				}
				kernel := describe(byKernel(dir, path, flags|unix.O_CLOEXEC, way))
				for kernel == "error EAGAIN" { // somebody mounts or renames, elsewhere
					kernel = describe(byKernel(dir, path, flags|unix.O_CLOEXEC, way))
				}
				hand := describe(byHand(dir, path, flags|unix.O_CLOEXEC, way))
				if kernel != hand {
					t.Errorf("%q, flags %#o, way %d: kernel %s, by hand %s", path, flags, way, kernel, hand)
				}
				if _, failed := strings.CutPrefix(hand, "error"); !failed {
					opened++
				}
			}
		}
	}
	if opened < 1000 {
		t.Errorf("only %d were opened: the paths are not the right ones", opened)
	}
}

// describe says which file was opened, and how, or why not.
func describe(f *os.File, err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return "error " + unix.ErrnoName(errno)
	case err != nil:
		return "error " + err.Error()
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err.Error()
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err.Error()
	}
	fdFlags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d:%d %o %#o %d", st.Dev, st.Ino, st.Mode, flags&^(unix.O_DIRECTORY|unix.O_NOFOLLOW), fdFlags)
}

// TestByHandClosesAll shows that no descriptor stays open.
func TestByHandClosesAll(t *testing.T) {
	dir := tree(t)
	before := descriptors(t)
	for _, path := range []string{"a/b/f", "a/b", "deep", "loop", "nothing/at/all", "a/f/x", "up", "."} {
		f, err := byHand(dir, path, unix.O_PATH, InRoot)
		if err == nil {
			f.Close()
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
