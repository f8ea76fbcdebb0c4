package status

import (
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// A Namespace is another mount namespace than the one of the record.
type Namespace struct {
	MountNS     uint64      `json:"mount_ns"`
	PIDs        []int       `json:"pids"` // of the unit
	Hierarchies []Hierarchy `json:"hierarchies"`
	// OldMounts are mount points elsewhere that show an older exchange: what the
	// service's sandbox has bound from a hierarchy.
	OldMounts []string `json:"old_mounts,omitempty"`
	// Stale says that something there shows an older exchange than the current one.
	Stale bool `json:"stale,omitempty"`
}

// elsewhere looks at the unit's processes that live in other mount namespaces: a
// sandbox that the service makes, say. What was exchanged by propagation is current
// there, the rest is not. Processes without overlays of this name are none of ours.
func (s *Status) elsewhere(u *state.Unit, r *state.Record) {
	if s.State != Live || len(s.PIDs) == 0 {
		return
	}
	all, err := service.MountNamespaces(s.PIDs, r.Unit)
	if err != nil {
		s.note("what the unit's processes in other mount namespaces see is not known: %v", err)
	}
	for _, ns := range all {
		if ns.ID == r.MountNS {
			continue
		}
		if n, ok := s.lookAt(r, ns); ok {
			s.Namespaces = append(s.Namespaces, n)
			if n.Stale {
				s.Stale += len(ns.PIDs)
			}
		}
	}
	if s.Stale > 0 {
		s.note("processes of the service in other mount namespaces see an older generation (%d): write Namespaces=unit and run %q, or restart them", s.Stale, u.Hint("repair"))
	}
}

// lookAt compares what a namespace shows with the record; ok is false where it has
// nothing of ours.
func (s *Status) lookAt(r *state.Record, ns service.MountNamespace) (n Namespace, ok bool) {
	n = Namespace{MountNS: ns.ID, PIDs: ns.PIDs}
	for _, pid := range ns.PIDs {
		table, err := tableOf(pid, ns.ID)
		if err != nil {
			continue
		}
		known := map[string]bool{}
		for _, h := range r.Current.Hierarchies {
			got := compare(h, r, s.Name, table)
			got.Carried = nil
			n.Hierarchies = append(n.Hierarchies, got)
			known[pointOf(h)] = true
			if got.Live != nil {
				ok = true
				n.Stale = n.Stale || got.Live.Serial < r.Current.Serial
			}
		}
		n.OldMounts = oldMounts(table, s.Name, r.Current.Serial, known)
		n.Stale = n.Stale || len(n.OldMounts) > 0
		return n, ok || n.Stale
	}
	return n, false
}

// oldMounts are the places but those that are known where an older exchange of the
// name is mounted on top.
func oldMounts(t *nsmount.Table, name string, serial uint64, known map[string]bool) (points []string) {
	for i := range t.Mounts {
		m := &t.Mounts[i]
		source, ours := hierarchy.ShownBy(m)
		if known[m.Point] || !ours || !source.Names(name) || source.Serial >= serial {
			continue
		}
		if stack := t.Stack(m.Point); len(stack) > 0 && stack[len(stack)-1] == m {
			points = append(points, m.Point)
		}
	}
	return points
}
