package status

import (
	"slices"

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
	for _, pid := range unitProcesses(s.PIDs) {
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

// unitProcesses are those in the cgroup of the first process that can be asked.
func unitProcesses(of []int) []int {
	for _, pid := range of {
		p, err := service.Open(pid)
		if err != nil {
			continue
		}
		pids, err := p.UnitProcesses()
		_ = p.Close()
		if err == nil {
			return pids
		}
	}
	return nil
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
