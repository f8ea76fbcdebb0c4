package vdir

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/vpick"
)

// maxRaces bounds how often an entry may be renamed by others under our hands.
const maxRaces = 1000

// A Version is one entry of a versioned directory, whatever tries its name counts
// at the time. It holds nothing open.
type Version struct {
	dir          string
	stem, suffix string
	dev, ino     uint64 // of what the entry leads to
}

// At is the version at a path, which may be out of date as to the tries, whose
// name ends in the suffix; dev and ino are those of what it leads to.
func At(path, suffix string, dev, ino uint64) *Version {
	stem, _, _, _ := vpick.CutTries(filepath.Base(path), suffix)
	return &Version{dir: filepath.Dir(path), stem: stem, suffix: suffix, dev: dev, ino: ino}
}

// Is says whether a path is one of this version, whatever tries it counts.
func (v *Version) Is(path string) bool {
	stem, _, _, ok := vpick.CutTries(filepath.Base(path), v.suffix)
	return ok && stem == v.stem && filepath.Dir(path) == v.dir
}

// Paths are the paths that a version with this one's name has now, whatever they
// lead to.
func Paths(path, suffix string) ([]string, error) {
	v := At(path, suffix, 0, 0)
	names, err := os.ReadDir(v.dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, n := range names {
		if p := filepath.Join(v.dir, n.Name()); v.Is(p) {
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// tries is what a name counts.
type tries struct{ left, done uint }

var uncounted = tries{vpick.Unlimited, vpick.Unlimited}

// Path is where the version is now; it wraps [fs.ErrNotExist] where it is gone.
func (v *Version) Path() (string, error) {
	return v.rename(func(t tries) (tries, bool) { return t, false })
}

// Counted says whether the name counts tries.
func (v *Version) Counted() (counted bool, err error) {
	_, err = v.rename(func(t tries) (tries, bool) {
		counted = t != uncounted
		return t, false
	})
	return counted, err
}

// Try takes one try. It says false, and changes nothing, where the name counts
// none, or none is left. The path is where the version is now.
func (v *Version) Try() (path string, taken bool, err error) {
	path, err = v.rename(func(t tries) (tries, bool) {
		taken = t != uncounted && t.left > 0
		return tries{t.left - 1, min(t.done+1, math.MaxUint32)}, taken // a counter has 32 bits
	})
	return path, taken && err == nil, err
}

// GiveBack gives a try back that was taken and not used.
func (v *Version) GiveBack() error {
	_, err := v.rename(func(t tries) (tries, bool) {
		return tries{t.left + 1, t.done - 1}, t != uncounted && t.done > 0
	})
	return err
}

// Good takes the counter off the name: the version has shown that it is good.
func (v *Version) Good() (path string, err error) {
	return v.rename(func(t tries) (tries, bool) { return uncounted, t != uncounted })
}

// rename gives the entry the name that counts what next says, and no other name
// where that says false. It returns the path afterwards.
func (v *Version) rename(next func(tries) (tries, bool)) (string, error) {
	dir, err := os.OpenFile(v.dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	for range maxRaces {
		name, now, err := v.find(dir)
		if err != nil {
			return "", err
		}
		then, change := next(now)
		to := v.name(then)
		if !change {
			return filepath.Join(v.dir, name), nil
		}
		if err := v.apart(dir, name); err != nil {
			return "", err
		}
		err = unix.Renameat2(int(dir.Fd()), name, int(dir.Fd()), to, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return filepath.Join(v.dir, to), dir.Sync()
		case errors.Is(err, unix.EEXIST):
			return "", fmt.Errorf("rename %q to %q: %w: remove one of the two", filepath.Join(v.dir, name), to, err)
		case !errors.Is(err, unix.ENOENT):
			return "", &os.LinkError{Op: "rename", Old: filepath.Join(v.dir, name), New: filepath.Join(v.dir, to), Err: err}
		}
		// Someone else was faster: it has another name by now.
		if _, err := dir.Seek(0, 0); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("rename %q: others renamed it %d times meanwhile", filepath.Join(v.dir, v.stem+v.suffix), maxRaces)
}

// find looks for the entry under whatever name it has.
func (v *Version) find(dir *os.File) (string, tries, error) {
	const rounds = 10 // a listing can miss what is renamed while it is read
	for range rounds {
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return "", tries{}, err
		}
		for _, name := range names {
			stem, left, done, ok := vpick.CutTries(name, v.suffix)
			if ok && stem == v.stem && v.leadsTo(dir, name) {
				return name, tries{left, done}, nil
			}
		}
		if _, err := dir.Seek(0, 0); err != nil {
			return "", tries{}, err
		}
	}
	return "", tries{}, &fs.PathError{Op: "find", Path: filepath.Join(v.dir, v.stem+v.suffix), Err: fs.ErrNotExist}
}

func (v *Version) leadsTo(dir *os.File, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, 0)
	return err == nil && st.Dev == v.dev && st.Ino == v.ino
}

// apart refuses to part an image from what belongs to it by its name: verity data
// and its signature lie beside it, as NAME.verity and such.
func (v *Version) apart(dir *os.File, name string) error {
	if v.suffix == "" {
		return nil
	}
	if _, err := dir.Seek(0, 0); err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	stem := strings.TrimSuffix(name, v.suffix)
	for _, other := range names {
		if other != name && strings.HasPrefix(other, stem+".") {
			return fmt.Errorf("rename %q: %q belongs to it and would be parted from it: put both into one image, or name them without a counter", filepath.Join(v.dir, name), other)
		}
	}
	return nil
}

// name is as systemd-boot writes it: the tries done are left out while there are
// none.
func (v *Version) name(t tries) string {
	switch {
	case t == uncounted:
		return v.stem + v.suffix
	case t.done == 0:
		return fmt.Sprintf("%s+%d%s", v.stem, t.left, v.suffix)
	}
	return fmt.Sprintf("%s+%d-%d%s", v.stem, t.left, t.done, v.suffix)
}
