package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension"
	extlayers "github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/internal/textdiff"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
)

// PlannedHierarchy is what would change in one hierarchy.
type PlannedHierarchy struct {
	Path   string         `json:"path"`
	Layers []PlannedLayer `json:"layers"` // of the new overlay, bottom to top, without the base
	// Against says what the new state is compared with: the layers that are live,
	// or, where these are no longer to be had, what the service sees, or, where that
	// cannot be read, the base.
	Against Against `json:"against"`

	// How many files are to be added, changed and removed, and how many are in
	// more than one extension.
	Added    int `json:"added"`
	Changed  int `json:"changed"`
	Removed  int `json:"removed"`
	Shadowed int `json:"shadowed"`

	Files   []PlannedFile   `json:"files"`
	Shadows []PlannedShadow `json:"shadows"`
	More    int             `json:"more,omitempty"` // files and shadows that are counted and not listed
}

// Against is what a new state is compared with.
type Against string

// What there is to compare with.
const (
	AgainstLayers Against = "layers"
	AgainstLive   Against = "live"
	AgainstBase   Against = "base"
)

// PlannedLayer is an extension that a hierarchy has a layer of.
type PlannedLayer struct {
	Extension string `json:"extension"` // as files name it
	Path      string `json:"path"`
}

// PlannedFile is a file that the service would see changed.
type PlannedFile struct {
	Path   string     `json:"path"`
	Change FileChange `json:"change"`
	Type   string     `json:"type"` // of what is new, or was removed

	// From and To are what it comes from: an extension, "base", or for From "live"
	// where that is all that is known.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`

	Differs []string `json:"differs,omitempty"` // which aspects changed
	Target  string   `json:"target,omitempty"`  // of a symbolic link
	Behind  string   `json:"behind,omitempty"`  // a carried mount that hides it from the service

	Diff   string `json:"diff,omitempty"`
	NoDiff string `json:"no_diff,omitempty"` // why there is none, of files with other contents
}

// FileChange is how a file changes.
type FileChange string

// The changes of a file.
const (
	FileAdded   FileChange = "added"
	FileChanged FileChange = "changed"
	FileRemoved FileChange = "removed"
)

// PlannedShadow is a path that is in more than one extension.
type PlannedShadow struct {
	Path   string   `json:"path"`
	By     string   `json:"by"` // the extension that hides
	Hidden []string `json:"hidden"`
	Gone   bool     `json:"gone,omitempty"` // By has a whiteout: nothing is to be seen
}

// What Diff shows at most: of one file, and of all.
const (
	maxText  = 256 << 10
	maxTexts = 4 << 20
)

// The ends of a change that are no extension.
const (
	endBase = "base"
	endLive = "live"
)

// look compares hierarchy by hierarchy what is live with what would be.
func (p *planner) look(is *situation, running *target, v *hierarchy.View, all *opened, l *layers, old []*extension.Picked) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		f := &filePlanner{planner: p, textLeft: maxTexts}
		if err := f.openFormer(ctx, is, v, all, old); err != nil {
			return struct{}{}, err
		}
		for i, s := range v.Surveys {
			if err := f.hierarchy(ctx, is, running, s, l.wanted[i], f.givers(all, l, s.Path)); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	}}
}

// filePlanner compares files.
type filePlanner struct {
	*planner
	live     map[string]*extension.Opened // what is live, by identity, as far as it is to be had
	textLeft int
}

// openFormer opens what is live: what is picked again is open already.
func (f *filePlanner) openFormer(ctx context.Context, is *situation, v *hierarchy.View, all *opened, old []*extension.Picked) error {
	f.live = map[string]*extension.Opened{}
	for _, e := range all.extensions {
		f.live[e.Identity] = e
	}
	rest := slices.DeleteFunc(slices.Clone(old), func(p *extension.Picked) bool { return f.live[p.Identity] != nil })
	os, err := osOf(v)
	if err != nil {
		return err
	}
	for _, p := range rest {
		e, err := nsmount.Do(ctx, f.host, func() (*extension.Opened, error) {
			return extension.Open(ctx, p, openOptions(is.settings, os))
		})
		if err == nil {
			f.run.Own(e)
			f.live[p.Identity] = e
			continue
		}
		if ctx.Err() != nil {
			return err
		}
		f.note("what is live can no longer be opened: %v", err)
	}
	return nil
}

func (f *filePlanner) note(format string, args ...any) {
	f.plan.Warnings = append(f.plan.Warnings, fmt.Sprintf(format, args...))
}

