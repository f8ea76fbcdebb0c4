package devmapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNone says that there is no device mapper with verity, or that we may not use it.
var ErrNone = errors.New("no device mapper with dm-verity to be had")

const controlPath = "/dev/mapper/control"

// bufferSize is what a table and its status may take, in bytes. Ours has a few hundred.
const bufferSize = 16 << 10

// control is the device mapper.
type control struct{ f *os.File }

// openControl opens the device mapper, and sees that it has verity.
func openControl() (*control, error) {
	f, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	for _, none := range []error{fs.ErrNotExist, fs.ErrPermission, unix.ENXIO, unix.ENODEV} {
		if errors.Is(err, none) {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
	}
	if err != nil {
		return nil, err
	}
	c := &control{f}
	// Loads the module. (Linux 5.2; before, only a table tells.)
	_, _, err = c.call(unix.DM_GET_TARGET_VERSION, request{name: "verity"})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(fmt.Errorf("%w: the kernel has no target verity: %w", ErrNone, err), f.Close())
	}
	if err != nil && !errors.Is(err, unix.ENOTTY) {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

func (c *control) Close() error { return c.f.Close() }

// request is what an ioctl is asked with.
type request struct {
	name, uuid string
	flags      uint32
	targets    uint32
	data       []byte
}

// call makes an ioctl, and gives the header and the data behind it.
func (c *control) call(op uint, r request) (unix.DmIoctl, []byte, error) {
	buf := make([]byte, bufferSize)
	h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	h.Version = [3]uint32{4, 0, 0}
	h.Data_size, h.Data_start = uint32(len(buf)), unix.SizeofDmIoctl
	h.Flags, h.Target_count = r.flags, r.targets
	if len(r.name) >= len(h.Name) || len(r.uuid) >= len(h.Uuid) || len(r.data) > len(buf)-unix.SizeofDmIoctl {
		return *h, nil, unix.ENAMETOOLONG
	}
	copy(h.Name[:], r.name)
	copy(h.Uuid[:], r.uuid)
	copy(buf[unix.SizeofDmIoctl:], r.data)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.f.Fd(), uintptr(op), uintptr(unsafe.Pointer(h)))
	runtime.KeepAlive(c.f)
	if errno != 0 {
		return *h, nil, errno
	}
	// Without data the kernel sets a size that ends within the header.
	start := min(int(h.Data_start), len(buf))
	return *h, buf[start:max(start, min(int(h.Data_size), len(buf)))], nil
}

// target writes one target of a table: where it begins and ends, in sectors of 512 bytes, and its parameters.
func target(sectors uint64, params string) []byte {
	b := make([]byte, unix.SizeofDmTargetSpec, unix.SizeofDmTargetSpec+len(params)+8)
	binary.NativeEndian.PutUint64(b[8:], sectors)
	copy(b[24:], "verity")
	b = append(append(b, params...), 0)
	b = append(b, make([]byte, (8-len(b)%8)%8)...)
	binary.NativeEndian.PutUint32(b[20:], uint32(len(b)))
	return b
}

// found is the only target of a device.
type found struct {
	start, sectors uint64
	text           string // its parameters, or its status
}

// onlyTarget reads an answer. It says false where the device has another target than verity, or more than one.
func onlyTarget(h unix.DmIoctl, data []byte) (found, bool) {
	if h.Target_count != 1 || len(data) < unix.SizeofDmTargetSpec || h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
		return found{}, false
	}
	if kind, _, _ := bytes.Cut(data[24:unix.SizeofDmTargetSpec], []byte{0}); string(kind) != "verity" {
		return found{}, false
	}
	s, _, ok := bytes.Cut(data[unix.SizeofDmTargetSpec:], []byte{0})
	return found{start: binary.NativeEndian.Uint64(data), sectors: binary.NativeEndian.Uint64(data[8:]), text: string(s)}, ok
}
