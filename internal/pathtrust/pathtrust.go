package pathtrust

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks one path may lead over, as in the kernel
// (MAXSYMLINKS, path_resolution(7)).
const maxLinks = 40

// An Error says which component of a path cannot be trusted.
type Error struct {
	Path      string // that was asked about
	Component string // the directory, symlink or file at fault
	Why       string
}

func (e *Error) Error() string {
	return fmt.Sprintf("trust path %q: %q %s: chown it to root and chmod go-w it; extexec run, by hand, and extexec portable take it all the same with --allow-untrusted-path",
		e.Path, e.Component, e.Why)
}

// Check returns nil when only root can change what the absolute path leads to, an
// [*Error] when someone else can, and an [*fs.PathError] when it leads nowhere.
func Check(name string) error {
	if !path.IsAbs(name) {
		return &fs.PathError{Op: "trust", Path: name, Err: fmt.Errorf("the path is not absolute: %w", unix.EINVAL)}
	}
	w := &walk{asked: name, rest: split(name), dir: -1}
	defer w.close()
	if err := w.root(); err != nil {
		return err
	}
	for len(w.rest) > 0 {
		if err := w.step(); err != nil {
			return err
		}
	}
	return w.end()
}

// A walk is on its way along a path. It holds the directory where it is.
type walk struct {
	asked string
	rest  []string // components that are still to go
	links int

	dir   int    // O_PATH descriptor of what was reached
	at    string // its path, without symlinks
	loose string // why others can write there, "" when they cannot
}

// root goes to the root directory.
func (w *walk) root() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "trust", Path: w.asked, Err: err}
	}
	return w.enter(fd, "/")
}

// step goes on by one component.
func (w *walk) step() error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	where := path.Join(w.at, name)
	fd, err := unix.Openat(w.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "trust", Path: where, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return &fs.PathError{Op: "trust", Path: where, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return w.enter(fd, where)
	}
	defer unix.Close(fd)
	if st.Uid != 0 {
		return w.refuse(where, fmt.Sprintf("is a symlink owned by uid %d, not by root", st.Uid))
	}
	return w.follow(fd, where)
}

// follow puts the target of a symlink in front of what is still to go.
func (w *walk) follow(link int, where string) error {
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "trust", Path: w.asked, Err: unix.ELOOP}
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", buf)
	if err != nil {
		return &fs.PathError{Op: "trust", Path: where, Err: err}
	}
	target := string(buf[:n])
	w.rest = append(split(target), w.rest...)
	if path.IsAbs(target) {
		return w.root()
	}
	return nil
}

// enter makes fd, which it takes ownership of, the place where the walk is.
func (w *walk) enter(fd int, where string) error {
	w.close()
	w.dir, w.at, w.loose = fd, where, ""
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "trust", Path: where, Err: err}
	}
	if st.Uid != 0 {
		return w.refuse(where, fmt.Sprintf("is owned by uid %d, not by root", st.Uid))
	}
	if st.Mode&0o022 != 0 {
		w.loose = fmt.Sprintf("can be written by others than root (mode %04o)", st.Mode&0o7777)
		if sticky := st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0; !sticky {
			return w.refuse(where, w.loose)
		}
	}
	return nil
}

// end is called where the path ends: a sticky directory is no place to end in.
func (w *walk) end() error {
	if w.loose != "" {
		return w.refuse(w.at, w.loose)
	}
	return nil
}

func (w *walk) refuse(component, why string) error {
	return &Error{Path: w.asked, Component: component, Why: why}
}

func (w *walk) close() {
	if w.dir >= 0 {
		unix.Close(w.dir)
		w.dir = -1
	}
}

// split returns the components of a path. ".." stays: it is looked up, because
// behind a symlink it is not what the text says.
func split(p string) []string {
	var parts []string
	for part := range strings.SplitSeq(p, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}
