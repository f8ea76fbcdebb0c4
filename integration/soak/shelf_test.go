package soak

import (
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A flaw is what is wrong with a version. Its files say so, for the checks, and for whoever should not see them.
type flaw string

const (
	sound       flaw = "sound"
	release     flaw = "release"   // its release file is for another system
	truncated   flaw = "truncated" // an image whose end is missing
	failsCheck  flaw = "check"     // ReloadCheck= refuses it
	failsVerify flaw = "verify"    // ReloadVerify= refuses it
)

// opens tells whether a version comes as far as the checks.
func (f flaw) opens() bool { return f != release && f != truncated }

// mayBeSeen tells whether a service may ever see the files of a version.
func (f flaw) mayBeSeen() bool { return f == sound || f == failsVerify }

// A shelf is a ".v" directory, and what is in it.
type shelf struct {
	t        testing.TB
	dir      string // that has the ".v" directory, what is to go there, and what was removed from it
	name     string
	image    bool
	confext  bool
	versions map[int]flaw // that are there
	flaws    map[int]flaw // of all that were
}

func newShelf(t testing.TB, dir, name string, image, confext bool) *shelf {
	t.Helper()
	s := &shelf{t: t, dir: dir, name: name, image: image, confext: confext, versions: map[int]flaw{}, flaws: map[int]flaw{}}
	for _, d := range []string{s.ref(), filepath.Join(dir, "new"), filepath.Join(dir, "removed")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *shelf) ref() string { return filepath.Join(s.dir, s.name+".v") }

// files are what a service sees of the extension.
func (s *shelf) files() []string {
	if s.confext {
		return []string{"/etc/soak." + s.name}
	}
	return []string{"/usr/share/soak." + s.name, "/opt/soak." + s.name}
}

func (s *shelf) text(version int) string { return fmt.Sprintf("%d %s\n", version, s.flaws[version]) }

func (s *shelf) entry(version int) string {
	name := fmt.Sprintf("%s_%d", s.name, version)
	if s.image {
		name += ".raw"
	}
	return name
}

// version is the one that a path of a record means; 0 for none of this shelf.
func (s *shelf) version(path string) int {
	for v := range s.flaws {
		if path == filepath.Join(s.ref(), s.entry(v)) {
			return v
		}
	}
	return 0
}

// install puts the next version into place, by rename.
func (s *shelf) install(f flaw) int {
	s.t.Helper()
	v := len(s.flaws) + 1
	s.flaws[v] = f
	made := filepath.Join(s.dir, "new", s.entry(v))
	if s.image {
		s.makeImage(made, v)
	} else {
		s.makeTree(made, v)
	}
	if err := os.Rename(made, filepath.Join(s.ref(), s.entry(v))); err != nil {
		s.t.Fatal(err)
	}
	s.versions[v] = f
	return v
}

// remove takes a version away by rename: files that are in an overlay must not be removed one by one.
func (s *shelf) remove(v int) {
	s.t.Helper()
	if err := os.Rename(filepath.Join(s.ref(), s.entry(v)), filepath.Join(s.dir, "removed", s.entry(v))); err != nil {
		s.t.Fatal(err)
	}
	delete(s.versions, v)
}

// removable are the versions that may go: the first one stays, so that there is always something.
func (s *shelf) removable() []int {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.versions)), func(v int) bool { return v == 1 })
}

func (s *shelf) makeTree(dir string, v int) {
	s.t.Helper()
	in := "usr/lib/extension-release.d/extension-release."
	if s.confext {
		in = "etc/extension-release.d/extension-release."
	}
	id := "_any"
	if s.flaws[v] == release {
		id = "another-system"
	}
	files := map[string]string{in + strings.TrimSuffix(s.entry(v), ".raw"): "ID=" + id + "\n"}
	for _, f := range s.files() {
		files[f] = s.text(v)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

// makeImage makes erofs and squashfs in turn.
func (s *shelf) makeImage(path string, v int) {
	s.t.Helper()
	tree := path + ".tree"
	s.makeTree(tree, v)
	defer os.RemoveAll(tree)
	// Something that does not compress, so that half of the image is not the whole of it.
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "noise"), noise, 0o644); err != nil {
		s.t.Fatal(err)
	}
	argv := []string{"mkfs.erofs", "-d0", path, tree}
	if v%2 == 0 {
		argv = []string{"mksquashfs", tree, path, "-quiet", "-no-progress", "-processors", "1"}
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		s.t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	if s.flaws[v] != truncated {
		return
	}
	fi, err := os.Stat(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Truncate(path, fi.Size()/2); err != nil {
		s.t.Fatal(err)
	}
}
