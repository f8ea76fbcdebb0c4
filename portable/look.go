package portable

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// exists says whether a path is there, where it does not matter that it may be there and
// cannot be looked at.
func exists(p string) bool {
	ok, _ := there(p)
	return ok
}

// there says whether a path is there.
func there(p string) (bool, error) {
	_, err := os.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// gone says whether a path leads nowhere: it is not there, or is a link to what is not.
func gone(p string) bool {
	_, err := os.Stat(p)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// A spot is what is at a path where an image can be found by its name.
type spot struct {
	taken  bool
	target string // of a symbolic link
	source string // the image, where it is a copy that attach made
	dir    bool
}

// copyOf is the attribute of a copy that attach made: the path of the image, and behind
// a NUL its own. Without it nobody could tell the copy from an image that somebody put
// there; without its own path, from a copy of it that is somebody's (cp -a).
const copyOf = "trusted.extexec.copy-of"

func lookAt(at string) (s spot, err error) {
	st, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return spot{}, nil
	case err != nil:
		return spot{}, err
	case st.Mode().Type() == fs.ModeSymlink:
		s.target, err = os.Readlink(at)
	default:
		s.dir = st.IsDir()
		buf := make([]byte, 2*unix.PathMax)
		var n int
		n, err = unix.Lgetxattr(at, copyOf, buf)
		switch {
		case err == nil:
			if source, own, _ := strings.Cut(string(buf[:n]), "\x00"); own == at {
				s.source = source
			}
		case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP):
			err = nil
		default:
			err = &os.PathError{Op: "getxattr", Path: at, Err: err}
		}
	}
	s.taken = true
	return s, err
}
