package hierarchy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// Wanted is what one hierarchy shall show.
type Wanted struct {
	Layers         []*os.File      // bottom to top, O_PATH directories
	Owners         []*nsmount.Tree // the trees that the layers lie in
	Source         Source
	NoExec, NoSuid bool
}

// mode is how a staged tree goes live.
type mode int

const (
	untouched mode = iota // no overlay there, none wanted
	attach                // the first overlay on the base
	beneath               // beneath the old one, which is then detached
	onTop                 // over the old one, which stays covered
	unpeel                // the old one is detached, the base shows
)

// Staged is one hierarchy's new tree, complete and seen by nobody.
type Staged struct {
	Survey  *Survey
	Source  Source
	Layers  int
	Carried []Carried

	tree   *nsmount.Tree
	second *nsmount.Tree // the same once more, for a rehearsal
	mode   mode
	done   mode // what Exchange came to, untouched before it
	// uncovered says that Exchange has detached what an interrupted one left on top.
	uncovered bool
}

// Close gives up the trees that were not attached.
func (s *Staged) Close() error {
	var errs []error
	for _, t := range []*nsmount.Tree{s.tree, s.second} {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	return errors.Join(errs...)
}

// Live tells whether the hierarchy has an overlay of ours when the exchange is
// made.
func (s *Staged) Live() bool { return s.mode != untouched && s.mode != unpeel }

// Covered counts the overlays that lie below the new one after the exchange, and
// can never be removed from the namespace. Before it, it says what is meant.
func (s *Staged) Covered() int {
	n := len(s.Survey.Overlays) - s.Survey.leftovers()
	how := s.done
	if how == untouched {
		how = s.mode
	}
	if how == beneath || how == unpeel {
		return max(0, n-1)
	}
	return n
}

// Stage builds the trees of all hierarchies of the view, in its order; with
// rehearse each one twice, as [Rehearse] needs it. On an error nothing is left. The
// layers must be open until it returns.
func Stage(ctx context.Context, v *View, wanted []Wanted, rehearse bool) (staged []*Staged, err error) {
	if len(wanted) != len(v.Surveys) {
		return nil, fmt.Errorf("stage: %d hierarchies wanted, %d surveyed", len(wanted), len(v.Surveys))
	}
	if err := apart(v.Surveys, wanted); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, s := range staged {
				_ = s.Close()
			}
			staged = nil
		}
	}()
	st := &stager{limits: v.options.Limits, copies: 1}
	if rehearse {
		st.copies = 2
	}
	defer st.close()
	if st.delegated, err = v.delegated(); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	st.findHome(wanted)
	for i, s := range v.Surveys {
		one, err := st.build(ctx, s, wanted[i])
		if one != nil {
			staged = append(staged, one)
		}
		if err != nil {
			return staged, fmt.Errorf("stage %q: %w", s.Path, err)
		}
	}
	if err := st.lock(ctx, staged); err != nil {
		return staged, fmt.Errorf("stage: %w", err)
	}
	return staged, nil
}

// stager holds the scratch namespaces, which are made when they are first needed.
type stager struct {
	limits nsmount.Limits
	copies int // of each tree
	// delegated says that every tree is locked, also one without carried mounts.
	delegated bool
	scratch   *nsmount.Scratch
	spots     map[*Staged]*nsmount.Spot
	home      *nsmount.Scratch // of the layers, on kernels where an overlay needs one
}

// delegated tells whether the namespace belongs to a user namespace below ours. Who
// is root there may change what a mount is restricted to, nodev say, unless that is locked
// (mount_namespaces(7)).
func (v *View) delegated() (bool, error) {
	own, err := nsmount.OwnUserNamespace()
	return v.owner != own && v.owner != nsmount.FileID{}, err
}

