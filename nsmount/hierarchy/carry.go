package hierarchy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// How a carried mount comes along.
type How string

// The ways to carry a mount. A self-bind shows the very path that it is mounted
// on (ReadOnlyPaths= and the like); cloned, it would show the old version for
// ever, so it is made again from the new tree.
const (
	Cloned   How = "clone"
	Rebuilt  How = "self-bind"
	Replaced How = "source replaced" // what stands at the source path now
	Copied   How = "copy"            // of a file whose source is gone
)

// Carried is a mount below a hierarchy that must be in the new tree too.
type Carried struct {
	Path     string // below the hierarchy, without a leading slash
	How      How
	FromBase bool // the base has it; else it belongs to the unit
	LinkLost bool // what the host mounts below it later will not appear
	FSType   string
	Source   string

	attr   nsmount.Attr
	shared bool
	dir    bool
	tree   *nsmount.Tree // what is attached; nil for a self-bind and a copy
	copied *copied       // what is attached as a copy
}

// mountPrint is what tells one state of the mounts below a hierarchy from
// another.
type mountPrint struct {
	id, parent  int
	point, root string
	attr        nsmount.Attr
}

func prints(table *nsmount.Table, point string) []mountPrint {
	var p []mountPrint
	for i := range table.Mounts {
		m := &table.Mounts[i]
		if m.Point == point || strings.HasPrefix(m.Point, point+"/") {
			p = append(p, mountPrint{m.ID, m.Parent, m.Point, m.Root, m.Attr})
		}
	}
	return p
}

// Unchanged tells whether the mounts on and below every hierarchy are still the
// ones that the view took.
func (v *View) Unchanged(live *nsmount.Namespace) (bool, error) {
	if changed, err := live.Changed(); err != nil || !changed {
		return err == nil, err
	}
	table, err := live.Table()
	if err != nil {
		return false, err
	}
	for _, s := range v.Surveys {
		if s.Point != "" && !slices.Equal(prints(table, s.Point), s.prints) {
			return false, nil
		}
	}
	return true, nil
}

// carrySource is where carried mounts are looked for: below the visible tree in
// the live namespace, or below the base in the peeled copy.
type carrySource struct {
	ns    *nsmount.Namespace
	table *nsmount.Table
	top   *nsmount.Mount
	dir   *os.File // the hierarchy
	root  string   // of the hierarchy within top's file system
	base  bool

	missing error // why there is no dir
}

// findTop finds the mount that the hierarchy is on, in the table.
func (c *carrySource) findTop(s *Survey, table *nsmount.Table) error {
	at, err := nsmount.Locate(c.dir)
	if err != nil {
		return err
	}
	top, ok := table.ByID(at.Mount)
	if !ok {
		return fmt.Errorf("mount %d of the base is not in the mount table: it changed while it was read, try again", at.Mount)
	}
	c.table, c.top = table, top
	c.root = path.Join(top.Root, strings.TrimPrefix(s.Point, top.Point))
	return nil
}

// carry finds the mounts to carry and clones them out. The unit's own win over
// the base's at the same place and below. What an earlier generation took from the
// base is carried only while the base has it.
func (v *View) carry(ctx context.Context, s *Survey, own, below carrySource) error {
	s.prints = prints(own.table, s.Point)
	if err := s.bindable(own.table); err != nil {
		return err
	}
	fromBase := v.options.FromBase
	var mine []Carried
	if len(s.Overlays) > 0 {
		var err error
		mine, err = v.collect(ctx, s, own, func(rel string) bool {
			return fromBase == nil || !fromBase(s.Path, rel)
		})
		if err != nil {
			return err
		}
	}
	theirs, err := v.collect(ctx, s, below, func(rel string) bool {
		return !slices.ContainsFunc(mine, func(c Carried) bool { return c.hides(rel) })
	})
	if err != nil {
		return err
	}
	s.Carried = slices.Concat(mine, theirs)
	return v.arrange(ctx, s, own, below)
}

