package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/extension/release"
)

// writer writes a directory. Each directory above what it writes was made by it, so
// that a path leads nowhere else.
type writer struct {
	ctx    context.Context
	into   string
	links  map[[3]uint64]string // of files with several names, the first that was written
	dirs   []stamp              // to be set when all that is in them is there
	newest time.Time
}

type stamp struct {
	path  string
	mtime time.Time
}

// whiteout is the mode of one: a character device 0:0 without permissions, as
// overlayfs makes them.
const whiteout = unix.S_IFCHR

// write copies what is shown at a path.
func (w *writer) write(rel string, s *layers.Shown) error {
	to := filepath.Join(w.into, rel)
	f := s.File
	if f == nil {
		return explain(unix.Mknod(to, whiteout, 0))
	}
	if w.newest.Before(f.Mtime) {
		w.newest = f.Mtime
	}
	id, linked := f.HardLink()
	if first, ok := w.links[id]; ok && linked {
		return os.Link(first, to)
	}
	if err := w.create(to, f); err != nil {
		return err
	}
	if err := own(to, f); err != nil {
		return err
	}
	if err := w.attributes(to, s); err != nil {
		return err
	}
	if linked {
		w.links[id] = to
	}
	if f.Mode&unix.S_IFMT == unix.S_IFDIR {
		w.dirs = append(w.dirs, stamp{to, f.Mtime})
		return nil
	}
	return touch(to, f.Mtime)
}

// create makes the file, with its content.
func (w *writer) create(to string, f *layers.File) error {
	switch kind := f.Mode & unix.S_IFMT; kind {
	case unix.S_IFDIR:
		return os.Mkdir(to, 0o700)
	case unix.S_IFLNK:
		return os.Symlink(f.Target, to)
	case unix.S_IFREG:
		return w.content(to, f)
	default:
		return unix.Mknod(to, kind|0o600, int(f.Device))
	}
}

func (w *writer) content(to string, f *layers.File) (err error) {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	n, err := io.Copy(out, in)
	if err == nil && uint64(n) != f.Size {
		return fmt.Errorf("it has %d bytes, and said that it has %d: it changed meanwhile", n, f.Size)
	}
	return err
}

// own gives a file its owner and its mode, in this order: a change of owner takes
// the setuid bit away.
func own(to string, f *layers.File) error {
	if err := os.Lchown(to, int(f.UID), int(f.GID)); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w: only root can keep owners", err)
		}
		return err
	}
	if f.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return unix.Chmod(to, f.Mode&0o7777)
}

const overlayAttributes = "trusted.overlay."

// attributes copies the extended attributes. Those of overlayfs itself belong to the
// part that they come from; those that an overlay in a layer has hidden below them
// ("trusted.overlay.overlay.", Linux 6.7) are the layer's own.
func (w *writer) attributes(to string, s *layers.Shown) error {
	all, err := s.File.Attributes()
	if err != nil {
		return err
	}
	for name, value := range all {
		inner, overlay := strings.CutPrefix(name, overlayAttributes)
		switch {
		case !overlay || strings.HasPrefix(inner, "overlay."):
			if err := unix.Lsetxattr(to, name, value, 0); err != nil {
				return fmt.Errorf("set attribute %s: %w", name, explain(err))
			}
		case inner == "redirect" || inner == "metacopy":
			return fmt.Errorf("it has the attribute %s, so it is a part of another overlay: use the merged directory instead", name)
		}
	}
	if s.Opaque {
		if err := unix.Lsetxattr(to, overlayAttributes+"opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("make it opaque: %w", explain(err))
		}
	}
	return nil
}

// explain says what the kernel may mean.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: whiteouts, attributes and devices take root, and a directory that is not on an overlay: set TMPDIR to another", err)
	}
	return err
}

func touch(path string, t time.Time) error {
	ts := []unix.Timespec{unix.NsecToTimespec(t.UnixNano()), unix.NsecToTimespec(t.UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// finish writes the release files, and sets the times of the directories.
func (w *writer) finish(releases []release.Release) error {
	for _, r := range releases {
		if err := w.release(r); err != nil {
			return fmt.Errorf("write %s: %w", r.File, err)
		}
	}
	if err := os.Chmod(w.into, 0o755); err != nil {
		return err
	}
	for i := len(w.dirs) - 1; i >= 0; i-- {
		if err := touch(w.dirs[i].path, w.dirs[i].mtime); err != nil {
			return err
		}
	}
	return touch(w.into, w.newest)
}

// release writes a release file. The tree may have links where it goes: they lead
// nowhere out of it.
func (w *writer) release(r release.Release) error {
	text, err := release.Format(r.Fields)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(w.into)
	if err != nil {
		return err
	}
	defer root.Close()
	file := strings.TrimPrefix(r.File, "/")
	dir := ""
	for part := range strings.SplitSeq(path.Dir(file), "/") {
		dir = path.Join(dir, part)
		err := root.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = root.Chmod(dir, 0o755)
		}
		if err != nil {
			return err
		}
		w.dirs = append(w.dirs, stamp{filepath.Join(w.into, dir), w.newest})
	}
	if err := root.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	if err := root.Chmod(file, 0o644); err != nil {
		return err
	}
	return root.Chtimes(file, w.newest, w.newest)
}
