package hierarchy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// Overlay is one overlay of ours or of systemd's on a hierarchy.
type Overlay struct {
	Owner  Owner
	Source Source // where it is ours
	mount  *nsmount.Mount
}

// Survey is one hierarchy as the target namespace shows it. Its trees belong to
// the view.
type Survey struct {
	Path     string        // as it was asked for: "/opt"
	Point    string        // where it is, links followed: "/var/opt"; "" when missing
	Err      error         // why there is no such directory; matters only if a layer wants one
	Overlays []Overlay     // ours and systemd's, bottom to top
	Base     *nsmount.Tree // what the hierarchy shows without them
	// BaseWritable says that somebody may change the base's files: then a file
	// that the host replaced by rename stays old in an overlay made earlier.
	BaseWritable bool
	Carried      []Carried

	// leave says of another namespace of the service's that it shows something of
	// its own there, or what is wanted already.
	leave bool
	// borrowed says that the base is that of the service's main namespace.
	borrowed bool

	// Of a hierarchy that the host has merged:
	merge   *Merge
	behind  string
	mounted bool          // something is mounted on it
	whole   *nsmount.Tree // the host's

	on     *nsmount.Mount // what is visible now, or lies under it where nothing is mounted on it
	attr   nsmount.Attr   // of what is visible now
	shared bool           // of what is visible now
	locked bool           // its children, if any, come off in one piece only
	old    *nsmount.Tree  // what is visible now, dressed, for the way back; nil where there is no overlay
	prints []mountPrint   // of the carried mounts, to see whether they changed
}

// Top is the topmost overlay; ok is false where there is none.
func (s *Survey) Top() (o Overlay, ok bool) {
	if len(s.Overlays) == 0 {
		return Overlay{}, false
	}
	return s.Overlays[len(s.Overlays)-1], true
}

// Has tells whether what the hierarchy shows is mounted with all of the attributes.
func (s *Survey) Has(a nsmount.Attr) bool { return s.attr&a == a }

// Covered counts the overlays below the topmost one: they stay until the
// namespace goes.
func (s *Survey) Covered() int { return max(0, len(s.Overlays)-1) }

// Interrupted says that an exchange was cut off between its two system calls:
// an overlay of ours lies on top of a later one.
func (s *Survey) Interrupted() bool { return s.leftovers() > 0 }

// leftovers counts the overlays of ours that lie above the one with the highest
// serial.
func (s *Survey) leftovers() int {
	best, at := uint64(0), -1
	for i, o := range s.Overlays {
		if o.Owner == Ours && o.Source.Serial >= best {
			best, at = o.Source.Serial, i
		}
	}
	if at < 0 {
		return 0
	}
	n := 0
	for _, o := range s.Overlays[at+1:] {
		if o.Owner != Ours {
			return 0
		}
		n++
	}
	return n
}

// View is what a mount namespace shows of all hierarchies, taken once.
type View struct {
	Surveys []*Survey
	// OSRelease is the os-release file of the service root without any overlay
	// of ours; nil when there is none.
	OSRelease     []byte
	OSReleaseFile string // where in the service root it was found

	options Options
	owned   []*nsmount.Tree
	table   *nsmount.Table // of the live namespace
	owner   nsmount.FileID // the user namespace that it belongs to
	fds     *os.File       // our own /proc/self/fd, while a survey is made: in its namespace a service may have another
}

// Options says what to look at.
type Options struct {
	Hierarchies []string
	Limits      nsmount.Limits
	// FromBase tells of a carried mount (its hierarchy, its path below it)
	// whether an earlier generation took it from the base. Such a mount is
	// carried on only as long as the base has it. nil: none is known.
	FromBase func(hierarchy, rel string) bool
	// Host is what the host has merged: a base that is behind that is replaced by
	// the host's tree, and [Survey.Behind] tells of an overlay that was made over
	// something older. nil: the base is what is there.
	Host *Host
}

// Close gives up all that the view has cloned out and that was not attached.
func (v *View) Close() error {
	nsmount.Gather(v.owned)
	var errs []error
	for _, t := range v.owned {
		errs = append(errs, t.Close())
	}
	v.owned = nil
	for _, s := range v.Surveys {
		if s.whole != nil {
			errs = append(errs, s.whole.Close())
			s.whole = nil
		}
	}
	return errors.Join(errs...)
}

