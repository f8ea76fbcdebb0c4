//go:build amd64

package tracer

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// interest is what is known of a system call that a strike can hit.
type interest struct {
	name   string
	fd     bool            // the first argument is a descriptor
	path   int             // which argument is a path, from 1
	errnos []syscall.Errno // that can come of it when the machine is short of something, or broken
}

const (
	emfile = unix.EMFILE
	enomem = unix.ENOMEM
	enospc = unix.ENOSPC
	eio    = unix.EIO
	eagain = unix.EAGAIN
)

type errnos = []syscall.Errno

// callNames are the calls of interest: all that a reload or a start makes that have to
// do with files, mounts, namespaces and processes. Not there: close(2), which does not
// fail; clone(2), by which the Go runtime makes threads, and ends the process where it
// cannot.
var callNames = map[uint64]interest{
	unix.SYS_CLONE3:            {"clone3", false, 0, errnos{eagain, enomem, enospc}},
	unix.SYS_FCHDIR:            {"fchdir", true, 0, errnos{eio, enomem}},
	unix.SYS_FCHMOD:            {"fchmod", true, 0, errnos{eio}},
	unix.SYS_FCHMODAT:          {"fchmodat", true, 2, errnos{eio}},
	unix.SYS_FGETXATTR:         {"fgetxattr", true, 0, errnos{eio}},
	unix.SYS_FLOCK:             {"flock", true, 0, errnos{enomem}},
	unix.SYS_FSCONFIG:          {"fsconfig", true, 3, errnos{enomem, eio}},
	unix.SYS_FSMOUNT:           {"fsmount", true, 0, errnos{emfile, enomem}},
	unix.SYS_FSOPEN:            {"fsopen", false, 1, errnos{emfile, enomem}},
	unix.SYS_FSTAT:             {"fstat", true, 0, errnos{eio}},
	unix.SYS_FSTATFS:           {"fstatfs", true, 0, errnos{eio}},
	unix.SYS_FSYNC:             {"fsync", true, 0, errnos{eio, enospc}},
	unix.SYS_FTRUNCATE:         {"ftruncate", true, 0, errnos{eio}},
	unix.SYS_GETDENTS64:        {"getdents64", true, 0, errnos{eio, enomem}},
	unix.SYS_IOCTL:             {"ioctl", true, 0, errnos{eio, enomem}},
	unix.SYS_LINKAT:            {"linkat", true, 2, errnos{enospc, eio}},
	unix.SYS_LSETXATTR:         {"lsetxattr", false, 1, errnos{enospc, eio}},
	unix.SYS_MEMFD_CREATE:      {"memfd_create", false, 1, errnos{emfile, enomem}},
	unix.SYS_MKDIRAT:           {"mkdirat", true, 2, errnos{enospc, enomem}},
	unix.SYS_MKNODAT:           {"mknodat", true, 2, errnos{enospc, enomem}},
	unix.SYS_MOUNT:             {"mount", false, 2, errnos{enomem}},
	unix.SYS_MOUNT_SETATTR:     {"mount_setattr", true, 2, errnos{enomem}},
	unix.SYS_MOVE_MOUNT:        {"move_mount", true, 0, errnos{enomem, enospc}},
	unix.SYS_NEWFSTATAT:        {"newfstatat", true, 2, errnos{eio}},
	unix.SYS_OPENAT:            {"openat", true, 2, errnos{emfile, enomem, eio, enospc}},
	unix.SYS_OPENAT2:           {"openat2", true, 2, errnos{emfile, enomem, eio}},
	unix.SYS_OPEN_TREE:         {"open_tree", true, 2, errnos{emfile, enomem}},
	unix.SYS_PIDFD_OPEN:        {"pidfd_open", false, 0, errnos{emfile, enomem}},
	unix.SYS_PIDFD_SEND_SIGNAL: {"pidfd_send_signal", true, 0, nil},
	unix.SYS_PIPE2:             {"pipe2", false, 0, errnos{emfile, enomem}},
	unix.SYS_PREAD64:           {"pread64", true, 0, errnos{eio, enomem}},
	unix.SYS_PWRITE64:          {"pwrite64", true, 0, errnos{enospc, eio}},
	unix.SYS_READ:              {"read", true, 0, errnos{eio, enomem}},
	unix.SYS_READLINKAT:        {"readlinkat", true, 2, errnos{eio}},
	unix.SYS_RENAMEAT:          {"renameat", true, 2, errnos{enospc, eio}},
	unix.SYS_RENAMEAT2:         {"renameat2", true, 2, errnos{enospc, eio}},
	unix.SYS_SETNS:             {"setns", true, 0, errnos{enomem}},
	unix.SYS_SYNCFS:            {"syncfs", true, 0, errnos{eio, enospc}},
	unix.SYS_STATX:             {"statx", true, 2, errnos{eio, enomem}},
	unix.SYS_SYMLINKAT:         {"symlinkat", false, 3, errnos{enospc, eio}},
	unix.SYS_UMOUNT2:           {"umount2", false, 1, errnos{enomem}},
	unix.SYS_UNLINKAT:          {"unlinkat", true, 2, errnos{eio, enospc}},
	unix.SYS_UNSHARE:           {"unshare", false, 0, errnos{enomem, enospc}},
	unix.SYS_WRITE:             {"write", true, 0, errnos{enospc, eio}},
}

// Failures are the strikes that make a call fail with what can come of it. Reading and
// writing a pipe does not fail, nor does a socket in these ways.
func (c Call) Failures() (strikes []Strike) {
	if strings.HasPrefix(c.File, "pipe:") || strings.HasPrefix(c.File, "socket:") {
		return nil
	}
	for _, errno := range callNames[c.NR].errnos {
		if errno == unix.ENOSPC && c.NR == unix.SYS_OPENAT && c.Args[2]&unix.O_CREAT == 0 {
			continue
		}
		strikes = append(strikes, Strike{Errno: errno})
	}
	return strikes
}
