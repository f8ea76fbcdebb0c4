package lookup

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A Way is how links are treated.
type Way int

const (
	// Beneath follows no link of any kind.
	Beneath Way = iota
	// InRoot follows symbolic links as if the directory were "/". Magic links, those
	// of /proc, are not followed.
	InRoot
)

func (w Way) resolve() uint64 {
	if w == InRoot {
		return unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	}
	return unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
}

// Use calls f with the descriptor of an open file, which stays that file's while f
// runs, also where another goroutine closes it. os.File's own Fd promises neither.
// Where it is closed already, the error is [os.ErrClosed].
func Use(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := conn.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return os.ErrClosed
	}
	return result
}

// maxTries bounds how often the kernel is asked again: EAGAIN means that a rename or
// a mount anywhere on the machine raced with "..", openat2(2). Where hundreds of
// services reload at once, that can go on.
const maxTries = 128

// Open opens a path below dir, which may be an O_PATH descriptor. Flags are those of
// open(2), without O_CREAT and O_TMPFILE; O_CLOEXEC is added. An error is an
// *os.PathError.
func Open(dir *os.File, path string, flags int, way Way) (*os.File, error) {
	flags |= unix.O_CLOEXEC
	f, err := byKernel(dir, path, flags, way)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EAGAIN) {
		return byHand(dir, path, flags, way)
	}
	return f, err
}

// byKernel is Open with openat2 alone.
func byKernel(dir *os.File, path string, flags int, way Way) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags), Resolve: way.resolve()}
	for tries := 0; ; tries++ {
		var fd int
		err := Use(dir, func(at int) (err error) {
			fd, err = unix.Openat2(at, path, how)
			return err
		})
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN) && tries < maxTries:
		default:
			return nil, &os.PathError{Op: "openat2", Path: path, Err: err}
		}
	}
}

// byHand is Open without openat2.
func byHand(dir *os.File, path string, flags int, way Way) (*os.File, error) {
	w := &walk{way: way, flags: flags, todo: strings.Split(path, "/")}
	var fd int
	err := Use(dir, func(root int) (err error) {
		fd, err = w.open(root, path)
		return err
	})
	w.close()
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// maxLinks is the kernel's own bound, path_resolution(7).
const maxLinks = 40

// A walk is one look-up on its way.
type walk struct {
	way   Way
	flags int
	todo  []string // components that are left
	links int
	dirs  []int // descriptors of the directories from the root to where we are; never empty
}

func (w *walk) close() {
	for _, fd := range w.dirs {
		_ = unix.Close(fd)
	}
}

func (w *walk) here() int { return w.dirs[len(w.dirs)-1] }

// up goes back until n directories are left.
func (w *walk) up(n int) {
	for len(w.dirs) > n {
		_ = unix.Close(w.here())
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
}

func (w *walk) open(root int, path string) (int, error) {
	if path == "" {
		return -1, unix.ENOENT
	}
	if path[0] == '/' && w.way == Beneath {
		return -1, unix.EXDEV
	}
	fd, err := openat(root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	w.dirs = append(w.dirs, fd)
	for len(w.todo) > 0 {
		name := w.todo[0]
		w.todo = w.todo[1:]
		switch {
		case name == "" || name == ".":
		case name == ".." && len(w.dirs) > 1:
			w.up(len(w.dirs) - 1)
		case name == ".." && w.way == Beneath:
			return -1, unix.EXDEV
		case name == "..":
		default:
			if fd, done, err := w.step(name); done || err != nil {
				return fd, err
			}
		}
	}
	return openat(w.here(), ".", w.flags)
}

// step looks one name up. It says done with what was asked for.
func (w *walk) step(name string) (fd int, done bool, err error) {
	fd, err = openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	last := len(w.todo) == 0
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.dirs = append(w.dirs, fd) // the loop opens the last one anew
		return -1, false, nil
	case unix.S_IFLNK:
		defer unix.Close(fd)
		if last && w.flags&unix.O_NOFOLLOW != 0 {
			fd, err = openat(w.here(), name, w.flags)
			return fd, err == nil, err
		}
		return -1, false, w.follow(fd)
	}
	defer unix.Close(fd)
	if !last {
		return -1, false, unix.ENOTDIR
	}
	fd, err = openat(w.here(), name, w.flags|unix.O_NOFOLLOW)
	return fd, err == nil, err
}

// follow puts what a symbolic link says before what is left.
func (w *walk) follow(link int) error {
	if w.links++; w.way == Beneath || w.links > maxLinks {
		return unix.ELOOP
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(link, &fs); err != nil {
		return err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return unix.ELOOP // which of them are magic cannot be told
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", target)
	if err != nil {
		return err
	}
	if n == 0 || n == len(target) {
		return unix.ENAMETOOLONG
	}
	if target[0] == '/' {
		w.up(1)
	}
	w.todo = append(strings.Split(string(target[:n]), "/"), w.todo...)
	return nil
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