// Trees are those that Close closes.
func (v *View) Trees() []*nsmount.Tree { return v.owned }

func (v *View) own(t *nsmount.Tree) *nsmount.Tree {
	v.owned = append(v.owned, t)
	return t
}

// Interrupted says that one of the hierarchies was left by a cut-off exchange.
func (v *View) Interrupted() bool {
	for _, s := range v.Surveys {
		if s.Interrupted() {
			return true
		}
	}
	return false
}

// Left lists those of the places that have an overlay of ours on them although none
// of the hierarchies is there: one was a link to it, and points elsewhere now.
func (v *View) Left(places []string) (left []string) {
	for _, p := range places {
		here := func(s *Survey) bool { return s.Point == p }
		ours := func(m nsmount.Mount) bool {
			owner, _ := OwnerOf(&m)
			return m.Point == p && owner == Ours
		}
		if !slices.ContainsFunc(v.Surveys, here) && slices.ContainsFunc(v.table.Mounts, ours) {
			left = append(left, p)
		}
	}
	return left
}

// Take surveys the mount namespace that ns (a pidfd or an nsfs file) means. live
// is a thread in it. The overlays of ours and of systemd's are peeled in a copy
// of the namespace; nothing changes in the namespace itself.
func Take(ctx context.Context, ns *os.File, live *nsmount.Namespace, o Options) (*View, error) {
	v := &View{options: o}
	for _, h := range o.Hierarchies {
		v.Surveys = append(v.Surveys, &Survey{Path: h})
	}
	if err := v.survey(ctx, ns, live); err != nil {
		_ = v.Close()
		return nil, err
	}
	return v, nil
}

func (v *View) openFDs() (err error) {
	v.fds, err = os.Open("/proc/self/fd")
	return err
}

// survey looks at all hierarchies in the live namespace, then at all of their
// bases: the quick way (bare), else in a peeled copy.
func (v *View) survey(ctx context.Context, ns *os.File, live *nsmount.Namespace) error {
	err := v.openFDs()
	if err != nil {
		return err
	}
	defer v.fds.Close()
	table, err := live.Table()
	if err != nil {
		return err
	}
	v.table = table
	if v.owner, err = live.Owner(); err != nil {
		return err
	}
	seen, err := nsmount.Do(ctx, live, v.open)
	if err != nil {
		return err
	}
	defer seen.Close()
	for i, s := range v.Surveys {
		s.Err = seen[i].missing
	}
	err = v.each(func(i int, s *Survey) error {
		if err := s.look(&seen[i], live, table); err != nil {
			return err
		}
		return s.uncovered(table)
	})
	if err != nil {
		return err
	}
	root := v.bareRoot(seen, table)
	found, err := nsmount.Do(ctx, live, func() (*found, error) {
		f, err := v.keep(seen, table)
		if err == nil && root != nil {
			err = v.bare(f, root, live, table)
		}
		return f.orClosed(err)
	})
	if err != nil {
		return err
	}
	v.take(found)
	bases := found.bases
	switch {
	case bases != nil:
	case v.overlaid():
		var peeled *nsmount.Namespace
		if peeled, bases, err = v.peelCopy(ctx, ns, live); err == nil {
			defer peeled.Close()
		}
	default:
		bases, err = v.peelAll(ctx, live, table)
	}
	if err != nil {
		return err
	}
	defer bases.Close()
	return v.each(func(i int, s *Survey) error {
		s.BaseWritable = !bases[i].top.SuperReadOnly() || bases[i].top.FSType == "overlay"
		if err := v.overHost(ctx, s, &seen[i], &bases[i]); err != nil {
			return err
		}
		return v.carry(ctx, s, seen[i], bases[i])
	})
}

