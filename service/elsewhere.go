package service

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A MountNamespace is one that processes of a service live in.
type MountNamespace struct {
	ID   uint64 // see [Process.MountNS]
	PIDs []int
}

// MountNamespaces lists the mount namespaces of a service's processes, given some
// of these and the unit's name ("" without a unit), by the first process in each.
// Processes that end meanwhile are passed over.
func MountNamespaces(of []int, unit string) []MountNamespace {
	byID := map[uint64][]int{}
	for _, pid := range relatives(of, unit) {
		if id, ok := mountNSOf(pid); ok {
			byID[id] = append(byID[id], pid)
		}
	}
	var all []MountNamespace
	for id, pids := range byID {
		slices.Sort(pids)
		all = append(all, MountNamespace{ID: id, PIDs: pids})
	}
	slices.SortFunc(all, func(a, b MountNamespace) int { return slices.Compare(a.PIDs, b.PIDs) })
	return all
}

// Open opens the namespace through the first of its processes that is still there;
// [ErrGone] where none is.
func (n MountNamespace) Open() (*os.File, error) {
	for _, pid := range n.PIDs {
		p := openIn(pid, n.ID)
		if p == nil {
			continue
		}
		f, err := p.Namespace(Mount)
		_ = p.Close()
		if err != nil {
			continue
		}
		if id, err := MountNamespaceID(f); err == nil && id == n.ID {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("open mount namespace %d: %w", n.ID, ErrGone)
}

func openIn(pid int, ns uint64) *Process {
	p, err := Open(pid)
	if err != nil {
		return nil
	}
	if id, err := p.MountNS(); err != nil || id != ns {
		_ = p.Close()
		return nil
	}
	return p
}

func mountNSOf(pid int) (uint64, bool) {
	p, err := Open(pid)
	if err != nil {
		return 0, false // it ended meanwhile
	}
	defer p.Close()
	id, err := p.MountNS()
	return id, err == nil
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
		id, ok := mountNSOf(pid)
		if !ok {
			continue
		}
		if m := byID[id]; m != nil {
			m.PIDs = append(m.PIDs, pid)
			continue
		}
		if host, err := IsHostNamespace(id); err != nil || host {
			continue
		}
		if unit := serviceOf(pid); unit != "" {
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
func serviceOf(pid int) string {
	p, err := Open(pid)
	if err != nil {
		return ""
	}
	defer p.Close()
	if unit, err := p.Unit(); err == nil && strings.HasSuffix(unit, ".service") {
		return unit
	}
	return ""
}

// children lists the processes whose parent is pid, in order.
func children(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && parent(n) == pid {
			pids = append(pids, n)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// relatives are the processes in the cgroup of the first process that can be asked.
// By hand that is the cgroup of a whole session: of it, those that come from our
// own.
func relatives(of []int, unit string) []int {
	for _, pid := range of {
		p, err := Open(pid)
		if err != nil {
			continue
		}
		pids, err := p.UnitProcesses()
		its, unitErr := p.Unit()
		_ = p.Close()
		if err != nil {
			continue
		}
		if unitErr != nil || its == "" || its != unit {
			pids = slices.DeleteFunc(pids, func(pid int) bool { return !descends(pid, of) })
		}
		return pids
	}
	return nil
}

// descends says whether a process is one of these or was started by one.
func descends(pid int, from []int) bool {
	for range 100 {
		if slices.Contains(from, pid) {
			return true
		}
		if pid <= 1 {
			return false
		}
		pid = parent(pid)
	}
	return false
}

// parent is 0 where there is none, or the process has ended.
func parent(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parentOf(b)
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
