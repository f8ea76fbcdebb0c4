package service

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// namespaceIoctl is ioctl(NS_GET_MNTNS_ID), linux/nsfs.h, Linux 6.11: the 64-bit
// id that is never given twice.
func namespaceIoctl(fd int) (uint64, error) {
	var id uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_MNTNS_ID, uintptr(unsafe.Pointer(&id)))
	if errno != 0 {
		return 0, errno
	}
	return id, nil
}