// arrange sorts what is carried, and finds what stands for the mounts whose source
// was replaced.
func (v *View) arrange(ctx context.Context, s *Survey, own, below carrySource) error {
	slices.SortStableFunc(s.Carried, func(a, b Carried) int { return strings.Compare(a.Path, b.Path) })
	for i := range s.Carried {
		if s.Carried[i].How == Replaced {
			if err := v.replace(ctx, s, &s.Carried[i], own, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// hides tells whether a mount of the base at rel does not show because of the
// unit's own one. A self-bind shows what it is on, with the mounts below it.
func (c *Carried) hides(rel string) bool {
	return rel == c.Path || c.How != Rebuilt && strings.HasPrefix(rel, c.Path+"/")
}

// collect lists what is mounted on top below the hierarchy and passes the
// filter.
func (v *View) collect(ctx context.Context, s *Survey, from carrySource, wanted func(rel string) bool) ([]Carried, error) {
	var found []Carried
	seen := map[int]bool{}
	queue := from.table.Children(from.top.ID)
	for len(queue) > 0 {
		child := queue[0]
		queue = queue[1:]
		rel, below := strings.CutPrefix(child.Point, s.Point+"/")
		if !below || !wanted(rel) {
			continue
		}
		if child.FSType == "autofs" {
			return nil, fmt.Errorf("carry mount %q: an automount point cannot be carried: stop its .automount unit, or move it out of %q", child.Point, s.Path)
		}
		c, m, err := v.takeOne(ctx, from, child, rel)
		if err != nil {
			return nil, err
		}
		if m == nil || seen[m.ID] {
			continue // hidden by another mount that is carried
		}
		seen[m.ID] = true
		c.FromBase = from.base
		found = append(found, c)
		if c.How == Rebuilt {
			queue = append(queue, from.table.Children(m.ID)...)
		}
	}
	return found, nil
}

// takeOne decides how one mount is carried, and clones it on the thread of the
// namespace that it is in. It returns no mount for one that cannot be seen.
func (v *View) takeOne(ctx context.Context, from carrySource, child *nsmount.Mount, rel string) (Carried, *nsmount.Mount, error) {
	t, err := nsmount.Do(ctx, from.ns, func() (taken, error) { return takeHere(from, child, rel) })
	if err != nil {
		return Carried{}, nil, fmt.Errorf("carry mount %q: %w", child.Point, err)
	}
	if t.tree != nil {
		v.own(t.tree)
	}
	return t.Carried, t.visible, nil
}

// taken is a mount that was classified, and which it is.
type taken struct {
	Carried
	visible *nsmount.Mount
}

// Close gives the clone up.
func (t taken) Close() error {
	if t.tree == nil {
		return nil
	}
	return t.tree.Close()
}

// takeHere must run on the thread of the namespace that the mount is in.
func takeHere(from carrySource, child *nsmount.Mount, rel string) (taken, error) {
	f, err := nsmount.OpenBelow(from.dir, rel, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return taken{}, nil
	}
	if err != nil {
		return taken{}, err
	}
	defer f.Close()
	at, err := nsmount.Locate(f)
	if err != nil {
		return taken{}, err
	}
	m, ok := from.table.ByID(at.Mount)
	if !ok || !at.Root || m.Point != child.Point {
		return taken{}, nil
	}
	c, err := classify(from, m, rel, f)
	c.dir = at.Dir
	return taken{Carried: c, visible: m}, err
}

func classify(from carrySource, m *nsmount.Mount, rel string, f *os.File) (Carried, error) {
	c := Carried{Path: rel, How: Cloned, FSType: m.FSType, Source: m.Source, attr: m.Attr, shared: m.Shared != 0 && !from.base}
	self := m.Major == from.top.Major && m.Minor == from.top.Minor && m.Root == path.Join(from.root, rel)
	switch {
	case m.Deleted():
		c.How = Replaced
		return c, nil
	case self && (!from.base || m.Attr&nsmount.AttrReadOnly != 0):
		c.How = Rebuilt
		return c, nil
	}
	nested := len(from.table.Children(m.ID)) > 0
	c.LinkLost = nested && (m.Shared != 0 || m.Master != 0)
	t, err := nsmount.CloneDir(f, nested, 0)
	if err != nil {
		return c, err
	}
	if err := propagate(t, nested, c.shared); err != nil {
		return c, errors.Join(err, t.Close())
	}
	c.tree = t
	return c, nil
}

// propagate prepares a clone for its life in the new tree. Without mounts below
// it, it becomes a slave of what it was cloned from: when that goes with the old
// tree, the kernel hands it on to the master's master, so the link to the host's
// mount survives. With mounts below it, being a slave would take them away
// together with the old ones.
func propagate(t *nsmount.Tree, nested, shared bool) error {
	first := nsmount.Slave
	if nested {
		first = nsmount.Private
	}
	if err := t.SetPropagation(first, nested); err != nil {
		return err
	}
	if shared {
		return t.SetPropagation(nsmount.Shared, nested)
	}
	return nil
}

// bindable refuses a hierarchy with an unbindable mount below it.
func (s *Survey) bindable(table *nsmount.Table) error {
	if p := unbindable(table, s.Point); p != "" {
		return fmt.Errorf("carry mount %q: it is unbindable, and cloning would drop it in silence: make it private (mount --make-private %q)", p, p)
	}
	return nil
}

// unbindable names an unbindable mount below the hierarchy, at any depth.
func unbindable(table *nsmount.Table, point string) string {
	for i := range table.Mounts {
		if m := &table.Mounts[i]; m.Unbindable && strings.HasPrefix(m.Point, point+"/") {
			return m.Point
		}
	}
	return ""
}

// maxCopy bounds the copy of a file whose source is gone.
const maxCopy = 16 << 20

// replace carries a mount whose root was removed: its source was replaced by a
// rename, as most programs write files. What stands at the source path now is
// taken; where nothing does, a file is copied.
func (v *View) replace(ctx context.Context, s *Survey, c *Carried, own, below carrySource) error {
	gone := s.deletedMount(own.table, below.table, c)
	if gone == nil {
		return fmt.Errorf("carry mount %q: it is gone from the mount table, try again", path.Join(s.Point, c.Path))
	}
	source := strings.TrimSuffix(gone.Root, "//deleted")
	t, err := nsmount.Do(ctx, below.ns, func() (*nsmount.Tree, error) { return bindSource(c, below.table, gone, source) })
	if err == nil {
		c.tree = v.own(t)
		return nil
	}
	if c.dir {
		return fmt.Errorf("carry mount %q: its source directory %q was removed and nothing stands in its place (%w): put it back, or restart the service", gone.Point, source, err)
	}
	if c.FromBase {
		return fmt.Errorf("carry mount %q: its source %q was removed from the host: mount it again there", gone.Point, source)
	}
	file, err := nsmount.Do(ctx, own.ns, func() (*copied, error) { return v.readContent(own.dir, c.Path, gone.Point) })
	if err == nil {
		c.How, c.copied = Copied, file
	}
	return err
}

// deletedMount finds the mount again that c was made from.
func (s *Survey) deletedMount(live, peeled *nsmount.Table, c *Carried) *nsmount.Mount {
	table := live
	if c.FromBase {
		table = peeled
	}
	for i := range table.Mounts {
		if m := &table.Mounts[i]; m.Point == path.Join(s.Point, c.Path) && m.Deleted() {
			return m
		}
	}
	return nil
}

// bindSource clones what stands at the source path now. The path is looked up
// without following any link, on the same file system, in the peeled copy.
func bindSource(c *Carried, table *nsmount.Table, gone *nsmount.Mount, source string) (*nsmount.Tree, error) {
	err := fmt.Errorf("no mount shows it: %w", fs.ErrNotExist)
	for i := range table.Mounts {
		m := &table.Mounts[i]
		rel, below := strings.CutPrefix(source, strings.TrimSuffix(m.Root, "/")+"/")
		if m.Major != gone.Major || m.Minor != gone.Minor || !below || m.Deleted() {
			continue
		}
		var t *nsmount.Tree
		if t, err = bindAt(c, m, path.Join(m.Point, rel)); err == nil {
			return t, nil
		}
	}
	return nil, err
}

func bindAt(c *Carried, m *nsmount.Mount, at string) (*nsmount.Tree, error) {
	root, err := nsmount.OpenInRoot("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := nsmount.OpenBelow(root, strings.TrimPrefix(at, "/"), unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	where, err := nsmount.Locate(f)
	if err != nil {
		return nil, err
	}
	if where.Mount != m.ID {
		return nil, fmt.Errorf("%q is covered by another mount", at)
	}
	if c.dir != where.Dir {
		return nil, fmt.Errorf("%q is of another type now", at)
	}
	t, err := nsmount.CloneDir(f, false, c.attr&^(nsmount.AttrNoAtime|nsmount.AttrStrictAtime))
	if err != nil {
		return nil, err
	}
	if err := propagate(t, false, c.shared); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// copied is a file that a mount still shows although its source is gone.
type copied struct {
	content []byte
	stat    unix.Stat_t
}

func (v *View) readContent(dir *os.File, rel, point string) (*copied, error) {
	f, err := nsmount.OpenBelow(dir, rel, unix.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("carry mount %q: its source was removed: %w", point, err)
	}
	defer f.Close()
	c := &copied{}
	if err := unix.Fstat(int(f.Fd()), &c.stat); err != nil {
		return nil, err
	}
	if c.content, err = v.readRegular(f, maxCopy); err != nil {
		return nil, fmt.Errorf("carry mount %q: its source was removed, and it cannot be copied: %w", point, err)
	}
	return c, nil
}
