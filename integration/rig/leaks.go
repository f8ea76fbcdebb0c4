package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A snapshot is what a container had at one moment; what it has more at the end, a test left behind.
type snapshot map[string]bool

// watched are the directories of which every entry is in the snapshot.
var watched = []string{
	"/etc", "/opt", "/root", "/run/extexec", "/run/portables", "/run/systemd/propagate", "/run/systemd/system",
	"/run/systemd/transient", "/srv", "/tmp", "/usr", "/var/lib/extexec", "/var/lib/extensions", "/var/tmp",
}

// systemdsOwn matches what a running system makes by itself: its own services when something calls them,
// sockets and private directories of those, automounts; and the directories that extexec keeps its records in.
var systemdsOwn = regexp.MustCompile(`^(unit|cgroup|mount|file) \S*?(` +
	`systemd(-|\\x2d)|run-credentials-|dbus-|user@|user-|session-|user\.slice|modprobe@|proc-sys-fs-binfmt|/proc/sys/fs/binfmt_misc|/run/credentials|/run/user` +
	`|/etc/\.updated|/etc/\.pwd\.lock|/var/\.updated)` +
	`|^file (/run|/var/lib)/extexec(/units)?$`) // where records are kept; each of them counts

// snapshot notes mounts, units, cgroups with processes in them, loop devices and files.
func (m *machine) snapshot() (snapshot, error) {
	s := snapshot{}
	return s, errors.Join(m.noteMounts(s), m.noteUnits(s), m.noteCgroups(s), m.noteLoops(s), m.noteFiles(s))
}

func (m *machine) noteMounts(s snapshot) error {
	mounts, err := readMounts(fmt.Sprintf("/proc/%d/mountinfo", m.leader))
	for _, mt := range mounts {
		s["mount "+mt.point+" "+mt.fstype+" "+mt.source] = true
	}
	return err
}

func (m *machine) noteUnits(s snapshot) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	r, err := m.exec(ctx, Command{Argv: []string{"systemctl", "list-units", "--plain", "--no-legend", "--full",
		"--type=service,socket,path,timer,scope,mount,automount", "--state=active,reloading,failed,activating,deactivating"}})
	if err != nil {
		return err
	}
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 0 {
			s["unit "+f[0]] = true
		}
	}
	return nil
}

func (m *machine) noteCgroups(s snapshot) error {
	groups, err := m.cgroup.groups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		pids, err := g.pids()
		if err != nil {
			return err
		}
		if len(pids) > 0 {
			s["cgroup "+strings.TrimPrefix(string(g), string(m.cgroup))] = true
		}
	}
	return nil
}

// noteLoops notes loop devices of files on the container's disk and on its own file systems in memory.
func (m *machine) noteLoops(s snapshot) error {
	loops, err := loopsBelow(m.dir)
	for _, l := range loops {
		s["loop "+l.String()] = true
	}
	return err
}

func (m *machine) noteFiles(s snapshot) error {
	return m.inside.do(func() error {
		var errs []error
		for _, dir := range watched {
			errs = append(errs, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
				if err == nil {
					s["file "+p] = true
				}
				return ignoreMissing(err)
			}))
		}
		return errors.Join(errs...)
	})
}

// leaks says what the container has that it had not after its boot.
func (m *machine) leaks() error {
	now, err := m.snapshot()
	if err != nil {
		return fmt.Errorf("look for leftovers in %s: %w", m.id, err)
	}
	var left []string
	for item := range now {
		if !m.before[item] && !systemdsOwn.MatchString(item) {
			left = append(left, item)
		}
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	const most = 30
	if len(left) > most {
		left = append(left[:most], fmt.Sprintf("and %d more", len(left)-most))
	}
	return fmt.Errorf("left behind in %s:\n  %s", m.id, strings.Join(left, "\n  "))
}

// hostLeaks says what the run's containers have left behind on the host. All of them are stopped.
func (r *run) hostLeaks() error {
	var left []string
	mounts, err := mountsBelow(r.dir)
	for _, m := range mounts {
		left = append(left, "mount "+m.String())
	}
	groups, err2 := cgroupsNamed(cgroupPrefix(filepath.Dir(r.dir)) + r.id + "-")
	for _, g := range groups {
		left = append(left, "cgroup "+string(g))
	}
	dirs, err3 := filepath.Glob(filepath.Join(r.dir, "*", "root"))
	for _, d := range dirs {
		left = append(left, "container "+d)
	}
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind on the host:\n  %s", strings.Join(left, "\n  "))
	}
	return nil
}
