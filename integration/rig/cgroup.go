package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup is a cgroup2 directory that this package made.
type cgroup string

// cgroup2Mount finds where cgroup2 is mounted: at /sys/fs/cgroup, or below it on a hybrid host.
func cgroup2Mount() (string, error) {
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.fstype == "cgroup2" {
			return m.point, nil
		}
	}
	return "", errors.New("no cgroup2 in /proc/self/mountinfo")
}

// newCgroup makes the group; one of that name that is left over must have been removed before.
func newCgroup(path string) (cgroup, error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", fmt.Errorf("make cgroup: %w", err)
	}
	return cgroup(path), nil
}

// open returns the group's directory, for CLONE_INTO_CGROUP; the caller closes it.
func (c cgroup) open() (*os.File, error) {
	return os.OpenFile(string(c), unix.O_PATH|unix.O_DIRECTORY, 0)
}

// groups lists c and every group below it, parents first.
func (c cgroup) groups() ([]cgroup, error) {
	var all []cgroup
	err := filepath.WalkDir(string(c), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // groups come and go while we look
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			all = append(all, cgroup(p))
		}
		return nil
	})
	return all, err
}

// pids lists the processes of this group alone, as the host numbers them.
func (c cgroup) pids() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(string(c), "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("read %s/cgroup.procs: %w", c, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// remove kills what is in the group and takes it and everything below away.
func (c cgroup) remove() error {
	err := os.WriteFile(filepath.Join(string(c), "cgroup.kill"), []byte("1"), 0o200)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = c.waitEmpty(10 * time.Second)
	}
	if err != nil {
		return fmt.Errorf("empty cgroup %s: %w", c, err)
	}
	all, err := c.groups()
	if err != nil {
		return err
	}
	for _, g := range slices.Backward(all) {
		if err := os.Remove(string(g)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

// waitEmpty waits until no process is left in the group or below; the kernel signals it on cgroup.events.
func (c cgroup) waitEmpty(limit time.Duration) error {
	f, err := os.Open(filepath.Join(string(c), "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	deadline := time.Now().Add(limit)
	for {
		b := make([]byte, 256)
		n, err := f.ReadAt(b, 0)
		if n == 0 {
			return err
		}
		if strings.Contains(string(b[:n]), "populated 0") {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("processes do not go away")
		}
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(p, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
