package unitfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const (
	// maxHops is the kernel's limit of symlinks in one lookup (path_resolution(7)).
	maxHops = 40
	// maxFile bounds what is read of one file; the longest unit file that makes
	// sense is far below.
	maxFile = 16 << 20
)

var errTooManyLinks = errors.New("too many levels of symbolic links")

// tree is a root directory in which absolute paths and symlinks mean what they
// mean in that root.
type tree struct{ fsys fs.FS }

// fsName turns an absolute path into the name that an fs.FS wants.
func fsName(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p != "" {
		return p
	}
	return "."
}

// resolve follows every symlink of the absolute path p, the last component
// included.
func (t tree) resolve(p string) (string, error) { return t.walk(p, true) }

// place follows the symlinks of the directories of p, but leaves its last
// component alone, which need not exist.
func (t tree) place(p string) (string, error) {
	dir, err := t.walk(path.Dir(p), true)
	if errors.Is(err, fs.ErrNotExist) {
		return path.Clean(p), nil
	}
	return path.Join(dir, path.Base(p)), err
}

func (t tree) walk(p string, last bool) (string, error) {
	todo := strings.Split(p, "/")
	at := "/"
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := fs.Lstat(t.fsys, fsName(next))
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink || (len(todo) == 0 && !last) {
			at = next
			continue
		}
		if hops++; hops > maxHops {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: errTooManyLinks}
		}
		target, err := fs.ReadLink(t.fsys, fsName(next))
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil
}

// content reads a file through its symlinks. masked is systemd's
// null_or_empty: /dev/null, any other device, or a file of size 0.
func (t tree) content(p string) (data []byte, masked bool, err error) {
	real, err := t.resolve(p)
	if real == "/dev/null" || (errors.Is(err, fs.ErrNotExist) && t.pointsToNull(p)) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	// Looked at before it is opened: opening a fifo would wait for a writer.
	info, err := fs.Lstat(t.fsys, fsName(real))
	if err != nil {
		return nil, false, err
	}
	switch mode := info.Mode(); {
	case mode&fs.ModeDevice != 0:
		return nil, true, nil
	case !mode.IsRegular():
		return nil, false, &fs.PathError{Op: "read", Path: p, Err: fmt.Errorf("not a regular file")}
	case info.Size() == 0:
		return nil, true, nil
	}
	f, err := t.fsys.Open(fsName(real))
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = &fs.PathError{Op: "read", Path: p, Err: fmt.Errorf("larger than %d MiB", maxFile>>20)}
	}
	return data, false, err
}

// pointsToNull holds for a symlink to /dev/null in a root without a /dev, such
// as an image that is not running.
func (t tree) pointsToNull(p string) bool {
	target, err := fs.ReadLink(t.fsys, fsName(p))
	if err != nil {
		return false
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(p), target)
	}
	return path.Clean(target) == "/dev/null"
}

// readDir lists a directory that need not exist.
func (t tree) readDir(p string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(t.fsys, fsName(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