// givers are the extensions that give the new layers of a hierarchy.
func (f *filePlanner) givers(all *opened, l *layers, h string) (g []*extension.Opened) {
	for _, e := range all.extensions {
		if slices.Contains(l.gives[e], h) {
			g = append(g, e)
		}
	}
	return g
}

// stack is what a hierarchy is made of, with the names of its layers.
type stack struct {
	extlayers.Stack
	names []string
	close []io.Closer
}

func (s *stack) Close() error {
	var errs []error
	for _, c := range s.close {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (s *stack) name(layer int) string {
	if layer == extlayers.Base {
		return endBase
	}
	return s.names[layer]
}

// hierarchy compares one hierarchy with the layers that are live, or else with what
// the service sees, or else with its base.
func (f *filePlanner) hierarchy(ctx context.Context, is *situation, running *target, s *hierarchy.Survey, w hierarchy.Wanted, givers []*extension.Opened) error {
	h := PlannedHierarchy{Path: s.Path, Layers: []PlannedLayer{}, Files: []PlannedFile{}, Shadows: []PlannedShadow{}, Against: AgainstLayers}
	if s.Base == nil {
		f.plan.Hierarchies = append(f.plan.Hierarchies, h)
		return nil // it is not there, and no layer wants it: stage would have failed
	}
	after := &stack{Stack: extlayers.Stack{Layers: w.Layers, Base: s.Base.File()}, names: shortNames(pathsOf(givers))}
	for i, e := range givers {
		h.Layers = append(h.Layers, PlannedLayer{Extension: after.names[i], Path: e.Path})
	}
	before, err := f.before(s, is.record.Current)
	if err != nil {
		return err
	}
	if before == nil {
		h.Against = AgainstLive
		if before, err = f.liveView(ctx, running, s); err != nil {
			return err
		}
	}
	found, err := f.compareFiles(ctx, h, s, before, after)
	if h.Against == AgainstLive && errors.Is(err, unix.ENOENT) {
		// A directory that was removed under an overlay: nothing can be listed.
		f.note("what the service sees of %s cannot be listed, for a layer was removed under it: it is compared with the base", s.Path)
		h.Against = AgainstBase
		found, err = f.compareFiles(ctx, h, s, &stack{Stack: extlayers.Stack{Base: s.Base.File()}}, after)
	}
	f.plan.Hierarchies = append(f.plan.Hierarchies, found)
	return err
}

// compareFiles adds the files to what is known of a hierarchy. It closes before.
func (f *filePlanner) compareFiles(ctx context.Context, h PlannedHierarchy, s *hierarchy.Survey, before, after *stack) (PlannedHierarchy, error) {
	d := extlayers.Differ{
		Checksum: f.options.Checksum,
		Changed:  func(c *extlayers.Change) error { f.changed(&h, s, before, after, c); return nil },
		Shadowed: func(c *extlayers.Shadow) error { f.shadowed(&h, after, c); return nil },
	}
	err := errors.Join(d.Diff(ctx, before.Stack, after.Stack), before.Close())
	if err != nil {
		err = fmt.Errorf("compare what %q shows: %w", s.Path, err)
	}
	return h, err
}

// before opens the layers that are live in a hierarchy; nil where they are not to
// be had, or are not what the record says.
func (f *filePlanner) before(s *hierarchy.Survey, current state.Generation) (*stack, error) {
	b := &stack{Stack: extlayers.Stack{Base: s.Base.File()}}
	top, covered := s.Top()
	if !covered {
		return b, nil
	}
	if top.Owner != hierarchy.Ours || top.Source.Generation != current.Number {
		return nil, nil
	}
	var paths []string
	for _, e := range current.Extensions {
		if !slices.Contains(e.Hierarchies, s.Path) {
			continue
		}
		opened := f.live[e.Identity]
		if opened == nil || !same(e, opened.Picked) {
			f.note("%q is no longer what generation %d has of it: %s is compared with what the service sees", e.Path, current.Number, s.Path)
			return nil, b.Close()
		}
		dir, ok, err := opened.Layer(s.Path)
		if err != nil || !ok {
			return nil, errors.Join(err, b.Close())
		}
		b.Layers, b.close, paths = append(b.Layers, dir), append(b.close, dir), append(paths, e.Path)
	}
	b.names = shortNames(paths)
	return b, nil
}

// liveView clones what the service sees of a hierarchy.
func (f *filePlanner) liveView(ctx context.Context, running *target, s *hierarchy.Survey) (*stack, error) {
	tree, err := nsmount.Do(ctx, running.live, func() (*nsmount.Tree, error) {
		dir, err := nsmount.OpenInRoot(s.Path, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		tree, err := nsmount.CloneDir(dir, false, 0)
		if errors.Is(err, unix.EINVAL) {
			// Its mounts are locked to it: they come along, and are passed over.
			tree, err = nsmount.CloneDir(dir, true, 0)
		}
		return tree, err
	})
	if err != nil {
		return nil, fmt.Errorf("look at what the service sees of %q: %w", s.Path, err)
	}
	b := &stack{names: []string{endLive}, close: []io.Closer{tree}}
	b.Layers = []*os.File{tree.File()}
	return b, nil
}

func pathsOf(all []*extension.Opened) []string {
	var paths []string
	for _, e := range all {
		paths = append(paths, e.Path)
	}
	return paths
}

// shortNames are short names of the extensions: the last component where that is
// no other's.
func shortNames(paths []string) []string {
	count := map[string]int{endBase: 1, endLive: 1}
	for _, p := range paths {
		count[path.Base(p)]++
	}
	short := make([]string, len(paths))
	for i, p := range paths {
		if short[i] = path.Base(p); count[short[i]] > 1 {
			short[i] = p
		}
	}
	return short
}

func (f *filePlanner) changed(h *PlannedHierarchy, s *hierarchy.Survey, before, after *stack, c *extlayers.Change) {
	file := PlannedFile{Path: path.Join(h.Path, c.Path), Change: FileChanged, Differs: c.Differs.Names()}
	switch {
	case c.Old == nil:
		file.Change = FileAdded
		h.Added++
	case c.New == nil:
		file.Change = FileRemoved
		h.Removed++
	default:
		h.Changed++
	}
	if len(h.Files)+len(h.Shadows) >= f.options.MaxFiles {
		h.More++
		return
	}
	if c.Old != nil {
		file.From, file.Type, file.Target = before.name(c.Old.Layer), typeOf(c.Old), c.Old.Target
	}
	if c.New != nil {
		file.To, file.Type, file.Target = after.name(c.New.Layer), typeOf(c.New), c.New.Target
	}
	for _, m := range s.Carried {
		if c.Path == m.Path || strings.HasPrefix(c.Path, m.Path+"/") {
			file.Behind = path.Join(h.Path, m.Path)
		}
	}
	if f.options.Diff {
		f.diff(&file, c)
	}
	h.Files = append(h.Files, file)
}

func (f *filePlanner) shadowed(h *PlannedHierarchy, after *stack, c *extlayers.Shadow) {
	h.Shadowed++
	if len(h.Files)+len(h.Shadows) >= f.options.MaxFiles {
		h.More++
		return
	}
	s := PlannedShadow{Path: path.Join(h.Path, c.Path), By: after.name(c.By), Gone: c.Gone}
	for _, layer := range c.Hidden {
		s.Hidden = append(s.Hidden, after.name(layer))
	}
	h.Shadows = append(h.Shadows, s)
}

func typeOf(f *extlayers.File) string {
	switch f.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// diff adds the text diff of a file.
func (f *filePlanner) diff(file *PlannedFile, c *extlayers.Change) {
	var texts [2][]byte
	labels := [2]string{textdiff.DevNull, textdiff.DevNull}
	for i, end := range []*extlayers.File{c.Old, c.New} {
		if end == nil {
			continue
		}
		if end.Mode&unix.S_IFMT != unix.S_IFREG {
			return
		}
		labels[i] = "ab"[i:i+1] + file.Path
		if texts[i], file.NoDiff = f.text(end); file.NoDiff != "" {
			return
		}
	}
	file.Diff = textdiff.Unified(labels[0], labels[1], texts[0], texts[1])
	f.textLeft -= len(file.Diff)
}

// text reads a file that a diff can be made of; else it says why not.
func (f *filePlanner) text(end *extlayers.File) (text []byte, whyNot string) {
	switch {
	case end.Size > maxText:
		return nil, fmt.Sprintf("larger than %d KiB", maxText>>10)
	case f.textLeft <= 0:
		return nil, fmt.Sprintf("%d MiB of diffs are shown already", maxTexts>>20)
	}
	file, err := end.Open()
	if err != nil {
		return nil, err.Error()
	}
	defer file.Close()
	text, err = io.ReadAll(io.LimitReader(file, maxText+1))
	switch {
	case err != nil:
		return nil, err.Error()
	case len(text) > maxText:
		return nil, fmt.Sprintf("larger than %d KiB", maxText>>10)
	case !textdiff.IsText(text):
		return nil, "binary"
	}
	return text, ""
}
