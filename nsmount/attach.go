package nsmount

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
)

// Attach mounts the tree on what at shows, on top of anything that is mounted
// there. at is an O_PATH descriptor of the calling thread's namespace. The tree
// is used up; closing it is still the caller's.
func (t *Tree) Attach(at *os.File) error { return t.move(at, 0) }

// AttachBeneath mounts the tree beneath the mount whose root at shows: nothing
// changes for anyone until that mount goes. [ErrNotSupported] before Linux 6.5.
// The kernel refuses (EINVAL) where the mount above is locked by a user
// namespace, and where at is no mount's root.
func (t *Tree) AttachBeneath(at *os.File) error {
	if !HaveBeneath() {
		return &OpError{Op: "move_mount", Target: at.Name(), Flags: "beneath", Err: ErrNotSupported}
	}
	return t.move(at, moveMountBeneath)
}

func (t *Tree) move(at *os.File, flags int) error {
	err := lookup.Use(t.f, func(from int) error {
		return lookup.Use(at, func(to int) error {
			return unix.MoveMount(from, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH|flags)
		})
	})
	if err != nil {
		name := ""
		if flags&moveMountBeneath != 0 {
			name = "beneath"
		}
		return &OpError{Op: "move_mount", Target: at.Name(), Flags: name, Err: err}
	}
	t.attached.Store(true)
	return nil
}

// DetachTop lazily unmounts the topmost mount at the place that at shows, with
// what is mounted below it. It changes the calling thread's working directory,
// so it must be called on a thread whose working directory nobody relies on:
// umount2(2) takes a path, and the only path that means a descriptor whatever
// happens around it is the working directory.
func DetachTop(at *os.File) error {
	if err := lookup.Use(at, unix.Fchdir); err != nil {
		return &OpError{Op: "fchdir", Target: at.Name(), Err: err}
	}
	if err := unix.Unmount(".", unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return &OpError{Op: "umount2", Target: at.Name(), Flags: "detach", Err: err}
	}
	return nil
}

// HaveBeneath tells whether the kernel knows MOVE_MOUNT_BENEATH (Linux 6.5). An
// unknown flag is EINVAL before the descriptors are looked at, a known one EBADF
// after it. Without CAP_SYS_ADMIN the answer is no.
func HaveBeneath() bool {
	err := unix.MoveMount(-1, "", -1, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH|moveMountBeneath)
	return errors.Is(err, unix.EBADF)
}
