package nsmount

import (
	"fmt"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lock clones what stands at the spots out of a copy of the scratch namespace
// that a user namespace of its own has made. The kernel locks every mount in
// such a copy to its parent (mount_namespaces(7), "Restrictions on mount
// namespaces"): whoever detaches the tree later detaches it in one piece, so that
// nobody who still stands in it ever sees what its mounts hide. The top of each
// tree is not locked.
//
// The child that makes the copy runs a few system calls and waits for us; nothing
// is executed in it. Afterwards the scratch thread is in the child's namespace
// and only Close is left to do. Must be called on the scratch thread.
// Each tree is cloned as many times as copies says, which must happen here: the
// kernel clones a detached tree only for the namespace that it came from. The
// result has all copies of the first spot, then all of the second, and so on.
// [ErrNoLock] where user namespaces are forbidden; then nothing has changed.
func (s *Scratch) Lock(spots []*Spot, copies int) ([]*Tree, error) {
	if s.limits.NoUserNS {
		return nil, ErrNoLock
	}
	child, err := startHolder()
	if err != nil {
		return nil, err
	}
	defer child.end()
	if err := unix.Setns(child.pidfd, unix.CLONE_NEWNS); err != nil {
		return nil, &OpError{Op: "setns", Target: "locking child", Err: err}
	}
	var trees []*Tree
	for i := range len(spots) * copies {
		spot := spots[i/copies]
		fd, err := unix.OpenTree(unix.AT_FDCWD, s.at+"/"+spot.name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			for _, t := range trees {
				_ = t.Close()
			}
			return nil, &OpError{Op: "open_tree", Target: "locked tree " + strconv.Quote(spot.name), Flags: "clone,recursive", Err: err}
		}
		trees = append(trees, newTree(fd, "locked"))
	}
	return trees, nil
}

// holder is a child process that sits in a user and a mount namespace of its own
// until its pipe is closed.
type holder struct {
	pid, pidfd, pipe int
}

// cloneArgs is struct clone_args of linux/sched.h, clone3(2).
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

func startHolder() (*holder, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, &OpError{Op: "pipe2", Target: "locking child", Err: err}
	}
	pidfd := int32(-1)
	args := cloneArgs{
		flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | cloneClearSighand | unix.CLONE_PIDFD,
		pidfd: uint64(uintptr(unsafe.Pointer(&pidfd))),
	}
	// ForkLock keeps descriptors that are being opened elsewhere without CLOEXEC
	// out of the child; it executes nothing, but it would hold them open.
	syscall.ForkLock.Lock()
	pid, errno := rawHold(&args, uintptr(p[0]), uintptr(p[1]))
	syscall.ForkLock.Unlock()
	_ = unix.Close(p[0])
	if errno != 0 {
		_ = unix.Close(p[1])
		// EPERM: a sysctl or an LSM; ENOSPC: user.max_user_namespaces, or nested
		// too deep; EUSERS: the same before Linux 4.9; EINVAL, ENOSYS: a kernel
		// without CONFIG_USER_NS, or without clone3.
		switch errno {
		case unix.EPERM, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS, unix.EACCES:
			return nil, fmt.Errorf("%w: %w", ErrNoLock, errno)
		}
		return nil, &OpError{Op: "clone3", Target: "locking child", Err: errno}
	}
	return &holder{pid: int(pid), pidfd: int(pidfd), pipe: p[1]}, nil
}

// end lets the child go and collects it. With exit signal 0 it is no ordinary
// child: only a wait for all kinds sees it, and no SIGCHLD is sent.
func (h *holder) end() {
	_ = unix.Close(h.pipe)
	_ = unix.Close(h.pidfd)
	for {
		if _, err := unix.Wait4(h.pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}

// rawHold makes the child. A Go program cannot fork: the child has one thread
// and a copy of a runtime that believes in several, so it may only make raw
// system calls. It shares no memory with us that could be changed (no CLONE_VM).
//
//go:norace
//go:nosplit
func rawHold(args *cloneArgs, rd, wr uintptr) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	var b [1]byte
	syscall.RawSyscall(unix.SYS_CLOSE, wr, 0, 0)
	syscall.RawSyscall(unix.SYS_READ, rd, uintptr(unsafe.Pointer(&b[0])), 1)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
