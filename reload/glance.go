package reload

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
)

// glance tells whether all is as the record says, without a visit to the service's
// namespace: what would be picked, and what is mounted on the hierarchies. It is for
// --if-changed, which whoever watches a directory calls often and mostly for nothing.
// Where it is not sure, it says no, and the reload goes its way, with errors and all.
func (t *transaction) glance(ctx context.Context, target *target, is *situation) (picked []*extension.Picked, same bool) {
	current := is.record.Current
	sameHierarchy := func(h string, c state.Hierarchy) bool { return h == c.Path && c.Point == "" } // a link may lead elsewhere by now
	if t.Force || t.back != nil || target.fresh || is.record.Pending != nil || !slices.EqualFunc(is.hierarchies, current.Hierarchies, sameHierarchy) {
		return nil, false
	}
	type seen struct {
		picks
		table *nsmount.Table
		bad   []string
	}
	now, err := nsmount.Do(ctx, t.host, func() (s seen, err error) {
		if s.table, err = target.table(); err != nil {
			return s, err
		}
		s.bad = corrupted(current)
		s.picks, err = pickAll(is.settings, is.memory, pickRules{anyPath: is.flags.AnyPath, live: &is.record.Current})
		return s, err
	})
	if err != nil || len(now.bad) > 0 || !Compare(current, now.picked).None() || is.dropped() || !mounted(now.table, current, restrictions(is.settings)) {
		return nil, false
	}
	t.res.Generation = current
	t.res.Warnings = append(t.res.Warnings, now.warnings...)
	return now.picked, true
}

// table reads the mount table of the service, from outside. Must run in the host
// view.
func (t *target) table() (*nsmount.Table, error) {
	table, err := t.process.MountTable()
	if err != nil {
		return nil, err
	}
	if id, err := t.process.MountNS(); err != nil || id != t.id {
		return nil, cmp.Or(err, fmt.Errorf("process %d has left its mount namespace", t.process.PID()))
	}
	return table, nil
}

// mounted tells whether every hierarchy shows the exchange of a generation, as
// restricted as it should be, and nothing of ours is left from another one.
func mounted(table *nsmount.Table, g state.Generation, restricted nsmount.Attr) bool {
	for _, h := range g.Hierarchies {
		stack := table.Stack(h.Path)
		ours := 0
		for i, m := range stack {
			owner, source := hierarchy.OwnerOf(m)
			switch {
			case owner == hierarchy.Foreign:
			case owner == hierarchy.Ours && i == len(stack)-1 && source.Generation == g.Number && source.Serial == g.Serial && m.Attr&restricted == restricted:
				ours++
			default:
				return false
			}
		}
		if ours == 0 && h.Layers > 0 {
			return false
		}
	}
	return true
}
