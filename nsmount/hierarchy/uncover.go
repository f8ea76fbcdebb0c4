package hierarchy

import (
	"path"
	"slices"
	"strings"

	"github.com/extexec/extexec/nsmount"
)

// Covers tells whether the exchange puts the new tree on top of something that other
// namespaces may follow.
func (s *Staged) Covers() bool {
	return (s.mode == onTop || s.mode == attach) && s.Survey.shared
}

// Uncovers lists, for each of other namespaces by its mount table, the mounts that the
// exchange would take out of sight there. Where the new tree goes on top, what follows
// the service's mount gets it on top as well, and what such a namespace has mounted of
// its own below the hierarchy lies beneath then: what that hides shows. What is carried
// is in the new tree. (A tree that goes beneath leaves them as they are: a mount with
// children is not unmounted by propagation.)
func (s *Staged) Uncovers(others []*nsmount.Table) [][]string {
	points := make([][]string, len(others))
	if !s.Covers() {
		return points
	}
	// Where the new tree is attached, within the file system of what it lies on.
	on := path.Join(s.Survey.on.Root, strings.TrimPrefix(s.Survey.Point, s.Survey.on.Point))
	for i, follows := range followers(s.Survey.on.Shared, others) {
		for _, m := range follows {
			if !within(on, m.Root) {
				continue
			}
			place := path.Join(m.Point, strings.TrimPrefix(on, m.Root))
			points[i] = append(points[i], s.below(others[i].Children(m.ID), place)...)
		}
	}
	return points
}

// below are those of the mounts that lie below a place and are not carried. Where one of
// them is on the place itself, the kernel puts the new tree beneath that.
func (s *Staged) below(children []*nsmount.Mount, place string) (points []string) {
	for _, c := range children {
		rel, below := strings.CutPrefix(c.Point, strings.TrimSuffix(place, "/")+"/")
		switch {
		case c.Point == place:
			return nil
		case below && !slices.ContainsFunc(s.Carried, func(k Carried) bool { return k.hides(rel) }):
			points = append(points, c.Point)
		}
	}
	return points
}

// followers are the mounts of each table that get what is mounted on a peer group: its
// members, its slaves, and theirs, through whichever of the namespaces.
func followers(group int, tables []*nsmount.Table) [][]*nsmount.Mount {
	groups := map[int]bool{group: true}
	for known := 0; known < len(groups); {
		known = len(groups)
		for _, t := range tables {
			for _, m := range t.Mounts {
				if m.Shared != 0 && groups[m.Master] {
					groups[m.Shared] = true
				}
			}
		}
	}
	found := make([][]*nsmount.Mount, len(tables))
	for i, t := range tables {
		for j := range t.Mounts {
			if m := &t.Mounts[j]; groups[m.Shared] || groups[m.Master] {
				found[i] = append(found[i], m)
			}
		}
	}
	return found
}
