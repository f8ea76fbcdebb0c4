package hierarchy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// mergeable are the hierarchies that systemd-sysext(8) and systemd-confext merge by
// default.
var mergeable = [...]string{"/usr", "/opt", "/etc"}

// A Merge is a hierarchy of the host over which systemd-sysext or systemd-confext
// has merged extensions.
type Merge struct {
	Path  string
	Class string // "sysext" or "confext": the overlay's source

	at   carrySource
	base nsmount.FileID // what lies beneath
}

// Host is what the host has merged.
type Host struct {
	Merges []*Merge
	ns     *nsmount.Namespace
}

// Close lets go of the hierarchies.
func (h *Host) Close() error {
	var errs []error
	for _, m := range h.Merges {
		errs = append(errs, m.at.dir.Close())
	}
	h.Merges = nil
	return errors.Join(errs...)
}

// TakeHost looks at the host's hierarchies. host is a thread in its mount namespace,
// which outlives what is returned. What lies beneath a merge is looked at in a copy of
// the namespace.
func TakeHost(ctx context.Context, host *nsmount.Namespace) (*Host, error) {
	h := &Host{ns: host}
	table, err := host.Table()
	if err != nil {
		return nil, err
	}
	for _, p := range mergeable {
		m, err := takeMerge(ctx, host, table, p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("look at %q of the host: %w", p, err), h.Close())
		}
		if m != nil {
			h.Merges = append(h.Merges, m)
		}
	}
	if len(h.Merges) > 0 {
		err = h.peel(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// takeMerge returns nil where nothing is merged.
func takeMerge(ctx context.Context, host *nsmount.Namespace, table *nsmount.Table, at string) (*Merge, error) {
	dir, err := nsmount.Do(ctx, host, func() (*os.File, error) {
		return nsmount.OpenInRoot(at, unix.O_PATH|unix.O_DIRECTORY)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	where, err := nsmount.Locate(dir)
	if err == nil && where.Root {
		if top, ok := table.ByID(where.Mount); ok && merged(top) {
			return &Merge{Path: at, Class: top.Source, at: carrySource{ns: host, table: table, top: top, dir: dir, root: top.Root, base: true}}, nil
		}
	}
	return nil, errors.Join(err, dir.Close())
}

// merged tells an overlay of systemd-sysext's by its source (src/sysext/sysext.c).
func merged(m *nsmount.Mount) bool {
	return m.FSType == "overlay" && (m.Source == "sysext" || m.Source == "confext")
}

func (h *Host) peel(ctx context.Context) error {
	ns, err := h.ns.File()
	if err != nil {
		return err
	}
	defer ns.Close()
	peeled, err := nsmount.EnterCopy(ns, nsmount.Private)
	if err != nil {
		return fmt.Errorf("copy the host's mount namespace: %w", err)
	}
	defer peeled.Close()
	bases, err := nsmount.Do(ctx, peeled, func() ([]nsmount.FileID, error) {
		bases := make([]nsmount.FileID, len(h.Merges))
		for i, m := range h.Merges {
			base, err := peelMerge(m)
			if err != nil {
				return nil, fmt.Errorf("look beneath %q of the host: %w", m.Path, err)
			}
			bases[i] = base.File
		}
		return bases, nil
	})
	for i := range bases {
		h.Merges[i].base = bases[i]
	}
	return err
}

func peelMerge(m *Merge) (none nsmount.Location, err error) {
	dir, err := nsmount.OpenInRoot(m.Path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return none, err
	}
	err = nsmount.DetachTop(dir)
	dir.Close()
	if err != nil {
		return none, err
	}
	if dir, err = nsmount.OpenInRoot(m.Path, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return none, err
	}
	defer dir.Close()
	return nsmount.Locate(dir)
}

// The states of a hierarchy of a service that the host has merged.
const (
	NoMerge    = "no merge"
	OlderMerge = "an older merge"
)

// Behind surveys a service's mount namespace for what the host has merged and the
// service does not see: it shows the very directory beneath the host's merge, or an
// older merge of the same class. Anything else (a root of its own, a mount of the
// unit's, an overlay of ours or of systemd's for the unit) is left alone. [Stage],
// with nothing wanted, then makes the host's tree the new one, with the service's own
// mounts below it and the attributes that what is visible has.
func (h *Host) Behind(ctx context.Context, live *nsmount.Namespace, o Options) (*View, error) {
	v := &View{options: o}
	for _, m := range h.Merges {
		v.Surveys = append(v.Surveys, &Survey{Path: m.Path, merge: m})
	}
	if err := v.surveyBehind(ctx, live); err != nil {
		_ = v.Close()
		return nil, err
	}
	return v, nil
}

// Behind says how a hierarchy, or what an overlay of ours on it was made over, is
// behind the host's merge; "" for not at all.
func (s *Survey) Behind() string { return s.behind }

func (v *View) surveyBehind(ctx context.Context, live *nsmount.Namespace) error {
	if err := v.openFDs(); err != nil {
		return err
	}
	defer v.fds.Close()
	seen, err := v.enter(ctx, live, func(s *Survey, own *carrySource) (err error) {
		s.behind, err = s.merge.behind(own)
		s.leave = s.behind == "" || len(s.Overlays) > 0
		if s.leave {
			s.behind = ""
		}
		s.mounted = own.top.Point == s.Point
		// What is the service's own counts as the base's: a writable self-bind keeps
		// its content.
		own.base = true
		return err
	})
	if err != nil {
		return err
	}
	defer seen.Close()
	kept, err := nsmount.Do(ctx, live, func() (*found, error) {
		f := &found{old: make([]*nsmount.Tree, len(v.Surveys)), locked: make([]bool, len(v.Surveys))}
		err := v.each(func(i int, s *Survey) (err error) {
			if !s.leave && s.mounted {
				f.old[i], f.locked[i], err = keepOld(seen[i].dir, v.table, seen[i].top)
			}
			return err
		})
		return f.orClosed(err)
	})
	if err != nil {
		return err
	}
	v.take(kept)
	return v.each(func(i int, s *Survey) error {
		if s.leave {
			return nil
		}
		return v.takeMerged(ctx, s, seen[i])
	})
}

// behind compares what a service shows with the merge.
func (m *Merge) behind(own *carrySource) (string, error) {
	top := own.top
	if m.is(top) {
		return "", nil
	}
	if merged(top) && top.Source == m.Class && own.root == "/" {
		return OlderMerge, nil
	}
	if here, err := nsmount.Locate(own.dir); err != nil || here.File != m.base {
		return "", err
	}
	return NoMerge, nil
}

// maxDev bounds the file that names the device of a merge.
const maxDev = 64

// overHost compares an overlay of ours and its base with what the host has merged. The
// merge says in a file of its own which device it is (/etc/.systemd-confext/dev), and
// that shows through an overlay that was made over it.
func (v *View) overHost(ctx context.Context, s *Survey, own, base *carrySource) error {
	m := v.options.Host.merge(s.Path)
	if m == nil || len(s.Overlays) == 0 {
		return nil
	}
	behind, err := m.behind(base)
	if err != nil {
		return err
	}
	if behind != "" {
		whole, err := m.clone(ctx)
		if err != nil {
			return err
		}
		if err := v.own(whole).SetPropagation(nsmount.Private, false); err != nil {
			return err
		}
		s.Base = whole
	} else if !m.is(base.top) {
		return nil // it has a base of its own
	}
	dev, err := nsmount.Do(ctx, own.ns, func() (string, error) { return v.readDev(own.dir, m) })
	switch {
	case err != nil:
		return err
	case dev == "":
		s.behind = NoMerge
	case dev != fmt.Sprintf("%d:%d", m.at.top.Major, m.at.top.Minor):
		s.behind = OlderMerge
	}
	return nil
}

// readDev returns "" where there is no such file.
func (v *View) readDev(dir *os.File, m *Merge) (string, error) {
	f, err := nsmount.OpenBelow(dir, ".systemd-"+m.Class+"/dev", unix.O_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := v.readRegular(f, maxDev)
	return strings.TrimSpace(string(text)), err
}

// merge is what the host has merged there, nil for nothing.
func (h *Host) merge(path string) *Merge {
	if h == nil {
		return nil
	}
	i := slices.IndexFunc(h.Merges, func(m *Merge) bool { return m.Path == path })
	if i < 0 {
		return nil
	}
	return h.Merges[i]
}

// is tells whether a mount shows the merge.
func (m *Merge) is(mount *nsmount.Mount) bool {
	return mount.Major == m.at.top.Major && mount.Minor == m.at.top.Minor
}

func (m *Merge) clone(ctx context.Context) (*nsmount.Tree, error) {
	t, err := nsmount.Do(ctx, m.at.ns, func() (*nsmount.Tree, error) { return nsmount.CloneDir(m.at.dir, false, 0) })
	if err != nil {
		return nil, fmt.Errorf("clone the host's tree: %w", err)
	}
	return t, nil
}

// takeMerged clones the host's tree, and finds the mounts to carry: the service's,
// and the host's below the merge.
func (v *View) takeMerged(ctx context.Context, s *Survey, own carrySource) error {
	m := s.merge
	var err error
	if s.whole, err = m.clone(ctx); err != nil {
		return err
	}
	// What the host mounts below it later appears, nothing goes the other way.
	if err := s.whole.SetPropagation(nsmount.Slave, false); err != nil {
		return err
	}
	if err := s.bindable(own.table); err != nil {
		return err
	}
	mine, err := v.collect(ctx, s, own, func(string) bool { return true })
	if err != nil {
		return err
	}
	hosts := *s
	hosts.Point = m.at.top.Point
	theirs, err := v.collect(ctx, &hosts, m.at, func(rel string) bool {
		return !slices.ContainsFunc(mine, func(c Carried) bool { return c.hides(rel) })
	})
	if err != nil {
		return err
	}
	s.Carried = slices.Concat(mine, theirs)
	return v.arrange(ctx, s, own, own)
}

// restrictions are the attributes that the host's tree gets from what it replaces.
const restrictions = nsmount.AttrReadOnly | nsmount.AttrNoSuid | nsmount.AttrNoDev | nsmount.AttrNoExec | nsmount.AttrNoSymfollow

// modeForMerge decides how the host's tree goes live.
func (s *Survey) modeForMerge(limits nsmount.Limits) mode {
	switch {
	case !s.mounted:
		return attach
	case limits.NoBeneath || !s.locked:
		return onTop
	}
	return beneath
}

// is tells whether a mount is the one that was staged.
func (s *Staged) is(m *nsmount.Mount) bool {
	if merge := s.Survey.merge; merge != nil {
		return merge.is(m)
	}
	return m.Source == s.Source.String()
}

func (s *Staged) name() string {
	if merge := s.Survey.merge; merge != nil {
		return merge.Class
	}
	return s.Source.String()
}

// rootOf is the path of the hierarchy within the file system of the mount that it
// is on.
func rootOf(s *Survey, top *nsmount.Mount) string {
	return path.Join(top.Root, strings.TrimPrefix(s.Point, top.Point))
}
