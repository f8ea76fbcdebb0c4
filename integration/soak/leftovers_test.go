package soak

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leftovers are things by name.
type leftovers map[string]bool

// children are the processes that this one has made, and those that were left to it.
func children(t testing.TB) leftovers {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	found := leftovers{}
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(b)) {
			found[pid] = true
		}
	}
	return found
}

// orphans are the processes that nobody waits for: an extexec that was killed has left them. They get a moment to
// end, and are collected.
func (p *place) orphans(mine ...*service) (left []string) {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left = nil
		for pid := range children(p.t) {
			n, _ := strconv.Atoi(pid)
			if p.before[pid] || slices.ContainsFunc(mine, func(s *service) bool { return s.pid() == n }) {
				continue
			}
			if got, err := unix.Wait4(n, nil, unix.WNOHANG, nil); got == n || err != nil {
				continue
			}
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			left = append(left, fmt.Sprintf("process %d %s", n, strings.TrimSpace(string(comm))))
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// loops are the loop devices of images below the place.
func (p *place) loops() (found []string) {
	p.t.Helper()
	images := map[[2]uint64]string{}
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".raw") {
			return err
		}
		fi, err := d.Info()
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && err == nil {
			images[[2]uint64{st.Dev, st.Ino}] = path
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	attached, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, a := range attached {
		f, err := os.Open("/dev/" + filepath.Base(filepath.Dir(a)))
		if err != nil {
			continue // detached meanwhile, by somebody else
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		f.Close()
		if err == nil && images[[2]uint64{info.Device, info.Inode}] != "" {
			found = append(found, f.Name()+" of "+images[[2]uint64{info.Device, info.Inode}])
		}
	}
	return found
}

// squashfses counts the images of current generations that need a loop device.
func squashfses(services []*service) (n int) {
	for _, s := range services {
		for i, v := range s.current() {
			if s.shelves[i].image && v%2 == 0 {
				n++
			}
		}
	}
	return n
}

// awaitLoops waits until so many loop devices are left: the kernel gives them back a moment after the last mount.
func (p *place) awaitLoops(want int) (found []string) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if found = p.loops(); len(found) == want || time.Now().After(end) {
			return found
		}
	}
}

// stray are files below the state directory and TMPDIR that nobody needs any more.
func (p *place) stray() (left []string) {
	p.t.Helper()
	known := []string{"lock", "state.json", "memory.json", "history.jsonl"}
	for _, dir := range []string{"state", "tmp"} {
		err := filepath.WalkDir(filepath.Join(p.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !(dir == "state" && slices.Contains(known, d.Name())) {
				left = append(left, "file "+path)
			}
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return left
}

// lost says what the services hold that they did not hold after their start.
func lost(services []*service) (left []string) {
	for _, s := range services {
		if n := s.countMounts(); n != s.mounts {
			left = append(left, fmt.Sprintf("%s: %d mounts, had %d", s.name, n, s.mounts))
		}
		// A control connection may just be being closed, and may have been when they were counted first.
		n := s.countFDs()
		for end := time.Now().Add(20 * time.Second); n > s.fds && time.Now().Before(end); time.Sleep(time.Millisecond) {
			n = s.countFDs()
		}
		if n > s.fds {
			left = append(left, fmt.Sprintf("%s: %d descriptors, had %d", s.name, n, s.fds))
		}
		s.fds = min(n, s.fds)
		f, err := os.Open(filepath.Join(s.p.state(), "record", s.name, "lock"))
		if err != nil {
			left = append(left, err.Error())
			continue
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			left = append(left, fmt.Sprintf("%s: the lock is held: %v", s.name, err))
		}
		f.Close()
	}
	return left
}
