package extension

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// complete refuses an image that another process has open for writing, where the
// kernel can tell: it gives a lease for reading only where nobody writes (fcntl(2),
// F_SETLEASE). File systems without leases, and files of other users where we
// are not root, pass; so does what a loop device is on.
func complete(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		if onLoop(f) {
			return nil
		}
		return fmt.Errorf("%q is open for writing in another process: rename it into place when it is complete", f.Name())
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return os.NewSyscallError("fcntl", err)
	}
	return nil
}

// onLoop says whether a loop device is on the file. systemd opens an image for writing
// and makes its device of that, which is read-only all the same: under adopt every live
// image is held so.
func onLoop(f *os.File) bool {
	names, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // none where there is no /sys
	want, err := f.Stat()
	if err != nil {
		return false
	}
	for _, name := range names {
		path, err := os.ReadFile(name)
		if err != nil {
			continue // the device was taken off meanwhile
		}
		if got, err := os.Stat(strings.TrimSuffix(string(path), "\n")); err == nil && os.SameFile(want, got) {
			return true
		}
	}
	return false
}

// Complete refuses a file that another process writes to, as far as the kernel can
// tell.
func Complete(path string) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	return errors.Join(complete(f), f.Close())
}

// Beside are the names of the files that belong to an image by their name: hash
// tree, root hash, signature.
func Beside(path string) (names []string, err error) {
	stem := strings.TrimSuffix(path, ".raw")
	for _, suffix := range besideSuffixes() {
		_, err := os.Lstat(stem + suffix)
		switch {
		case err == nil:
			names = append(names, filepath.Base(stem)+suffix)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return names, nil
}
