package nsmount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
)

// What golang.org/x/sys/unix lacks.
const (
	// moveMountBeneath is MOVE_MOUNT_BENEATH of linux/mount.h, Linux 6.5.
	moveMountBeneath = 0x200
	// cloneClearSighand is CLONE_CLEAR_SIGHAND of linux/sched.h, Linux 5.5.
	cloneClearSighand = 0x100000000
)

// fsContext is an fsopen(2) context under configuration.
type fsContext struct {
	f      *os.File
	fsType string
	target string
}

func openContext(fsType, target string) (*fsContext, error) {
	fd, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &OpError{Op: "fsopen", FSType: fsType, Target: target, Err: err}
	}
	return &fsContext{f: os.NewFile(uintptr(fd), "fscontext:"+fsType), fsType: fsType, target: target}, nil
}

func (c *fsContext) close() { _ = c.f.Close() }

func (c *fsContext) setString(key, value string) error {
	err := unix.FsconfigSetString(int(c.f.Fd()), key, value)
	return c.fail("fsconfig "+key, err)
}

func (c *fsContext) setFlag(key string) error {
	err := unix.FsconfigSetFlag(int(c.f.Fd()), key)
	return c.fail("fsconfig "+key, err)
}

// mount creates the superblock and a mount of it that is attached nowhere.
func (c *fsContext) mount(a Attr) (*Tree, error) {
	if err := c.fail("fsconfig create", unix.FsconfigCreate(int(c.f.Fd()))); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(int(c.f.Fd()), unix.FSMOUNT_CLOEXEC, int(a))
	if err != nil {
		return nil, c.fail("fsmount", err)
	}
	return newTree(fd, c.fsType), nil
}

// fail wraps err together with what the kernel wrote into the context: its
// messages are read one at a time, the level in the first letter (fsopen(2)).
func (c *fsContext) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	var text []string
	buf := make([]byte, 1024)
	for len(text) < 16 {
		n, rerr := unix.Read(int(c.f.Fd()), buf)
		if rerr != nil || n <= 0 {
			break
		}
		text = append(text, strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(string(buf[:n]), "e "), "w ")))
	}
	if len(text) > 0 {
		err = &contextError{errno: err, text: strings.Join(text, "; ")}
	}
	return &OpError{Op: op, FSType: c.fsType, Target: c.target, Err: err}
}

// setAttr is mount_setattr(2) on what f shows.
func setAttr(f *os.File, flags uint, attr *unix.MountAttr) error {
	err := lookup.Use(f, func(fd int) error { return unix.MountSetattr(fd, "", flags|unix.AT_EMPTY_PATH, attr) })
	if err != nil {
		return &OpError{Op: "mount_setattr", Target: f.Name(), Flags: fmt.Sprintf("set %v clear %v propagation %#x",
			Attr(attr.Attr_set), Attr(attr.Attr_clr), attr.Propagation), Err: err}
	}
	return nil
}
