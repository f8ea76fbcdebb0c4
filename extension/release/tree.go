package release

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
)

// openIn opens a path of a tree as O_PATH. Symbolic links are followed, but not
// out of the tree; with nofollow the last component is not.
func openIn(root *os.File, path string, flags int) (*os.File, error) {
	return lookup.Open(root, path, flags|unix.O_PATH, lookup.InRoot)
}

// reopen opens for reading what an O_PATH descriptor stands for. The kind of
// file has been checked on that descriptor, so it cannot have become another.
func reopen(f *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags|unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	runtime.KeepAlive(f)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// openRegular opens a regular file for reading and refuses all else. It closes
// the descriptor that it is given.
func openRegular(f *os.File) (*os.File, error) {
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("read %q: it is %s, and must be a regular file", f.Name(), kind(st.Mode))
	}
	if st.Size > MaxSize {
		return nil, fmt.Errorf("read %q: it has %d bytes, and a release file may have %d", f.Name(), st.Size, MaxSize)
	}
	return reopen(f, 0)
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a fifo"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFLNK:
		return "a symbolic link"
	}
	return "no regular file"
}

// readFields parses an open regular file, which grew beyond the limit at worst.
func readFields(f *os.File) (map[string]string, error) {
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	fields, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", f.Name(), err)
	}
	return fields, nil
}
