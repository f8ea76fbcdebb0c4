package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxDepth bounds how many directories are open at a time.
const maxDepth = 256

// Entry is one file below the top of a layer.
type Entry struct {
	Name    string
	Depth   int    // 1 for what is right below the top
	Mode    uint32 // type and permissions, as st_mode has them
	UID     uint32
	GID     uint32
	Size    uint64
	Inode   uint64
	Device  uint64 // of a device node
	Mtime   time.Time
	Ctime   time.Time
	Target  string // of a symbolic link
	Covered bool   // something is mounted on it; all but Name and Depth are unknown

	parents []string
}

// Path is the entry's path below the top.
func (e *Entry) Path() string {
	return strings.Join(append(e.parents[:len(e.parents):len(e.parents)], e.Name), "/")
}

// Walk visits everything below a directory, each directory before what is in it,
// in the order of the names' bytes. It stops at the first error that visit
// returns, and returns that. The entry is valid during the call only. The
// directory stays open and is the caller's.
func Walk(dir *os.File, visit func(*Entry) error) error {
	return walk(dir, &walker{visit: visit})
}

func walk(dir *os.File, w *walker) error {
	w.names, w.target = make([]byte, 8<<10), make([]byte, unix.PathMax)
	defer runtime.KeepAlive(dir)
	fd, err := w.open(int(dir.Fd()), ".")
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	defer unix.Close(fd)
	var top unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &top); err != nil {
		return &fs.PathError{Op: "statx", Path: dir.Name(), Err: err}
	}
	w.mount, w.mountKnown = top.Mnt_id, top.Mask&unix.STATX_MNT_ID != 0
	if err := w.directory(fd); err != nil {
		return fmt.Errorf("walk %q: %w", dir.Name(), err)
	}
	return nil
}

type walker struct {
	visit      func(*Entry) error
	mount      uint64
	mountKnown bool
	parents    []string
	names      []byte // one read of a directory
	target     []byte
	entry      Entry

	refuseRedirects bool
}

// redirectAttribute makes a directory of a layer show another one's content
// (Documentation/filesystems/overlayfs.rst, "redirect_dir").
const redirectAttribute = "trusted.overlay.redirect"

var errRedirect = fmt.Errorf("it has the attribute %s, so it is a part of another overlay, which is not followed: "+
	"copy the merged directory instead, or remove the attribute (setfattr -x)", redirectAttribute)

// redirects says whether an open directory has the attribute. Where it cannot be
// read (without CAP_SYS_ADMIN), the kernel does not heed it for us either.
func redirects(fd int) bool {
	_, err := unix.Fgetxattr(fd, redirectAttribute, nil)
	return err == nil
}

func (w *walker) open(dirfd int, name string) (int, error) {
	return unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func (w *walker) failed(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: strings.Join(append(w.parents[:len(w.parents):len(w.parents)], name), "/"), Err: err}
}

// directory visits what is in one directory.
func (w *walker) directory(fd int) error {
	if len(w.parents) == maxDepth {
		return w.failed("enter", ".", fmt.Errorf("more than %d directories deep", maxDepth))
	}
	names, err := w.read(fd)
	if err != nil {
		return w.failed("read", ".", err)
	}
	for _, name := range names {
		if err := w.one(fd, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) one(fd int, name string) error {
	isDir, err := w.look(fd, name)
	if errors.Is(err, unix.ENOENT) {
		return nil // It went away meanwhile: as if it had not been listed.
	}
	if err != nil {
		return w.failed("look at", name, err)
	}
	if err := w.visit(&w.entry); err != nil {
		return err
	}
	if !isDir {
		return nil
	}
	sub, err := w.open(fd, name)
	if err != nil {
		return w.failed("open", name, err)
	}
	defer unix.Close(sub)
	if w.refuseRedirects && redirects(sub) {
		return w.failed("look at", name, errRedirect)
	}
	w.parents = append(w.parents, name)
	defer func() { w.parents = w.parents[:len(w.parents)-1] }()
	return w.directory(sub)
}

// look fills the entry, and says whether it is a directory to enter.
func (w *walker) look(fd int, name string) (isDir bool, err error) {
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	var st unix.Statx_t
	if err := unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return false, err
	}
	w.entry = Entry{Name: name, Depth: len(w.parents) + 1, parents: w.parents}
	e := &w.entry
	if w.mountKnown && st.Mnt_id != w.mount {
		e.Covered = true
		return false, nil
	}
	e.Mode, e.UID, e.GID, e.Size, e.Inode = uint32(st.Mode), st.Uid, st.Gid, st.Size, st.Ino
	e.Device = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	e.Mtime = time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
	e.Ctime = time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))
	if e.Mode&unix.S_IFMT == unix.S_IFLNK {
		n, err := unix.Readlinkat(fd, name, w.target)
		if err != nil {
			return false, err
		}
		e.Target = string(w.target[:n])
	}
	return e.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// read gives all names of a directory, sorted. os.File would do, but it would
// also ask for the type of each where a file system does not give it.
func (w *walker) read(fd int) ([]string, error) {
	var names []string
	for {
		n, err := unix.Getdents(fd, w.names)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			slices.Sort(names)
			return names, nil
		}
		for records := w.names[:n]; len(records) > 0; {
			// struct linux_dirent64, getdents(2): inode, offset, 2 bytes of
			// length, 1 of type, the name with its NUL.
			const lengthAt, nameAt = 16, 19
			length := int(binary.NativeEndian.Uint16(records[lengthAt:]))
			name, _, _ := bytes.Cut(records[nameAt:length], []byte{0})
			if s := string(name); s != "." && s != ".." {
				names = append(names, s)
			}
			records = records[length:]
		}
	}
}
