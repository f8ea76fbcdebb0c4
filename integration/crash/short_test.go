//go:build amd64

package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fill makes a directory of the state a small file system of its own that is full; the
// function that it returns makes room again.
func (b *bed) fill(dir string) (room func()) {
	b.t.Helper()
	dir = b.dir + "/state/" + dir
	aside := b.t.TempDir()
	b.must(os.CopyFS(aside, os.DirFS(dir)))
	b.must(unix.Mount("small", dir, "tmpfs", 0, "size=64k"))
	b.t.Cleanup(func() { b.must(unix.Unmount(dir, unix.MNT_DETACH)) })
	b.must(os.CopyFS(dir, os.DirFS(aside)))
	filler, err := os.Create(dir + "/filler")
	b.must(err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		b.t.Fatal(err)
	}
	return func() { b.must(os.Remove(filler.Name())) }
}

// TestFull has the file system full that a record or the memory is on. Without room
// for a record nothing is changed; without room for the memory it is said what will be
// forgotten.
func TestFull(t *testing.T) {
	for dir, want := range map[string]struct {
		exit  int
		sees  string
		words []string
	}{
		"record": {1, "old", []string{"error: ", "/state/record/", "no space left on device", "nothing was changed"}},
		"memory": {0, "new", []string{"warning: ", "/state/memory/", "no space left on device", "will be forgotten"}},
	} {
		t.Run(dir, func(t *testing.T) {
			b := newBed(t, "", false)
			b.start()
			room := b.fill(dir)
			b.install()
			cmd := b.reload()
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != want.exit {
				t.Errorf("exit code %d, want %d: %s", cmd.ProcessState.ExitCode(), want.exit, out)
			}
			for _, w := range want.words {
				if !strings.Contains(string(out), w) {
					t.Errorf("it does not say %q: %s", w, out)
				}
			}
			which, err := b.sees(b.version)
			if err != nil || slices.ContainsFunc(which, func(v string) bool { return v != want.sees }) {
				t.Errorf("the service sees %v, %v, want what is %s", which, err, want.sees)
			}
			if left := b.leftovers(); len(left) > 0 {
				t.Errorf("left is %v", left)
			}
			room()
			if wrong := b.restored(); len(wrong) > 0 {
				t.Error(strings.Join(wrong, "\n"))
			}
		})
	}
}

// limited is the command with at most that many descriptors.
func limited(cmd *exec.Cmd, files int) *exec.Cmd {
	return exec.Command("/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, files), "sh"}, cmd.Args...)...)
}

const (
	fewFiles  = 12
	manyFiles = 200
)

// step is how far limits are apart that are tried.
func step() int {
	if *all {
		return 1
	}
	return 7
}

// TestFewDescriptorsReload reloads with more and more descriptors, until they are
// enough. Before that, nothing is changed, and the message says what there is too
// little of.
func TestFewDescriptorsReload(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			b := newBed(t, s.unit, s.images)
			b.start()
			b.hammer()
			b.install()
			for n := fewFiles; ; n += step() {
				if n > manyFiles {
					t.Fatalf("%d descriptors are not enough", n)
				}
				cmd := limited(b.reload(), n)
				out, _ := cmd.CombinedOutput()
				which, err := b.sees(b.version)
				if cmd.ProcessState.ExitCode() == 0 {
					t.Logf("%d descriptors are enough", n)
					if err != nil || slices.Contains(which, "old") {
						t.Errorf("%d descriptors: the service sees %v, %v: %s", n, which, err, out)
					}
					break
				}
				if err != nil || slices.Contains(which, "new") {
					t.Errorf("%d descriptors: exit code %d, and the service sees %v, %v", n, cmd.ProcessState.ExitCode(), which, err)
				}
				shortOfFiles(t, n, cmd, string(out), 1, 3, 4)
				if left := append(b.leftovers(), b.clean()...); len(left) > 0 && b.mounts != nil {
					t.Errorf("%d descriptors: %v", n, left)
				}
			}
			if wrong := append(b.restored(), b.tally(b.version)...); len(wrong) > 0 {
				t.Error(strings.Join(wrong, "\n"))
			}
		})
	}
}

// TestFewDescriptorsStart is the same for a start.
func TestFewDescriptorsStart(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			b := newBed(t, s.unit, s.images)
			b.rest()
			for n := fewFiles; ; n += step() {
				if n > manyFiles {
					t.Fatalf("%d descriptors are not enough", n)
				}
				b.must(os.RemoveAll(b.dir + "/state"))
				cmd := limited(b.run("/bin/cat", "/etc/extexec-a"), n)
				out, _ := cmd.CombinedOutput()
				if cmd.ProcessState.ExitCode() == 0 {
					t.Logf("%d descriptors are enough", n)
					if want := content("/etc/", b.version); !strings.Contains(string(out), want) {
						t.Errorf("%d descriptors: the command saw %s, want %s", n, out, want)
					}
					return
				}
				shortOfFiles(t, n, cmd, string(out), 1, 226)
				if left := append(b.leftovers(), b.clean()...); len(left) > 0 {
					t.Errorf("%d descriptors: %v", n, left)
				}
			}
		})
	}
}

func shortOfFiles(t *testing.T, n int, cmd *exec.Cmd, output string, codes ...int) {
	t.Helper()
	if code := cmd.ProcessState.ExitCode(); !slices.Contains(codes, code) {
		t.Errorf("%d descriptors: exit code %d: %s", n, code, output)
	}
	if !strings.Contains(output, "too many open files") {
		t.Errorf("%d descriptors: it does not say what it has too few of: %s", n, output)
	}
}
