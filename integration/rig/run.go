package rig

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A run is what one test process has on the host: a directory below the cache, locked while the process
// lives, and cgroups with the directory's name in theirs.
type run struct {
	id   string
	dir  string
	lock *os.File
	last atomic.Int32 // number of the last container

	mu     sync.Mutex
	shared map[Suite]*sharedMachine
	built  map[string]func() (string, error) // by package
}

// A sharedMachine is booted by the first test that asks for it.
type sharedMachine struct {
	boot sync.Once
	m    *machine
	err  error
}

// newRun removes what interrupted runs left behind, and makes this one's directory.
func newRun() (*run, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	all := filepath.Join(cache, "run")
	if err := os.MkdirAll(all, 0o755); err != nil {
		return nil, fmt.Errorf("make rig cache: %w", err)
	}
	// Held from the sweep until our own directory is locked: else two runs would sweep each other.
	sweeping, err := lockFile(filepath.Join(cache, "sweep.lock"), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock rig cache: %w", err)
	}
	defer sweeping.Close()
	if err := errors.Join(sweep(all), pruneCache(cache, time.Now())); err != nil {
		return nil, fmt.Errorf("clean up after an interrupted run: %w", err)
	}
	id := strings.ToLower(rand.Text()[:6])
	r := &run{id: id, dir: filepath.Join(all, id), shared: map[Suite]*sharedMachine{}, built: map[string]func() (string, error){}}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	r.lock, err = lockFile(filepath.Join(r.dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
	return r, err
}

// newDir makes the directory of one container; the id is unique on this host.
func (r *run) newDir(s Suite) (id, dir string, err error) {
	id = fmt.Sprintf("%s-%s-%d", s, r.id, r.last.Add(1))
	dir = filepath.Join(r.dir, id)
	return id, dir, os.Mkdir(dir, 0o755)
}

// cgroupPath is where the container's cgroup is. The name carries the run's, so that a later run can tell
// which are left over, and the cache's, so that it leaves those of another cache alone.
func (r *run) cgroupPath(container string) string {
	mount, err := cgroup2Mount()
	if err != nil {
		panic("rig: used where it is not available: " + err.Error())
	}
	return filepath.Join(mount, cgroupPrefix(filepath.Dir(r.dir))+r.id+"-"+container)
}

// cgroupPrefix begins the names of a cache's cgroups. The same path is another directory in a root of its own,
// which may show the same cgroups: so the directory itself counts.
func cgroupPrefix(runs string) string {
	var st unix.Stat_t
	if err := unix.Stat(runs, &st); err != nil {
		panic("rig: used before its cache was made: " + err.Error())
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", runs, st.Dev, st.Ino))
	return "extexec-rig-" + hex.EncodeToString(sum[:])[:8] + "-"
}

// sharedOf returns the suite's container that all tests of this process share.
func (r *run) sharedOf(s Suite) (*machine, error) {
	r.mu.Lock()
	sm := r.shared[s]
	if sm == nil {
		sm = &sharedMachine{}
		r.shared[s] = sm
	}
	r.mu.Unlock()
	sm.boot.Do(func() { sm.m, sm.err = bootMachine(r, s, Options{}) })
	return sm.m, sm.err
}

// close stops the shared containers, says what the tests left behind in them or on the host, and removes
// the run's directory.
func (r *run) close() error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, sm := range r.shared {
		if sm.m == nil {
			continue
		}
		wg.Go(func() {
			err := errors.Join(sm.m.leaks(), sm.m.stop())
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	errs = append(errs, r.hostLeaks(), removeTree(r.dir))
	r.lock.Close()
	return errors.Join(errs...)
}

// sweep removes the runs whose process is gone.
func sweep(runs string) error {
	dirs, err := os.ReadDir(runs)
	if err != nil {
		return err
	}
	var errs []error
	alive := map[string]bool{}
	for _, d := range dirs {
		dir := filepath.Join(runs, d.Name())
		lock, err := lockFile(filepath.Join(dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			alive[d.Name()] = true
			continue
		}
		if err == nil {
			err = errors.Join(removeCgroups(cgroupPrefix(runs)+d.Name()+"-"), detachLoops(dir), removeTree(dir))
			lock.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, sweepCgroups(cgroupPrefix(runs), alive))...)
}

// sweepCgroups removes cgroups of runs that have no directory any more.
func sweepCgroups(prefix string, alive map[string]bool) error {
	groups, err := cgroupsNamed(prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range groups {
		run, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(string(g)), prefix), "-")
		if !alive[run] {
			errs = append(errs, g.remove())
		}
	}
	return errors.Join(errs...)
}

// cgroupsNamed lists the top-level cgroups whose name begins with the prefix.
func cgroupsNamed(prefix string) ([]cgroup, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(mount, prefix+"*"))
	groups := make([]cgroup, len(paths))
	for i, p := range paths {
		groups[i] = cgroup(p)
	}
	return groups, err
}

func removeCgroups(prefix string) error {
	groups, err := cgroupsNamed(prefix)
	for _, g := range groups {
		err = errors.Join(err, g.remove())
	}
	return err
}

// removeTree removes a directory, but never through a mount.
func removeTree(dir string) error {
	below, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("remove %s: something is still mounted there: %v", dir, below)
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mountsBelow lists what this process sees mounted at the directory or below it.
func mountsBelow(dir string) ([]mount, error) {
	all, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var below []mount
	for _, m := range all {
		if m.point == dir || strings.HasPrefix(m.point, dir+"/") {
			below = append(below, m)
		}
	}
	return below, nil
}
