package image

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/turn"
)

const (
	loopControl = "/dev/loop-control"
	// loopWait is how long others may be faster, of whom there can be hundreds on a machine that is
	// busy already: less than a reload may take.
	loopWait = 20 * time.Second
)

// errLoopTaken says that someone else was faster.
var errLoopTaken = errors.New("the loop device was taken by someone else")

// attachLoop gives a read-only loop device, open, for the part of the image at offset with the given size, all in
// bytes. The device goes when the file is closed and nothing is mounted from it. Needs LOOP_CONFIGURE (Linux 5.8).
func attachLoop(image *os.File, offset, size int64, sectorSize uint32) (*os.File, error) {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, noLoop(err)
	}
	defer control.Close()
	begin := time.Now()
	// Between asking for a free device and taking it another may take it: of two hundred who do that at once, each but
	// one would come too late, time and again. systemd locks that file for the same purpose
	// (loop_device_make_internal of its loop-util.c); who does not is met by trying again.
	turn.Wait(control, loopWait)
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, noLoop(&fs.PathError{Op: "find free device", Path: loopControl, Err: err})
		}
		dev, err := configureLoop(fmt.Sprintf("/dev/loop%d", n), image, offset, size, sectorSize)
		if !errors.Is(err, errLoopTaken) {
			return dev, err
		}
		if time.Since(begin) > loopWait {
			return nil, fmt.Errorf("no loop device to be had in %s: %w each time: try again when fewer images are mounted at once", loopWait, err)
		}
		time.Sleep(rand.N(loopPause))
	}
}

// loopPause is how long is paused at most; several who do this at once get out of step.
const loopPause = 5 * time.Millisecond

// configureLoop opens the loop device and makes it show the image.
func configureLoop(path string, image *os.File, offset, size int64, sectorSize uint32) (*os.File, error) {
	// Opened for reading only: that alone makes the device read-only, whatever the flags say.
	dev, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, noLoop(err)
	}
	config := &unix.LoopConfig{
		Fd:   uint32(image.Fd()),
		Size: sectorSize,
		Info: unix.LoopInfo64{
			Offset:    uint64(offset),
			Sizelimit: uint64(size),
			Flags:     unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR,
		},
	}
	err = unix.IoctlLoopConfigure(int(dev.Fd()), config)
	runtime.KeepAlive(image)
	switch {
	case errors.Is(err, unix.EBUSY):
		err = errLoopTaken
	case err != nil:
		err = &fs.PathError{Op: "configure loop device", Path: path, Err: err}
	default:
		err = checkLoop(dev, image, config.Info)
	}
	if err != nil {
		_ = dev.Close()
		return nil, err
	}
	return dev, nil
}

// checkLoop makes sure that the device shows what it was told to, and cannot write.
func checkLoop(dev, image *os.File, want unix.LoopInfo64) error {
	got, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
	if err != nil {
		return &fs.PathError{Op: "read loop device", Path: dev.Name(), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: image.Name(), Err: err}
	}
	if got.Device != st.Dev || got.Inode != st.Ino || got.Offset != want.Offset || got.Sizelimit != want.Sizelimit {
		return fmt.Errorf("check loop device %q: it shows another file, or another part of it", dev.Name())
	}
	if got.Flags&want.Flags != want.Flags {
		return fmt.Errorf("check loop device %q: its flags are %#x, and were to be %#x", dev.Name(), got.Flags, want.Flags)
	}
	return nil
}

// noLoop explains why there are no loop devices here.
func noLoop(err error) error {
	const instead = "an erofs image without a partition table needs none (Linux 6.12)"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("no loop device to be had: %w: PrivateDevices= and DevicePolicy= of a unit and most containers hide them, "+
			"DeviceAllow=/dev/loop-control rw and DeviceAllow=block-loop rw let them in, modprobe loop loads them; %s", err, instead)
	}
	return fmt.Errorf("no loop device to be had: %w; %s", err, instead)
}