// peelCopy finds all bases in a copy of the namespace, and gives that too. Where the
// namespace belongs to a user namespace of the service's own (DelegateNamespaces=mnt),
// nothing comes off in a copy (EINVAL), but in a clone of all that it shows.
func (v *View) peelCopy(ctx context.Context, ns *os.File, live *nsmount.Namespace) (peeled *nsmount.Namespace, bases carrySources, err error) {
	for _, enter := range []func() (*nsmount.Namespace, error){
		func() (*nsmount.Namespace, error) { return nsmount.EnterCopy(ns, nsmount.Slave) },
		func() (*nsmount.Namespace, error) { return nsmount.EnterClone(ctx, live, nsmount.Slave) },
	} {
		if peeled, err = enter(); err != nil {
			return nil, nil, fmt.Errorf("copy the mount namespace: %w", err)
		}
		if bases, err = v.peelAll(ctx, peeled, nil); err == nil {
			return peeled, bases, nil
		}
		_ = peeled.Close()
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return nil, nil, err
}

// peelAll finds all bases in the peeled copy of the namespace, or in the live one
// where there is nothing to peel. That one's table is given: were it read anew, what
// has changed since would be no news to [View.Unchanged].
func (v *View) peelAll(ctx context.Context, peeled *nsmount.Namespace, table *nsmount.Table) (carrySources, error) {
	found, err := nsmount.Do(ctx, peeled, func() (*found, error) {
		f := &found{bases: make(carrySources, len(v.Surveys)), trees: make([]*nsmount.Tree, len(v.Surveys))}
		err := v.each(func(i int, s *Survey) (err error) {
			f.trees[i], err = peel(s, &f.bases[i], peeled)
			return err
		})
		if err == nil {
			err = v.readOSRelease(f, nsmount.OpenInRoot)
		}
		return f.orClosed(err)
	})
	if err != nil {
		return nil, err
	}
	v.take(found)
	if table == nil {
		table, err = peeled.Table()
	}
	if err == nil {
		err = v.each(func(i int, s *Survey) error { return found.bases[i].findTop(s, table) })
	}
	if err != nil {
		return nil, errors.Join(err, found.bases.Close())
	}
	return found.bases, nil
}

// found is what a thread in a namespace has found and made. The view gets it when
// the thread is done: one that hangs may come back after the view was given up.
type found struct {
	bases  carrySources    // nil where they were not to be had
	trees  []*nsmount.Tree // the bases, by hierarchy
	old    []*nsmount.Tree // what is visible now, by hierarchy
	locked []bool          // by hierarchy
	whole  *nsmount.Tree   // that the bases were cloned from

	osRelease     []byte
	osReleaseFile string
}

// Close gives up what was found.
func (f *found) Close() error {
	errs := []error{f.bases.Close()}
	for _, t := range slices.Concat(f.trees, f.old, []*nsmount.Tree{f.whole}) {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	return errors.Join(errs...)
}

func (f *found) orClosed(err error) (*found, error) {
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// take makes what was found the view's.
func (v *View) take(f *found) {
	for i, s := range v.Surveys {
		if f.old != nil && f.old[i] != nil {
			s.old = v.own(f.old[i])
		}
		if f.locked != nil {
			s.locked = f.locked[i]
		}
		if f.bases != nil && f.trees[i] != nil {
			s.Base = v.own(f.trees[i])
		}
	}
	if f.whole != nil {
		v.own(f.whole)
	}
	if f.bases != nil {
		v.OSRelease, v.OSReleaseFile = f.osRelease, f.osReleaseFile
	}
}

// each calls f for every hierarchy that is there.
func (v *View) each(f func(i int, s *Survey) error) error {
	for i, s := range v.Surveys {
		if s.Err != nil {
			continue
		}
		if err := f(i, s); err != nil {
			return fmt.Errorf("survey %q: %w", s.Path, err)
		}
	}
	return nil
}

// overlaid says that there is something to peel.
func (v *View) overlaid() bool {
	return slices.ContainsFunc(v.Surveys, func(s *Survey) bool { return len(s.Overlays) > 0 })
}

// carrySources are those of all hierarchies.
type carrySources []carrySource

// Close closes the directories.
func (all carrySources) Close() error {
	var errs []error
	for _, c := range all {
		if c.dir != nil {
			errs = append(errs, c.dir.Close())
		}
	}
	return errors.Join(errs...)
}

// Again takes the view once more, with the same options.
func (v *View) Again(ctx context.Context, ns *os.File, live *nsmount.Namespace) (*View, error) {
	return Take(ctx, ns, live, v.options)
}

// open opens the hierarchies, on a thread in the live namespace.
func (v *View) open() (carrySources, error) {
	all := make(carrySources, len(v.Surveys))
	err := v.each(func(i int, s *Survey) (err error) {
		all[i], err = s.open()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return all, nil
}

// open opens the hierarchy. One that is not there is no error yet: no layer may want
// it.
func (s *Survey) open() (c carrySource, err error) {
	c.dir, err = nsmount.OpenInRoot(s.Path, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT):
		c.missing = fmt.Errorf("hierarchy %q does not exist in the service's root: create it (mkdir -m 0755 %s) or leave it out with Hierarchies=", s.Path, s.Path)
	case errors.Is(err, unix.ENOTDIR):
		c.missing = fmt.Errorf("hierarchy %q is not a directory in the service's root: replace it by one or leave it out with Hierarchies=", s.Path)
	case errors.Is(err, unix.ELOOP):
		c.missing = fmt.Errorf("hierarchy %q is a loop of symbolic links in the service's root: mend the link or leave it out with Hierarchies=", s.Path)
	default:
		return c, err
	}
	return c, nil
}

// look finds the mount that the hierarchy is on, and the stack there. It must not
// run in the service's namespace: the path of a descriptor is read from /proc,
// and there that may be the service's own.
func (s *Survey) look(own *carrySource, live *nsmount.Namespace, table *nsmount.Table) error {
	at, err := nsmount.Locate(own.dir)
	if err != nil {
		return err
	}
	top, ok := table.ByID(at.Mount)
	if !ok {
		return fmt.Errorf("mount %d of it is not in the mount table: it changed while it was read, try again", at.Mount)
	}
	s.Point = top.Point
	if !at.Root {
		if s.Point, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", own.dir.Fd())); err != nil {
			return err
		}
	}
	own.ns, own.table, own.top, own.root = live, table, top, top.Root
	s.on, s.attr, s.shared = top, top.Attr, top.Shared != 0
	s.stack(table, top)
	return nil
}

// stack lists the overlays of ours and of systemd's, from the top down to the
// first mount that is neither.
func (s *Survey) stack(table *nsmount.Table, top *nsmount.Mount) {
	for m := top; m != nil && m.Point == s.Point; {
		owner, source := OwnerOf(m)
		if owner == Foreign {
			return
		}
		s.Overlays = append([]Overlay{{Owner: owner, Source: source, mount: m}}, s.Overlays...)
		next, ok := table.ByID(m.Parent)
		if !ok || next == m {
			return
		}
		m = next
	}
}

// uncovered refuses a hierarchy on which something else was mounted over an
// overlay of ours. Below an overlay on top there may be another one of ours: where
// the base is a bind of the service's root onto itself, in one peer group with it,
// the kernel repeats every mount beneath the bind.
func (s *Survey) uncovered(table *nsmount.Table) error {
	if len(s.Overlays) > 0 {
		return nil
	}
	for i := range table.Mounts {
		m := &table.Mounts[i]
		if owner, _ := OwnerOf(m); m.Point == s.Point && owner != Foreign {
			return fmt.Errorf("another mount covers the overlay (%q) on it: unmount it, or restart the service", m.Source)
		}
	}
	return nil
}

// peel takes the overlays off in the copy of the namespace and clones the base.
// Must run on a thread there.
func peel(s *Survey, below *carrySource, peeled *nsmount.Namespace) (*nsmount.Tree, error) {
	below.ns, below.base = peeled, true
	for range s.Overlays {
		dir, err := nsmount.OpenInRoot(s.Path, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		err = nsmount.DetachTop(dir)
		dir.Close()
		if errors.Is(err, unix.EINVAL) {
			// mount_namespaces(7): what a user namespace got from the one above it is locked.
			return nil, fmt.Errorf("peel overlay in a copy of the namespace: %w: it is locked by a user namespace of the service's own: restart the service for new versions, or take DelegateNamespaces=mnt out of its unit", err)
		}
		if err != nil {
			return nil, fmt.Errorf("peel overlay in a copy of the namespace: %w", err)
		}
	}
	var err error
	if below.dir, err = nsmount.OpenInRoot(s.Path, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, err
	}
	t, err := nsmount.CloneDir(below.dir, false, 0)
	if err != nil {
		return nil, fmt.Errorf("clone base: %w", err)
	}
	return t, t.SetPropagation(nsmount.Private, false)
}

// keep clones what the overlaid hierarchies show now, for the way back.
func (v *View) keep(seen carrySources, table *nsmount.Table) (*found, error) {
	f := &found{old: make([]*nsmount.Tree, len(v.Surveys)), locked: make([]bool, len(v.Surveys))}
	return f, v.each(func(i int, s *Survey) (err error) {
		if len(s.Overlays) > 0 && !s.leave {
			f.old[i], f.locked[i], err = keepOld(seen[i].dir, table, seen[i].top)
		}
		return err
	})
}

// keepOld clones what is visible now, for the way back. A tree with locked
// children is cloned whole or not at all, which is also how to tell that they
// are locked (has_locked_children of fs/namespace.c).
func keepOld(dir *os.File, table *nsmount.Table, top *nsmount.Mount) (t *nsmount.Tree, locked bool, err error) {
	children := table.Children(top.ID)
	t, err = nsmount.CloneDir(dir, false, 0)
	switch {
	case err == nil && len(children) == 0:
		return t, true, t.SetPropagation(nsmount.Private, false)
	case err == nil:
		// Not locked (systemd's own): the new tree goes on top, and the way back
		// is to take it off again.
		return nil, false, t.Close()
	case !errors.Is(err, unix.EINVAL) || len(children) == 0:
		return nil, false, err
	}
	t, err = nsmount.CloneDir(dir, true, 0)
	if err != nil {
		return nil, false, fmt.Errorf("keep the old tree: %w", err)
	}
	return t, true, passOn(t, table, children)
}

// passOn gives the mounts of a kept tree the propagation that carried mounts
// have: the old tree goes away, and with it, through propagation, whatever is
// still its peer or its slave. The top therefore becomes private, its children
// slaves of the old ones, as when they are carried; one that has mounts below
// it must not be a slave. The kernel changes the children of a detached tree
// only together with its top, so one such child decides for all.
func passOn(t *nsmount.Tree, table *nsmount.Table, children []*nsmount.Mount) error {
	for _, c := range children {
		if len(table.Children(c.ID)) > 0 {
			return t.SetPropagation(nsmount.Private, true)
		}
	}
	if err := t.SetPropagation(nsmount.Slave, true); err != nil {
		return err
	}
	return t.SetPropagation(nsmount.Private, false)
}

// maxOSRelease bounds a file that comes from the service's root.
const maxOSRelease = 1 << 20

// osReleaseDirs are where os-release(5) is looked up.
var osReleaseDirs = [...]string{"/etc", "/usr/lib"}

// readOSRelease reads the service root's os-release where no extension can change
// it: in the peeled copy, or below the bare root.
func (v *View) readOSRelease(f *found, open func(path string, flags int) (*os.File, error)) error {
	for _, d := range osReleaseDirs {
		p := d + "/os-release"
		file, err := open(p, unix.O_PATH)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open os-release of the service's root: %w", err)
		}
		data, err := v.readRegular(file, maxOSRelease)
		file.Close()
		if err != nil {
			return fmt.Errorf("read %q of the service's root: %w", p, err)
		}
		f.osRelease, f.osReleaseFile = data, p
		return nil
	}
	return nil
}

// readRegular reads the file that f, an O_PATH descriptor, stands for. It is opened
// once it is known to be a regular file: opening a device, a tape say, does
// something.
func (v *View) readRegular(f *os.File, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%s)", fi.Mode().Type())
	}
	content, err := nsmount.Reopen(f, v.fds)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	data, err := io.ReadAll(io.LimitReader(content, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than the %d bytes that are read", limit)
	}
	return data, err
}
