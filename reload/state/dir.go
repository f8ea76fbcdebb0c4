package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read into memory. A record of 500 layers is 200 KiB.
const maxFile = 16 << 20

// A dir is an open directory; its operations look no path up but the last
// component.
type dir struct {
	f     *os.File // its name is the path
	reach func(operation string)
}

// openDir opens the directory at path. Its last component must not be a symlink.
func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeDir opens the directory at path and makes it first, and up to two levels
// above it, where they are missing: ours, but not the /run or /var/lib that they
// are in. What it makes has exactly the given mode, whatever the umask is: that of
// run is the unit's UMask=.
func makeDir(path string, mode fs.FileMode) (*os.File, error) {
	f, err := openDir(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// Again where another one has removed it meanwhile, see Lock.clear.
	for try := 0; errors.Is(err, fs.ErrNotExist) && try < 100; try++ {
		if err := makeDirs(path, mode); err != nil {
			return nil, err
		}
		f, err = openDir(path)
	}
	return f, err
}

func makeDirs(path string, mode fs.FileMode) error {
	up := filepath.Dir(path)
	for _, p := range []string{filepath.Dir(up), up, path} {
		err := os.Mkdir(p, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = os.Chmod(p, mode)
		}
		if errors.Is(err, fs.ErrNotExist) && p == path {
			continue // removed already
		}
		if err == nil {
			err = syncPath(filepath.Dir(p))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// syncPath makes what was created in a directory survive a power cut.
func syncPath(path string) error {
	f, err := openDir(path)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // a symlink to a directory, for example /var/lib elsewhere
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// read returns the contents of a regular file of at most maxFile bytes. It is on
// the path of every reload, so it does without an os.File.
func (d dir) read(name string) ([]byte, error) {
	// O_NONBLOCK: a fifo in this place must not stop us.
	fd, err := unix.Openat(int(d.f.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.path(name), Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: d.path(name), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("read %q: not a regular file", d.path(name))
	}
	if st.Size > maxFile {
		return nil, fmt.Errorf("read %q: %d bytes long, %d are allowed", d.path(name), st.Size, maxFile)
	}
	// A file that is there is never written again, only replaced: but for the lock.
	b := make([]byte, st.Size)
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: d.path(name), Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return b[:n], nil
}

// temporary is what a file is called, after its name, while it is written.
const temporary = ".tmp"

// replace makes name a file with these contents: all of it or nothing, whenever
// the process or the machine stops. Which of the two is certain after [dir.sync].
func (d dir) replace(name string, contents []byte, mode uint32) error {
	tmp := name + temporary
	err := d.writeSynced(tmp, contents, mode)
	if err == nil {
		err = d.rename(tmp, name)
	}
	if errors.Is(err, unix.EROFS) {
		return err // nothing was made, and nothing can be removed
	}
	if err != nil {
		d.at("remove " + tmp)
		return errors.Join(err, d.remove(tmp))
	}
	return nil
}

func (d dir) writeSynced(name string, contents []byte, mode uint32) error {
	d.at("create " + name)
	f, err := d.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
	if err != nil {
		return err
	}
	// The umask may have taken bits away, and a file that a crash left has its own.
	err = f.Chmod(fs.FileMode(mode))
	if err == nil {
		d.at("write " + name)
		_, err = f.Write(contents)
	}
	if err == nil {
		d.at("sync " + name)
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// rename renames within the directory.
func (d dir) rename(from, to string) error {
	d.at("rename " + from)
	fd := int(d.f.Fd())
	if err := unix.Renameat(fd, from, fd, to); err != nil {
		return &os.LinkError{Op: "rename", Old: d.path(from), New: d.path(to), Err: err}
	}
	return nil
}

// sync makes a rename survive a power cut.
func (d dir) sync(to string) error {
	d.at("sync directory after " + to)
	return d.f.Sync()
}

// remove removes a file; that it is not there is no error.
func (d dir) remove(name string) error {
	err := unix.Unlinkat(int(d.f.Fd()), name, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: d.path(name), Err: err}
	}
	return nil
}

// has says whether there may be a file of that name.
func (d dir) has(name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return !errors.Is(err, unix.ENOENT)
}

// removeItself removes the directory where it is empty.
func (d dir) removeItself() {
	up, err := unix.Openat(int(d.f.Fd()), "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(up)
	_ = unix.Unlinkat(up, filepath.Base(d.f.Name()), unix.AT_REMOVEDIR)
}

func (d dir) open(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(d.f.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.path(name), Err: err}
	}
	return os.NewFile(uintptr(fd), d.path(name)), nil
}

func (d dir) path(name string) string { return filepath.Join(d.f.Name(), name) }

func (d dir) at(operation string) {
	if d.reach != nil {
		d.reach(operation)
	}
}
