package hierarchy

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// bareRoot is the mount that all hierarchies are plain directories of: the root
// of the namespace, where nothing but the overlays is mounted on the hierarchies or
// below, nor where os-release is looked up. A clone of it alone then shows all
// bases, and no copy of the namespace has to be made and peeled. nil where that is
// not so.
func (v *View) bareRoot(seen carrySources, table *nsmount.Table) *nsmount.Mount {
	var root *nsmount.Mount
	ours := map[int]bool{}
	for i, s := range v.Surveys {
		if s.Err != nil {
			continue
		}
		below := seen[i].top
		if len(s.Overlays) > 0 {
			lowest := s.Overlays[0].mount
			ours[lowest.ID] = true
			below, _ = table.ByID(lowest.Parent)
		}
		if below == nil || below.Point != "/" || root != nil && below != root {
			return nil
		}
		root = below
	}
	if root == nil {
		return nil
	}
	for i := range table.Mounts {
		m := &table.Mounts[i]
		onRoot := m.Parent == root.ID && m != root && !ours[m.ID]
		// What replaces a source that was deleted is looked for in a peeled copy.
		if (onRoot || m.Deleted()) && v.concerns(m.Point) {
			return nil
		}
	}
	return root
}

// concerns tells whether a mount at point has to do with a hierarchy or with an
// os-release file.
func (v *View) concerns(point string) bool {
	for _, s := range v.Surveys {
		if s.Point != "" && related(point, s.Point) {
			return true
		}
	}
	for _, d := range osReleaseDirs {
		if related(point, d) {
			return true
		}
	}
	return false
}

// related says that one of two clean paths is the other, or lies below it.
func related(a, b string) bool {
	return within(a, b) || within(b, a)
}

func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// bare finds the bases in a clone of the root mount alone. Must run on a thread in
// the live namespace. It finds none where that does not go: before Linux 6.15 nothing
// is cloned from a clone (EINVAL).
func (v *View) bare(f *found, root *nsmount.Mount, live *nsmount.Namespace, table *nsmount.Table) error {
	top, err := nsmount.OpenInRoot("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer top.Close()
	if at, err := nsmount.Locate(top); err != nil || at.Mount != root.ID {
		return err
	}
	f.whole, err = nsmount.CloneDir(top, false, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.whole.SetPropagation(nsmount.Private, false); err != nil {
		return err
	}
	f.bases, f.trees = make(carrySources, len(v.Surveys)), make([]*nsmount.Tree, len(v.Surveys))
	err = v.each(func(i int, s *Survey) (err error) {
		b := &f.bases[i]
		*b = carrySource{ns: live, base: true, table: table, top: root, root: path.Join(root.Root, s.Point)}
		if b.dir, err = f.whole.OpenDir(strings.TrimPrefix(s.Point, "/")); err == nil {
			f.trees[i], err = nsmount.CloneDir(b.dir, false, 0)
		}
		return err
	})
	if err == nil {
		err = v.readOSRelease(f, f.whole.OpenInRoot)
	}
	// An os-release that is not there may be a link to another mount.
	if errors.Is(err, unix.EINVAL) || err == nil && f.osRelease == nil {
		return f.forgetBases()
	}
	return err
}

// forgetBases gives up the bases that were found: they are looked for another way.
func (f *found) forgetBases() error {
	err := (&found{bases: f.bases, trees: f.trees}).Close()
	f.bases, f.trees = nil, nil
	return err
}
