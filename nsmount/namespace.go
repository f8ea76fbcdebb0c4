package nsmount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
)

// Namespace is a locked thread inside a mount namespace. Its root and working
// directory are the namespace's root. It serves any goroutine, one call at a
// time, and ends with Close. (The one that [Here] makes needs no thread.)
type Namespace struct {
	work  chan func()
	task  string   // its directory in /proc, as the caller of Enter sees it
	table *os.File // its mountinfo: an open one shows the same namespace to every thread
}

// Enter starts a thread in the mount namespace that ns means: a pidfd, or a
// file of /proc/PID/ns/mnt. The caller keeps ns. It needs CAP_SYS_ADMIN and
// CAP_SYS_CHROOT, setns(2).
func Enter(ns *os.File) (*Namespace, error) {
	return start(func() error { return enter(ns) })
}

// EnterCopy starts a thread in a copy of the mount namespace that ns means: what
// happens there is seen nowhere else. With [Slave] the copy's mounts are slaves
// of the originals, so that a clone taken from it keeps its link to the host's
// mount; with [Private] nothing comes in either.
func EnterCopy(ns *os.File, p Propagation) (*Namespace, error) {
	return start(func() error {
		if err := enter(ns); err != nil {
			return err
		}
		return copyNamespace(p)
	})
}

// EnterClone starts a thread whose root is a clone of all that the namespace of live
// shows from its root: like [EnterCopy], for a namespace that belongs to another user
// namespace. A copy of that one is locked as a whole, mount_namespaces(7); a clone only
// where the original is. An unbindable mount is not in it.
func EnterClone(ctx context.Context, live *Namespace, p Propagation) (*Namespace, error) {
	root, err := Do(ctx, live, func() (*Tree, error) {
		dir, err := OpenInRoot("/", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		return CloneDir(dir, true, 0)
	})
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.SetPropagation(p, true); err != nil {
		return nil, err
	}
	return start(func() error {
		if err := copyNamespace(Private); err != nil {
			return err
		}
		return changeRoot(root)
	})
}

// changeRoot makes a tree the calling thread's root. It is attached over what nobody
// needs in this thread's namespace.
func changeRoot(t *Tree) error {
	place, err := openPlace()
	if err != nil {
		return err
	}
	defer place.Close()
	if err := t.Attach(place); err != nil {
		return err
	}
	if err := lookup.Use(t.f, unix.Fchdir); err != nil {
		return &OpError{Op: "fchdir", Target: t.f.Name(), Err: err}
	}
	if err := unix.Chroot("."); err != nil {
		return &OpError{Op: "chroot", Target: t.f.Name(), Err: err}
	}
	return nil
}

// Here serves calls in the mount namespace that the process was started in, with
// its root and working directory. That is where every thread is that was not
// moved, so no thread is set apart for it: nothing may be called there that
// changes the thread.
func Here() (*Namespace, error) {
	n, err := newNamespace("/proc/thread-self")
	if err == nil {
		go n.serve()
	}
	return n, err
}

func enter(ns *os.File) error {
	err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
	runtime.KeepAlive(ns)
	if err != nil {
		return &OpError{Op: "setns", Target: ns.Name(), Flags: "mount namespace", Err: err}
	}
	return nil
}

// copyNamespace puts the calling thread into a copy of its mount namespace,
// from which nothing travels back.
func copyNamespace(p Propagation) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return &OpError{Op: "unshare", Target: "mount namespace", Err: err}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|uintptr(p), ""); err != nil {
		return &OpError{Op: "mount", Target: "/", Flags: fmt.Sprintf("recursive %#x", uint64(p)), Err: err}
	}
	return nil
}

func start(prepare func() error) (*Namespace, error) {
	type result struct {
		tid int
		err error
	}
	ready, work := make(chan result, 1), make(chan *Namespace)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		// setns(2) with CLONE_NEWNS is EINVAL while root and cwd are shared.
		err := unix.Unshare(unix.CLONE_FS)
		if err != nil {
			err = &OpError{Op: "unshare", Target: "thread", Flags: "fs", Err: err}
		} else {
			err = prepare()
		}
		ready <- result{unix.Gettid(), err}
		if n := <-work; n != nil {
			n.serve()
		}
	}()
	defer close(work)
	r := <-ready
	if r.err != nil {
		return nil, r.err
	}
	n, err := newNamespace(fmt.Sprintf("/proc/self/task/%d", r.tid))
	if err != nil {
		return nil, err
	}
	work <- n
	return n, nil
}

