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
	shelf   *shelf   // what changes beside it
}

// all are the changes as they are shown.
func (e *edit) all() []Change { return append(slices.Clone(e.changes), e.shelf.all()...) }

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
func (h Host) sweep() (err error) {
	boot, err := bootID()
	if err != nil {
		return err
	}
	for _, runtime := range []bool{false, true} {
		for _, dir := range []string{filepath.Dir(h.attachedDir(runtime)), h.linkDir(runtime)} {
			left, bad := filepath.Glob(filepath.Join(dir, stagePrefix+"*"))
			kept, worse := filepath.Glob(filepath.Join(dir, keptPrefix+"*"))
			err = errors.Join(err, bad, worse)
			for _, p := range kept {
				if !strings.HasPrefix(filepath.Base(p), keptPrefix+boot+"-") {
					left = append(left, p)
				}
			}
			for _, p := range left {
				err = errors.Join(err, os.RemoveAll(p))
			}
		}
	}
	return err
}

// stage makes the directory as it is to be, beside the one that is there, and returns
// its path. On failure nothing is left.
func (e *edit) stage() (string, error) {
	parent := filepath.Dir(e.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, stagePrefix)
	if err != nil {
		return "", err
	}
	if err := e.fill(dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// fill makes a directory what e.dir is to be.
func (e *edit) fill(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	switch ok, err := there(e.dir); {
	case err != nil:
		return err
	case ok:
		if err := copyTree(e.dir, dir); err != nil {
			return err
		}
	}
	for _, c := range e.changes {
		if c.Path == e.dir {
			continue // it is what is made here
		}
		rel, ok := strings.CutPrefix(c.Path, e.dir+"/")
		if !ok {
			return fmt.Errorf("stage %q: it is not in %q", c.Path, e.dir)
		}
		if err := c.apply(filepath.Join(dir, rel)); err != nil {
			return err
		}
	}
	return syncTree(dir)
}

// apply does a change at a path.
func (c Change) apply(at string) error {
	switch c.Type {
	case "mkdir":
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		return os.Chmod(at, 0o755) // whatever the umask is
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
		if err := os.Mkdir(dst, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(dst, st.Mode().Perm()); err != nil {
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
	had, err := there(e.dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(staged)
	if err != nil {
		return err
	}
	if had && len(entries) == 0 {
		// The empty one is replaced by the old one, which is what goes.
		if err := os.Remove(staged); err != nil {
			return err
		}
	}
	return swap(staged, e.dir)
}

// exchangeBack is the inverse: the old directory is where the staged one was.
func (e *edit) exchangeBack(staged string) error { return swap(staged, e.dir) }

// swap exchanges two names, of which one may not be there.
func swap(a, b string) error {
	ok, err := there(a)
	if err != nil {
		return err
	}
	if !ok {
		return rename(b, a, unix.RENAME_NOREPLACE)
	}
	if err := rename(a, b, unix.RENAME_EXCHANGE); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return rename(a, b, unix.RENAME_NOREPLACE)
}

func rename(from, to string, flags uint) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if err == nil {
		return nil
	}
	err = &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%w: it comes from a lower layer of an overlay: attach with --runtime, or have the overlay mounted with redirect_dir=on", err)
	}
	return err
}
