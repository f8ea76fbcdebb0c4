package status

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// A Namespace is another mount namespace than the one of the record.
type Namespace struct {
	MountNS     uint64      `json:"mount_ns"`
	PIDs        []int       `json:"pids"` // of the unit
	Hierarchies []Hierarchy `json:"hierarchies"`
	// Stale says that a hierarchy shows an older exchange than the current one.
	Stale bool `json:"stale,omitempty"`
}

// elsewhere looks at the unit's processes that live in other mount namespaces: a
// sandbox that the service makes, say. What was exchanged by propagation is current
// there, the rest is not. Processes without overlays of this name are none of ours.
func (s *Status) elsewhere(r *state.Record) {
	if s.State != Live || len(s.PIDs) == 0 {
		return
	}
	byNS := map[uint64][]int{}
	for _, pid := range unitProcesses(s.PIDs, r.Unit) {
		if ns, ok := namespaceOf(pid); ok && ns != r.MountNS {
			byNS[ns] = append(byNS[ns], pid)
		}
	}
	for ns, pids := range byNS {
		if n, ok := s.lookAt(r, ns, pids); ok {
			s.Namespaces = append(s.Namespaces, n)
			if n.Stale {
				s.Stale += len(pids)
			}
		}
	}
	slices.SortFunc(s.Namespaces, func(a, b Namespace) int { return slices.Compare(a.PIDs, b.PIDs) })
	if s.Stale > 0 {
		s.note("processes of the service in other mount namespaces see an older generation (%d): restart them", s.Stale)
	}
}

// unitProcesses are those in the cgroup of the first process that can be asked. By
// hand that is the cgroup of a whole session: of it, those that come from our own.
func unitProcesses(of []int, unit string) []int {
	for _, pid := range of {
		p, err := service.Open(pid)
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
	// The name, in parentheses, may have anything in it: proc_pid_stat(5).
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return 0
	}
	return n
}

func namespaceOf(pid int) (uint64, bool) {
	p, err := service.Open(pid)
	if err != nil {
		return 0, false // it ended meanwhile
	}
	defer p.Close()
	ns, err := p.MountNS()
	return ns, err == nil
}

// lookAt compares what a namespace shows with the record; ok is false where it has
// nothing of ours.
func (s *Status) lookAt(r *state.Record, ns uint64, pids []int) (n Namespace, ok bool) {
	n = Namespace{MountNS: ns, PIDs: pids}
	for _, pid := range pids {
		table, err := tableOf(pid, ns)
		if err != nil {
			continue
		}
		for _, h := range r.Current.Hierarchies {
			got := compare(h, r, s.Name, table)
			got.Carried = nil
			n.Hierarchies = append(n.Hierarchies, got)
			if got.Live != nil {
				ok = true
				n.Stale = n.Stale || got.Live.Serial < r.Current.Serial
			}
		}
		return n, ok
	}
	return n, false
}
