package service

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/extexec/extexec/nsmount"
)

// A MountNamespace is one that processes of a service live in.
type MountNamespace struct {
	ID   uint64 // see [Process.MountNS]
	PIDs []int
}

// MountNamespaces lists the mount namespaces of a service's processes, given some
// of these and the unit's name ("" without a unit), by the first process in each.
// Processes that end meanwhile are passed over.
func MountNamespaces(of []int, unit string) ([]MountNamespace, error) {
	pids, err := relatives(of, unit)
	if err != nil {
		return nil, err
	}
	byID := map[uint64][]int{}
	for _, pid := range pids {
		id, err := mountNSOf(pid)
		if err != nil && !passing(err) {
			return nil, err
		}
		if err == nil {
			byID[id] = append(byID[id], pid)
		}
	}
	var all []MountNamespace
	for id, pids := range byID {
		slices.Sort(pids)
		all = append(all, MountNamespace{ID: id, PIDs: pids})
	}
	slices.SortFunc(all, func(a, b MountNamespace) int { return slices.Compare(a.PIDs, b.PIDs) })
	return all, nil
}

// Open opens the namespace through the first of its processes that is still there;
// [ErrGone] where none is.
func (n MountNamespace) Open() (*os.File, error) {
	for _, pid := range n.PIDs {
		f, err := n.through(pid)
		if err == nil || !passing(err) {
			return f, err
		}
	}
	return nil, fmt.Errorf("open mount namespace %d: %w", n.ID, ErrGone)
}

// Table reads what is mounted in the namespace through the first of its processes that
// is still there; [ErrGone] where none is.
func (n MountNamespace) Table() (*nsmount.Table, error) {
	for _, pid := range n.PIDs {
		t, err := n.tableThrough(pid)
		if err == nil || !passing(err) {
			return t, err
		}
	}
	return nil, fmt.Errorf("read the mount table of mount namespace %d: %w", n.ID, ErrGone)
}

func (n MountNamespace) tableThrough(pid int) (*nsmount.Table, error) {
	p, err := Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	t, err := p.MountTable()
	if err != nil {
		return nil, err
	}
	// Where it was read: a process that moves comes back no more.
	id, err := p.MountNS()
	if err == nil && id != n.ID {
		err = ErrGone
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// through opens the namespace through one process: [ErrGone] where that is in
// another one by now.
func (n MountNamespace) through(pid int) (*os.File, error) {
	p, err := Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	f, err := p.Namespace(Mount)
	if err != nil {
		return nil, err
	}
	id, err := MountNamespaceID(f)
	if err == nil && id != n.ID {
		err = ErrGone
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func mountNSOf(pid int) (uint64, error) {
	p, err := Open(pid)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.MountNS()
}

// A MainNamespace is the mount namespace of a unit's main process.
type MainNamespace struct {
	Unit string
	MountNamespace
}

// MainNamespaces lists the mount namespaces, other than the host's, of the processes that
// process 1 has started (or was left with) for services. Where that is systemd, these
// are the main processes; what a service starts in a sandbox or a container is a
// child of theirs.
func MainNamespaces() ([]MainNamespace, error) {
	pids, err := children(1)
	if err != nil {
		return nil, err
	}
	byID := map[uint64]*MainNamespace{}
	for _, pid := range pids {
		id, err := mountNSOf(pid)
		if err != nil && !passing(err) {
			return nil, err
		}
		if err != nil {
			continue
		}
		if m := byID[id]; m != nil {
			m.PIDs = append(m.PIDs, pid)
			continue
		}
		host, err := IsHostNamespace(id)
		if err != nil {
			return nil, err
		}
		if host {
			continue
		}
		unit, err := serviceOf(pid)
		if err != nil && !passing(err) {
			return nil, err
		}
		if unit != "" {
			byID[id] = &MainNamespace{Unit: unit, MountNamespace: MountNamespace{ID: id, PIDs: []int{pid}}}
		}
	}
	var all []MainNamespace
	for _, m := range byID {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b MainNamespace) int { return cmp.Or(strings.Compare(a.Unit, b.Unit), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// serviceOf is the service that a process belongs to, "" for none.
func serviceOf(pid int) (string, error) {
	p, err := Open(pid)
	if err != nil {
		return "", err
	}
	defer p.Close()
	unit, err := p.Unit()
	if err != nil || !strings.HasSuffix(unit, ".service") {
		return "", err
	}
	return unit, nil
}

// children lists the processes whose parent is pid, in order.
func children(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		of, err := parent(n)
		if err != nil {
			return nil, err
		}
		if of == pid {
			pids = append(pids, n)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// relatives are the processes in the cgroup of the first process that can be asked.
// By hand that is the cgroup of a whole session: of it, those that come from our
// own.
func relatives(of []int, unit string) ([]int, error) {
	for _, pid := range of {
		pids, its, err := unitOf(pid)
		switch {
		case err == nil && its != "" && its == unit:
			return pids, nil
		case err == nil:
			return descendants(pids, of)
		case !passing(err):
			return nil, err
		}
	}
	return nil, nil
}

// unitOf lists the processes of the unit of a process, and names it.
func unitOf(pid int) (pids []int, unit string, err error) {
	p, err := Open(pid)
	if err != nil {
		return nil, "", err
	}
	defer p.Close()
	if pids, err = p.UnitProcesses(); err != nil {
		return nil, "", err
	}
	unit, err = p.Unit()
	return pids, unit, err
}

// descendants are those of the processes that are one of these or were started by
// one.
func descendants(pids, from []int) (some []int, err error) {
	for _, pid := range pids {
		is, err := descends(pid, from)
		if err != nil {
			return nil, err
		}
		if is {
			some = append(some, pid)
		}
	}
	return some, nil
}

func descends(pid int, from []int) (is bool, err error) {
	for range 100 {
		if slices.Contains(from, pid) {
			return true, nil
		}
		if pid <= 1 {
			return false, nil
		}
		if pid, err = parent(pid); err != nil {
			return false, err
		}
	}
	return false, nil
}

// parent is 0 where there is none, or the process has ended.
func parent(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil && !passing(err) {
		return 0, err
	}
	if err != nil {
		return 0, nil
	}
	return parentOf(b), nil
}

// parentOf reads a /proc/PID/stat.
func parentOf(stat []byte) int {
	// The name, in parentheses, may have anything in it: proc_pid_stat(5).
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(string(f[1]), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
