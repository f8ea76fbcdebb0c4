package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
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
	w.buffer = make([]byte, 32<<10)
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
	buffer     []byte // one read of a directory

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
	names, err := listNames(fd, w.buffer)
	if err != nil {
		return w.failed("read", ".", err)
	}
	entries := make([]looked, min(len(names), batch))
	for len(names) > 0 {
		n := min(len(names), batch)
		w.lookAll(fd, names[:n], entries[:n])
		for i := range n {
			if err := w.one(fd, &entries[i]); err != nil {
				return err
			}
		}
		names = names[n:]
	}
	return nil
}

const (
	batch = 512 // entries of a directory that are looked at before they are visited
	alone = 100 // so many are not worth a second thread
)

// looked is an entry, and why it is not known.
type looked struct {
	Entry
	err error
}

// lookAll looks at entries of one directory, on all processors. Unlike other lookups,
// these may leave the calling thread: from an open directory, one step down and no
// link followed, it does not matter in which mount namespace a thread is.
func (w *walker) lookAll(fd int, names []string, entries []looked) {
	look := func(from, to int) {
		for i := from; i < to; i++ {
			entries[i].err = w.look(fd, names[i], &entries[i].Entry)
		}
	}
	n := len(names)
	if n <= alone {
		look(0, n)
		return
	}
	var others sync.WaitGroup
	share := (n-1)/runtime.GOMAXPROCS(0) + 1
	for from := share; from < n; from += share {
		others.Go(func() { look(from, min(from+share, n)) })
	}
	look(0, share)
	others.Wait()
}

func (w *walker) one(fd int, e *looked) error {
	if errors.Is(e.err, unix.ENOENT) {
		return nil // It went away meanwhile: as if it had not been listed.
	}
	if e.err != nil {
		return w.failed("look at", e.Name, e.err)
	}
	if err := w.visit(&e.Entry); err != nil {
		return err
	}
	if e.Covered || e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	sub, err := w.open(fd, e.Name)
	if err != nil {
		return w.failed("open", e.Name, err)
	}
	defer unix.Close(sub)
	if w.refuseRedirects && redirects(sub) {
		return w.failed("look at", e.Name, errRedirect)
	}
	w.parents = append(w.parents, e.Name)
	defer func() { w.parents = w.parents[:len(w.parents)-1] }()
	return w.directory(sub)
}

// look fills an entry; the name has a NUL behind it.
func (w *walker) look(fd int, name string, e *Entry) error {
	*e = Entry{Name: name, Depth: len(w.parents) + 1, parents: w.parents}
	var st unix.Statx_t
	if err := statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, &st); err != nil {
		return err
	}
	if w.mountKnown && st.Mnt_id != w.mount {
		e.Covered = true
		return nil
	}
	e.Mode, e.UID, e.GID, e.Size, e.Inode = uint32(st.Mode), st.Uid, st.Gid, st.Size, st.Ino
	e.Device = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	e.Mtime = time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
	e.Ctime = time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))
	var err error
	if e.Mode&unix.S_IFMT == unix.S_IFLNK {
		e.Target, err = readlinkat(fd, name)
	}
	return err
}