// newNamespace is that of a thread, given by its directory in the caller's /proc;
// who serves it is still to be said. The directory is never opened by the thread
// itself: what is mounted on /proc in its namespace may be the service's own.
func newNamespace(task string) (*Namespace, error) {
	fd, err := unix.Open(task+"/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &OpError{Op: "open", Target: task + "/mountinfo", Err: err}
	}
	return &Namespace{work: make(chan func()), task: task, table: os.NewFile(uintptr(fd), "mountinfo")}, nil
}

// serve runs what Do hands over, until Close.
func (n *Namespace) serve() {
	for f := range n.work {
		f()
	}
}

// Do is the function [Do] where nothing but an error comes back.
func (n *Namespace) Do(ctx context.Context, f func() error) error { return doError(ctx, n, f) }

func (n *Namespace) queue() chan<- func() { return n.work }

// A Thread is one that [Do] can run a function on: that of a [Namespace], or of a
// [Scratch].
type Thread interface{ queue() chan<- func() }

// Do runs f on the thread and returns what it returns. When ctx ends first, Do
// returns without waiting: the thread may hang in a lookup on a file system that the
// service serves itself (FUSE). f then goes on for as long as the process lives, so it
// writes to nothing that its caller looks at afterwards: what it makes it returns. What
// comes too late is closed, where it is an io.Closer. The files that f is given may be
// closed meanwhile; the functions of this package bear that. Where ctx has ended before,
// f is not called.
func Do[T any](ctx context.Context, on Thread, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	results := make(chan result)
	work := func() {
		value, err := f()
		select {
		case results <- result{value, err}:
		case <-ctx.Done(): // the caller has gone, or goes now
			if late, ok := any(value).(io.Closer); ok && err == nil {
				_ = late.Close()
			}
		}
	}
	if ctx.Err() != nil { // select would draw lots
		return none, fmt.Errorf("wait for the namespace thread: %w", ctx.Err())
	}
	select {
	case on.queue() <- work:
	case <-ctx.Done():
		return none, fmt.Errorf("wait for the namespace thread: %w", ctx.Err())
	}
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("wait for a call in the mount namespace (a file system there may hang): %w", ctx.Err())
	}
}

func doError(ctx context.Context, on Thread, f func() error) error {
	_, err := Do(ctx, on, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// Close ends the thread. It does not wait for a call that hangs.
func (n *Namespace) Close() error {
	close(n.work)
	return n.table.Close()
}

// File opens the mount namespace that the thread is in; the caller closes it.
func (n *Namespace) File() (*os.File, error) { return os.Open(n.task + "/ns/mnt") }

// Owner is the user namespace that the mount namespace belongs to, ioctl_nsfs(2): who is
// root there may mount in it. One that is above the caller's own is not told: the result
// is the zero FileID then.
func (n *Namespace) Owner() (FileID, error) {
	f, err := n.File()
	if err != nil {
		return FileID{}, err
	}
	defer f.Close()
	var owner int
	err = lookup.Use(f, func(fd int) (err error) {
		owner, err = unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
		return err
	})
	if errors.Is(err, unix.EPERM) {
		return FileID{}, nil
	}
	if err != nil {
		return FileID{}, &OpError{Op: "ioctl", Target: f.Name(), Flags: "NS_GET_USERNS", Err: err}
	}
	user := os.NewFile(uintptr(owner), "user namespace")
	defer user.Close()
	return fileID(user)
}

// OwnUserNamespace is the one that this process is in.
func OwnUserNamespace() (FileID, error) {
	f, err := os.Open("/proc/self/ns/user")
	if err != nil {
		return FileID{}, err
	}
	defer f.Close()
	return fileID(f)
}

func fileID(f *os.File) (FileID, error) {
	var st unix.Stat_t
	if err := lookup.Use(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return FileID{}, &OpError{Op: "fstat", Target: f.Name(), Err: err}
	}
	return FileID{st.Dev, st.Ino}, nil
}

// Table reads the mount table as the namespace's thread sees it.
func (n *Namespace) Table() (*Table, error) {
	// What changes from here on is news to Changed.
	if _, err := n.Changed(); err != nil {
		return nil, err
	}
	data := bytes.NewBuffer(make([]byte, 0, 1<<14)) // some hundred mounts
	if _, err := data.ReadFrom(io.NewSectionReader(n.table, 0, math.MaxInt64)); err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return ParseTable(data.Bytes())
}

// Changed tells whether mounts came, went or got other attributes since Table or
// Changed was last called, or the namespace entered. That the file that a mount
// shows was removed is no change. proc_pid_mounts(5): the table is polled.
func (n *Namespace) Changed() (bool, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(n.table.Fd()), Events: unix.POLLPRI}}
		_, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, &OpError{Op: "poll", Target: n.table.Name(), Err: err}
		}
		return fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0, nil
	}
}

