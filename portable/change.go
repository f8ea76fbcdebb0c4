package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Change is one thing that is done to a file, in systemd's words.
type Change struct {
	Type   string `json:"type"` // mkdir, write, copy, symlink, unlink
	Path   string `json:"path"`
	Source string `json:"source,omitempty"` // of copy and symlink

	text []byte // of write and copy
}

// An edit is how one directory of attached units becomes another.
type edit struct {
	dir     string
	changes []Change // in that directory, in order
	links   []Change // elsewhere, afterwards
}

// all are the changes as they are shown.
func (e *edit) all() []Change { return append(slices.Clone(e.changes), e.links...) }

// remove takes units out of the directory, as they are there.
func (e *edit) remove(units []string) error {
	for _, u := range units {
		for _, name := range []string{u, u + ".d/" + profileName, u + ".d/" + dropInName} {
			p := filepath.Join(e.dir, name)
			if _, err := os.Lstat(p); err == nil {
				e.changes = append(e.changes, Change{Type: "unlink", Path: p})
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		// Somebody else's drop-ins stay, and with them the directory.
		entries, err := os.ReadDir(filepath.Join(e.dir, u+".d"))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(entries, func(d fs.DirEntry) bool { return d.Name() != profileName && d.Name() != dropInName }) {
			e.changes = append(e.changes, Change{Type: "unlink", Path: filepath.Join(e.dir, u+".d")})
		}
	}
	return nil
}

// stagePrefix begins the names of directories that are being made. systemd reads no
// such directory, and what a killed call left is removed by the next.
const stagePrefix = ".extexec-portable-"

// sweep removes what killed calls have left. The lock is held.
func (e *edit) sweep() error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(e.dir), stagePrefix+"*"))
	for _, p := range left {
		err = errors.Join(err, os.RemoveAll(p))
	}
	return err
}

// stage makes the directory as it is to be, beside the one that is there, and returns
// its path. On failure nothing is left.
func (e *edit) stage() (dir string, err error) {
	parent := filepath.Dir(e.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp(parent, stagePrefix); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if err := copyTree(e.dir, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, c := range e.changes {
		if c.Path == e.dir {
			continue // it is what is made here
		}
		rel, ok := strings.CutPrefix(c.Path, e.dir+"/")
		if !ok {
			return "", fmt.Errorf("stage %q: it is not in %q", c.Path, e.dir)
		}
		if err := c.apply(filepath.Join(dir, rel)); err != nil {
			return "", err
		}
	}
	return dir, syncTree(dir)
}

// apply does a change at a path.
func (c Change) apply(at string) error {
	switch c.Type {
	case "mkdir":
		return os.Mkdir(at, 0o755)
	case "unlink":
		return os.Remove(at)
	case "symlink":
		return os.Symlink(c.Source, at)
	}
	// What is there may be a hard link of what is live.
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(c.text)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// copyTree makes to, an empty directory, what from is. Files are hard links: nobody
// writes into a unit file in place, they are replaced.
func copyTree(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if !e.IsDir() {
			if err := os.Link(src, dst); err != nil { // of a symbolic link, too: linkat(2) without AT_SYMLINK_FOLLOW
				return err
			}
			continue
		}
		st, err := os.Stat(src)
		if err != nil {
			return err
		}
		if err := errors.Join(os.Mkdir(dst, 0o700), os.Chmod(dst, st.Mode().Perm())); err != nil {
			return err
		}
		if err := copyTree(src, dst); err != nil {
			return err
		}
	}
	return nil
}

// syncTree writes the file system out that dir is on.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// exchange puts the staged directory in the place of the one that is there, in one
// step; staged is then the old one, or gone. An empty one is not left there. It is
// its own inverse where both exist.
func (e *edit) exchange(staged string) error {
	_, err := os.Lstat(e.dir)
	had := err == nil
	entries, err := os.ReadDir(staged)
	if err != nil {
		return err
	}
	switch {
	case had && len(entries) == 0:
		// The empty one is replaced by the old one, which is what goes.
		if err := os.Remove(staged); err != nil {
			return err
		}
		return rename(e.dir, staged, unix.RENAME_NOREPLACE)
	case had:
		return rename(staged, e.dir, unix.RENAME_EXCHANGE)
	}
	return rename(staged, e.dir, unix.RENAME_NOREPLACE)
}

// exchangeBack is the inverse: the old directory is where the staged one was.
func (e *edit) exchangeBack(staged string) error {
	_, err := os.Lstat(staged)
	had := err == nil
	_, err = os.Lstat(e.dir)
	now := err == nil
	switch {
	case had && now:
		return rename(staged, e.dir, unix.RENAME_EXCHANGE)
	case had:
		return rename(staged, e.dir, unix.RENAME_NOREPLACE)
	}
	return rename(e.dir, staged, unix.RENAME_NOREPLACE)
}

func rename(from, to string, flags uint) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// doLinks makes and removes the links of images, and says what takes that back. On
// failure nothing has changed.
func (e *edit) doLinks() (undo func() error, err error) {
	var done []Change
	undo = func() error {
		var errs []error
		for _, c := range slices.Backward(done) {
			if c.Type == "unlink" {
				errs = append(errs, os.Symlink(c.Source, c.Path))
			} else {
				errs = append(errs, os.Remove(c.Path))
			}
		}
		return errors.Join(errs...)
	}
	for _, c := range e.links {
		if err := c.apply(c.Path); err != nil {
			return nil, errors.Join(err, undo())
		}
		done = append(done, c)
	}
	return undo, nil
}

// linkImages adds links to images that lie where none is looked for.
func (e *edit) linkImages(dir string, images []string) {
	for _, image := range images {
		if slices.Contains(searchDirs(), filepath.Dir(image)) || filepath.Dir(image) == dir {
			continue
		}
		at := filepath.Join(dir, filepath.Base(image))
		if _, err := os.Lstat(at); err == nil || slices.ContainsFunc(e.links, func(c Change) bool { return c.Path == at && c.Type == "symlink" }) {
			// Of that name there is one already, which is not ours to touch.
			if !slices.ContainsFunc(e.links, func(c Change) bool { return c.Path == at && c.Type == "unlink" }) {
				continue
			}
		}
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) && !slices.ContainsFunc(e.links, func(c Change) bool { return c.Path == dir }) {
			e.links = append(e.links, Change{Type: "mkdir", Path: dir})
		}
		e.links = append(e.links, Change{Type: "symlink", Path: at, Source: image})
	}
}

// unlinkImages takes away the links of images that an attach made: nothing else, however
// it is called, and none that is still needed.
func (e *edit) unlinkImages(dir string, images []string, others []*attachment) {
	for _, image := range images {
		if slices.ContainsFunc(others, func(a *attachment) bool { return slices.Contains(a.Marker, image) }) {
			continue
		}
		at := filepath.Join(dir, filepath.Base(image))
		if target, err := os.Readlink(at); err == nil && target == image {
			e.links = append(e.links, Change{Type: "unlink", Path: at, Source: image})
		}
	}
}
