package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// A file is a file's identity on this machine.
type file struct{ dev, ino uint64 }

// A loopDevice is one that has a backing file.
type loopDevice struct {
	path    string
	backing file
	name    string // of the backing file, as sysfs shows it here
}

func (l loopDevice) String() string { return fmt.Sprintf("%s of %s", l.path, l.name) }

// attachedLoops lists the machine's loop devices that have a backing file, whoever made them.
func attachedLoops() ([]loopDevice, error) {
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var all []loopDevice
	for _, n := range names {
		name, err := os.ReadFile(n)
		if err != nil { // gone, or being detached
			continue
		}
		l := loopDevice{path: "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(n))), name: string(name[:max(0, len(name)-1)])}
		info, err := loopInfo(l.path)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.backing = file{dev: info.Device, ino: info.Inode}
		all = append(all, l)
	}
	return all, nil
}

// Loops lists the loop devices of files on the container's disk.
func (c *Container) Loops() []string {
	c.t.Helper()
	all, err := loopsBelow(c.m.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, l := range all {
		names = append(names, l.String())
	}
	return names
}

func loopInfo(path string) (*unix.LoopInfo64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return nil, &fs.PathError{Op: "LOOP_GET_STATUS64", Path: path, Err: err}
	}
	return info, nil
}

// loopsBelow lists the loop devices whose backing file is below dir. Loop devices are machine-wide and the
// path that the kernel shows of a backing file depends on who looks, so files are told by inode.
func loopsBelow(dir string) ([]loopDevice, error) {
	all, err := attachedLoops()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	files := map[file]bool{}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			files[file{dev: st.Dev, ino: st.Ino}] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var below []loopDevice
	for _, l := range all {
		if files[l.backing] {
			below = append(below, l)
		}
	}
	return below, nil
}

// detachLoops gives back the loop devices of files below dir.
func detachLoops(dir string) error {
	loops, err := loopsBelow(dir)
	for _, l := range loops {
		f, e := os.Open(l.path)
		if e == nil {
			e = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
			f.Close()
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("detach %s: %w", l, e))
		}
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