// Unshare puts the calling thread into a mount namespace of its own whose
// mounts follow the original's, and are shared again below: what systemd does
// for a service (mount_namespaces(7)). It implies CLONE_FS, so it works in a
// process with many threads, but only the calling one moves; what is executed
// from it is in the new namespace.
func Unshare(p Propagation) error {
	if err := copyNamespace(Slave); err != nil {
		return err
	}
	if p == Slave {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|uintptr(p), ""); err != nil {
		return &OpError{Op: "mount", Target: "/", Flags: fmt.Sprintf("recursive %#x", uint64(p)), Err: err}
	}
	return nil
}

// ExecIn executes a program in another mount namespace, in place: program is open
// for reading, ns a pidfd or a file of /proc/PID/ns/mnt. Root and working directory
// are that namespace's root then, where /proc must be mounted. It returns only when
// it fails. Must be called on the first thread of the process, which is the one
// that survives execve(2).
func ExecIn(ns, program *os.File, argv, env []string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // see start
		return &OpError{Op: "unshare", Target: "thread", Flags: "fs", Err: err}
	}
	if err := enter(ns); err != nil {
		return err
	}
	err := unix.Exec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), argv, env)
	return &OpError{Op: "execve", Target: program.Name(), Err: err}
}

// OpenInRoot opens path as seen from the calling thread's root: symbolic links
// are followed and stay inside it, magic links are not followed, openat2(2).
func OpenInRoot(path string, flags int) (*os.File, error) {
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := lookup.Open(root, path, flags, lookup.InRoot)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			pe.Path = path
		}
		return nil, err
	}
	return f, nil
}

// OpenBelow opens rel below dir. It crosses mounts but follows no link of any
// kind and cannot leave dir.
func OpenBelow(dir *os.File, rel string, flags int) (*os.File, error) {
	return lookup.Open(dir, rel, flags, lookup.Beneath)
}

// Reopen opens for reading what f, an O_PATH descriptor, stands for. fds is this
// process's own /proc/self/fd: on a thread in a namespace, another may stand there.
func Reopen(f, fds *os.File) (*os.File, error) {
	var fd int
	err := lookup.Use(f, func(number int) error {
		return lookup.Use(fds, func(dir int) (err error) {
			fd, err = unix.Openat(dir, strconv.Itoa(number), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return err
		})
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Location is where a descriptor stands.
type Location struct {
	Mount int  // id of the mount that it lies on, as in its namespace's table
	Root  bool // it is that mount's root
	Dir   bool // it is a directory
	File  FileID
}

// FileID tells a file from all others that there are at the same time.
type FileID struct{ Dev, Ino uint64 }

// Locate tells where f stands (statx(2), STATX_MNT_ID, Linux 5.8). The file system
// is not asked: one that the service serves itself (FUSE) could keep us waiting.
func Locate(f *os.File) (Location, error) {
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	err := lookup.Use(f, func(fd int) error {
		return unix.Statx(fd, "", flags, unix.STATX_MNT_ID|unix.STATX_TYPE|unix.STATX_INO, &st)
	})
	if err != nil {
		return Location{}, &OpError{Op: "statx", Target: f.Name(), Err: err}
	}
	return Location{
		Mount: int(st.Mnt_id),
		Root:  st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
		Dir:   st.Mode&unix.S_IFMT == unix.S_IFDIR,
		File:  FileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino},
	}, nil
}