func (st *stager) close() {
	for _, spot := range st.spots {
		_ = spot.Close()
	}
	for _, s := range []*nsmount.Scratch{st.scratch, st.home} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// findHome takes the one that the layers have from being staged before.
func (st *stager) findHome(wanted []Wanted) {
	for _, w := range wanted {
		for _, t := range w.Owners {
			if home := t.Home(); home != nil {
				st.home = home.Hold()
				return
			}
		}
	}
}

func (st *stager) bench() (*nsmount.Scratch, error) {
	if st.scratch == nil {
		s, err := nsmount.NewScratch(st.limits)
		if err != nil {
			return nil, err
		}
		st.scratch, st.spots = s, map[*Staged]*nsmount.Spot{}
	}
	return st.scratch, nil
}

func (st *stager) build(ctx context.Context, s *Survey, w Wanted) (*Staged, error) {
	one := &Staged{Survey: s, Source: w.Source, Layers: len(w.Layers), Carried: s.Carried}
	if one.mode = s.modeFor(w, st.limits); one.mode == untouched || one.mode == unpeel {
		return one, nil
	}
	if s.Err != nil {
		return one, s.Err
	}
	tree, err := st.tree(ctx, s, w)
	if err != nil {
		return one, s.explain(err)
	}
	if len(s.Carried) == 0 && !st.delegated {
		one.tree = tree
		if st.copies > 1 {
			one.second, err = st.overlay(ctx, s, w)
		}
		return one, err
	}
	defer tree.Close()
	return one, st.dress(ctx, one, tree)
}

// tree is the new tree, still without carried mounts: the host's, or an overlay.
func (st *stager) tree(ctx context.Context, s *Survey, w Wanted) (*nsmount.Tree, error) {
	t := s.whole
	if t == nil {
		return st.overlay(ctx, s, w)
	}
	s.whole = nil
	if err := t.SetAttr(s.attr&restrictions, 0, false); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// modeFor decides how the new state of a hierarchy will go live.
func (s *Survey) modeFor(w Wanted, limits nsmount.Limits) mode {
	n := len(s.Overlays) - s.leftovers()
	switch {
	case s.leave:
		return untouched
	case s.merge != nil:
		return s.modeForMerge(limits)
	case n == 0 && len(w.Layers) == 0:
		return untouched
	case n == 0:
		return attach
	case len(w.Layers) == 0 && n == 1 && !s.borrowed && len(s.Carried) == 0 && s.locked:
		return unpeel
	case limits.NoBeneath || !s.locked:
		return onTop
	default:
		return beneath
	}
}

// explain adds what the kernel's EINVAL for an overlay most likely means.
func (s *Survey) explain(err error) error {
	if errors.Is(err, unix.EINVAL) && s.Base != nil {
		if fsType, ferr := s.Base.FSType(); ferr == nil && fsType == unix.OVERLAYFS_SUPER_MAGIC {
			return fmt.Errorf("%w: what lies below is an overlay itself, and the kernel stacks two at most: merge fewer levels on the host", err)
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%w: two layers are the same directory, or one lies within another or within the hierarchy itself: move the extension elsewhere", err)
	}
	return err
}

// attrFor is what the merged hierarchy is mounted with: read-only and nodev
// always, the rest as what it replaces has it, and what the unit asks for.
func (s *Survey) attrFor(w Wanted) nsmount.Attr {
	a := s.attr | nsmount.AttrReadOnly | nsmount.AttrNoDev
	if w.NoExec {
		a |= nsmount.AttrNoExec
	}
	if w.NoSuid {
		a |= nsmount.AttrNoSuid
	}
	return a
}

func (st *stager) overlay(ctx context.Context, s *Survey, w Wanted) (*nsmount.Tree, error) {
	o := nsmount.Overlay{Source: w.Source.String(), Layers: w.Layers, Base: s.Base.File(), Attr: s.attrFor(w)}
	owners := append([]*nsmount.Tree{s.Base}, w.Owners...)
	if len(w.Layers) == 0 {
		// The kernel takes no overlay of one layer alone.
		empty, err := nsmount.EmptyTree()
		if err != nil {
			return nil, err
		}
		defer empty.Close()
		o.Layers, owners = []*os.File{empty.File()}, append(owners, empty)
	}
	if !st.limits.NoLowerdir {
		t, err := nsmount.MountOverlay(o)
		if err == nil || (!errors.Is(err, nsmount.ErrNotSupported) && !errors.Is(err, unix.EINVAL)) {
			return t, err
		}
		st.limits.NoLowerdir = errors.Is(err, nsmount.ErrNotSupported)
	}
	if st.home == nil {
		home, err := nsmount.NewScratch(st.limits)
		if err != nil {
			return nil, err
		}
		st.home = home
	}
	return nsmount.Do(ctx, st.home, func() (*nsmount.Tree, error) { return st.home.MountOverlay(o, owners) })
}

// dress attaches the carried mounts to the new tree, on the workbench.
func (st *stager) dress(ctx context.Context, one *Staged, tree *nsmount.Tree) error {
	scratch, err := st.bench()
	if err != nil {
		return err
	}
	spot, err := nsmount.Do(ctx, scratch, func() (*nsmount.Spot, error) {
		spot, err := scratch.Attach(tree)
		if err != nil {
			return nil, err
		}
		for i := range one.Carried {
			if err := put(scratch, spot, &one.Carried[i]); err != nil {
				return nil, errors.Join(fmt.Errorf("carry mount %q: %w", path.Join(one.Survey.Path, one.Carried[i].Path), err), spot.Close())
			}
		}
		return spot, nil
	})
	if err == nil {
		st.spots[one] = spot
	}
	return err
}

// put attaches one carried mount. The lookup follows no link: a version that
// ships a symbolic link there would have the mount put elsewhere.
func put(scratch *nsmount.Scratch, spot *nsmount.Spot, c *Carried) error {
	at, err := nsmount.OpenBelow(spot.Dir(), c.Path, unix.O_PATH)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("the new version has nothing to mount it on: let the extension ship an empty file or directory there, or remove the mount from the unit: %w", err)
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("the new version has a symbolic link in its path, which is not followed: let the extension ship a file or directory there: %w", err)
	case err != nil:
		return err
	}
	defer at.Close()
	tree, err := treeFor(scratch, at, c)
	if err != nil {
		return err
	}
	err = tree.Attach(at)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("the new version has a %s there, the mount is a %s: %w", kind(!c.dir), kind(c.dir), err)
	}
	if tree != c.tree {
		return errors.Join(err, tree.Close())
	}
	return err
}

func kind(dir bool) string {
	if dir {
		return "directory"
	}
	return "file"
}

// treeFor is what is attached for a carried mount.
func treeFor(scratch *nsmount.Scratch, at *os.File, c *Carried) (*nsmount.Tree, error) {
	switch c.How {
	case Rebuilt:
		t, err := nsmount.CloneDir(at, false, 0)
		if err != nil {
			return nil, err
		}
		return t, t.SetAttr(c.attr, ^c.attr&allAttr, false)
	case Copied:
		return scratch.CopyFile(c.copied.content, c.copied.stat.Mode, int(c.copied.stat.Uid), int(c.copied.stat.Gid))
	default:
		return c.tree, nil
	}
}

const allAttr = nsmount.AttrReadOnly | nsmount.AttrNoSuid | nsmount.AttrNoDev | nsmount.AttrNoExec | nsmount.AttrNoSymfollow

// lock takes the dressed trees off the workbench, locked where that is possible.
func (st *stager) lock(ctx context.Context, staged []*Staged) error {
	var dressed []*Staged
	var spots []*nsmount.Spot
	for _, one := range staged {
		if spot := st.spots[one]; spot != nil {
			dressed, spots = append(dressed, one), append(spots, spot)
		}
	}
	if len(dressed) == 0 {
		return nil
	}
	all, err := nsmount.Do(ctx, st.scratch, func() (trees, error) {
		all, err := st.scratch.Lock(spots, st.copies)
		if errors.Is(err, nsmount.ErrNoLock) {
			all, err = takeAll(st.scratch, spots, st.copies)
		}
		if err == nil {
			err = shareAgain(dressed, all, st.copies)
		}
		if err != nil {
			return nil, errors.Join(err, trees(all).Close())
		}
		return all, nil
	})
	if err != nil {
		return err
	}
	for i, one := range dressed {
		one.tree = all[i*st.copies]
		if st.copies > 1 {
			one.second = all[i*st.copies+1]
		}
	}
	return nil
}

// trees are given up together.
type trees []*nsmount.Tree

func (all trees) Close() error {
	var errs []error
	for _, t := range all {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

func takeAll(scratch *nsmount.Scratch, spots []*nsmount.Spot, copies int) ([]*nsmount.Tree, error) {
	var trees trees
	for i := range len(spots) * copies {
		t, err := scratch.Take(spots[i/copies])
		if err != nil {
			return nil, errors.Join(err, trees.Close())
		}
		trees = append(trees, t)
	}
	return trees, nil
}

// shareAgain restores the sharing that the copy into another user namespace has
// reduced to following (CL_SHARED_TO_SLAVE of fs/pnode.h). Under a shared parent
// attaching does it for the whole tree; elsewhere it is done here, for all
// children or none, since the kernel changes those of a detached tree only
// together with its top.
func shareAgain(staged []*Staged, trees []*nsmount.Tree, copies int) error {
	for i, one := range staged {
		if one.Survey.shared || !slices.ContainsFunc(one.Carried, func(c Carried) bool { return c.shared }) {
			continue
		}
		tree := trees[i*copies]
		if err := tree.SetPropagation(nsmount.Shared, true); err != nil {
			return err
		}
		if err := tree.SetPropagation(nsmount.Private, false); err != nil {
			return err
		}
	}
	return nil
}
