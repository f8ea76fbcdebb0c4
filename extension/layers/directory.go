package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directory is an open directory of a layer, while two stacks are compared.
//
// Names of entries are parts of one string a directory in which a NUL follows
// each of them: they are handed to the kernel as they are.
type directory struct {
	fd    int
	id    fileID
	label string // for messages
	mount uint64 // 0: not known

	entries   []string // sorted, where listed
	listed    bool
	differs   bool // what it has can make the stacks differ
	counts    bool // it is one of several layers of the new stack
	asked     bool // for the attribute
	opaque    bool
	whiteouts bool // has whiteouts that are regular files

	cursor  int
	absent  bool   // the current name is not listed
	current *found // of the current name, once it was looked at
	spare   found
}

// here is the directory itself, as a name with a NUL behind it.
var here = ".\x00"[:1]

// fileID tells one directory from another while both exist.
type fileID struct {
	major, minor uint32
	inode        uint64
}

// found is what a directory has under a name.
type found struct {
	name     string
	parent   *directory
	st       unix.Statx_t
	target   string
	missing  bool
	whiteout bool
	covered  bool
	dir      *directory // once it was entered
}

// openDirectory opens a name that has a NUL behind it.
func openDirectory(at int, name, label string) (*directory, error) {
	fd, err := openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	var st unix.Statx_t
	if err := statx(fd, here, 0, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	d := &directory{fd: fd, id: idOf(&st), label: label}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		d.mount = st.Mnt_id
	}
	return d, nil
}

func idOf(st *unix.Statx_t) fileID {
	return fileID{major: st.Dev_major, minor: st.Dev_minor, inode: st.Ino}
}

func (d *directory) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
	}
	d.fd = -1
}

// find looks the current name up, once. Both results are nil where there is
// nothing.
func (d *directory) find(name string) (*found, error) {
	if d.absent {
		return nil, nil
	}
	if d.current == nil {
		d.spare = found{name: name, parent: d}
		if err := d.spare.look(); err != nil {
			return nil, err
		}
		d.current = &d.spare
	}
	if d.current.missing {
		return nil, nil
	}
	return d.current, nil
}

func (f *found) look() error {
	d := f.parent
	err := statx(d.fd, f.name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, &f.st)
	if errors.Is(err, unix.ENOENT) {
		f.missing = true // or it went away meanwhile: as if it had not been listed
		return nil
	}
	if err != nil {
		return err
	}
	if d.mount != 0 && f.st.Mnt_id != d.mount {
		f.covered = true
		return nil
	}
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		f.whiteout = f.st.Rdev_major == 0 && f.st.Rdev_minor == 0
	case unix.S_IFLNK:
		f.target, err = readlinkat(d.fd, f.name)
	case unix.S_IFREG:
		if d.whiteouts && f.st.Size == 0 {
			f.whiteout, err = f.isWhiteoutFile()
		}
	}
	return err
}

// isWhiteoutFile knows the whiteouts that are no device: Linux 6.7, "overlayfs
// whiteouts in xattrs".
func (f *found) isWhiteoutFile() (bool, error) {
	file, err := f.open()
	if err != nil {
		return false, err
	}
	defer file.Close()
	_, err = unix.Fgetxattr(int(file.Fd()), "trusted.overlay.whiteout", nil)
	return err == nil, nil
}

// enter opens a directory, once.
func (f *found) enter() error {
	if f.dir != nil {
		return nil
	}
	var err error
	f.dir, err = openDirectory(f.parent.fd, f.name, f.name)
	return err
}

// attributes reads what the attribute of a directory says: that nothing beneath
// it shows through ("y"), or that it has whiteouts that are files ("x").
func (d *directory) attributes() (opaque bool) {
	if d.asked {
		return d.opaque
	}
	d.asked = true
	var value [2]byte
	n, err := unix.Fgetxattr(d.fd, "trusted.overlay.opaque", value[:])
	if err == nil && n == 1 {
		d.opaque, d.whiteouts = value[0] == 'y', value[0] == 'x'
	}
	return d.opaque
}

// open opens a regular file.
func (f *found) open() (*os.File, error) {
	// O_NONBLOCK: what was a file may have been replaced by a fifo.
	fd, err := openat(f.parent.fd, f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.name, Err: err}
	}
	return os.NewFile(uintptr(fd), f.name), nil
}

// list reads all names, sorted.
func (d *directory) list(buffer []byte) (err error) {
	d.listed = true
	d.entries, err = listNames(d.fd, buffer)
	return err
}

// listNames reads all names of a directory, sorted, each with a NUL behind it.
// os.File would do, but it would also ask for the type of each where a file system
// does not give it.
func listNames(fd int, buffer []byte) ([]string, error) {
	var text []byte
	count := 0
	for {
		n, err := unix.Getdents(fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		for records := buffer[:n]; len(records) > 0; {
			// struct linux_dirent64, getdents(2): inode, offset, 2 bytes of
			// length, 1 of type, the name with its NUL.
			const lengthAt, nameAt = 16, 19
			length := int(binary.NativeEndian.Uint16(records[lengthAt:]))
			name := records[nameAt:length]
			end := bytes.IndexByte(name, 0)
			if s := string(name[:end]); s != "." && s != ".." {
				text = append(text, name[:end+1]...)
				count++
			}
			records = records[length:]
		}
	}
	names := make([]string, 0, count)
	for rest := string(text); rest != ""; {
		end := strings.IndexByte(rest, 0)
		names = append(names, rest[:end])
		rest = rest[end+1:]
	}
	slices.Sort(names)
	return names, nil
}

// The calls below take names that have a NUL behind them.

func statx(at int, name string, flags int, st *unix.Statx_t) error {
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(flags),
		unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, uintptr(unsafe.Pointer(st)), 0)
	runtime.KeepAlive(name)
	if errno != 0 {
		return errno
	}
	return nil
}

func openat(at int, name string, flags int) (int, error) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(unsafe.StringData(name))),
			uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		runtime.KeepAlive(name)
		if errno == 0 {
			return int(fd), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

func readlinkat(at int, name string) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, target)
	if err != nil {
		return "", err
	}
	return string(target[:n]), nil
}
