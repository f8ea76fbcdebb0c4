package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// picks is what all refs mean now, in layer order.
type picks struct {
	picked   []*extension.Picked
	warnings []string
}

// pickRules loosen what may be picked.
type pickRules struct {
	force   bool // also what was refused or is held
	anyPath bool // also what another user can replace

	// Of a reload: what is live. It needs no tries, and with CountTries=yes what
	// has none left is passed over. A start takes that where there is nothing else,
	// as systemd does.
	live *state.Generation
}

// options are what a pick of a ref keeps to.
func (r pickRules) options(s settings.Settings, memory *state.Memory, ref settings.Ref) extension.PickOptions {
	o := passOver(memory, ref)
	if s.CountTries && r.live != nil {
		o.NoTriesLeft, o.Live = !r.force, paths(*r.live)
	}
	return o
}

// pickAll picks every ref. The same extension twice counts once: the higher one
// stays. Must run in the host view.
func pickAll(s settings.Settings, memory *state.Memory, rules pickRules) (picks, error) {
	if rules.force {
		memory = &state.Memory{}
	}
	var all picks
	for _, ref := range s.Refs {
		p, err := extension.Pick(ref, rules.options(s, memory, ref))
		if err == nil && p != nil && !rules.anyPath {
			err = trusted(p)
		}
		if err == nil && p != nil {
			err = allowed(s, p)
		}
		if err != nil {
			var none bool
			if none, err = allHeld(memory, ref, err); none {
				all.warnings = append(all.warnings, fmt.Sprintf("%q is left out: all of it %s", ref, memory.HoldOf(ref.Kind.String(), ref.String()).Why))
				continue
			}
			if !s.SkipBad || extension.Shortage(err) {
				return all, err
			}
			all.warnings = append(all.warnings, fmt.Sprintf("left out (OnBadExtension=skip): %v", err))
			continue
		}
		if p == nil {
			continue
		}
		all.warnings = slices.Concat(all.warnings, p.Warnings, heldBefore(memory, p), lastResort(s, p))
		all.add(p)
	}
	return all, nil
}

// allowed says whether policy and signature let an image be used, also where nothing
// of it has changed. What cannot be judged is not allowed: it would be kept
// unopened, whatever is demanded of it by now, and not come up at the next start.
func allowed(s settings.Settings, p *extension.Picked) error {
	return extension.Judge(p, openOptions(s, release.OS{}))
}

func (all *picks) add(p *extension.Picked) {
	i := slices.IndexFunc(all.picked, func(q *extension.Picked) bool { return q.Identity == p.Identity })
	if i >= 0 {
		all.warnings = append(all.warnings, fmt.Sprintf("%s and %s are the same extension: the one listed last counts", all.picked[i].Path, p.Path))
		all.picked = slices.Delete(all.picked, i, i+1)
	}
	all.picked = append(all.picked, p)
}

// pickRecorded picks exactly what a generation had. What is to be used goes through
// pickTrusted. Must run in the host view.
func pickRecorded(g state.Generation) ([]*extension.Picked, error) {
	var picked []*extension.Picked
	var gone []error
	for _, e := range g.Extensions {
		kind := settings.Directory
		if e.Kind == settings.Image.String() {
			kind = settings.Image
		}
		ref, err := settings.ParseRef(kind, e.Ref)
		if err != nil {
			return nil, err
		}
		p, err := extension.PickAgain(ref, e.Path, e.Identity)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, fmt.Errorf("%q, which generation %d had, is gone: install that version again", e.Path, g.Number))
			continue
		case errors.Is(err, extension.ErrOther):
			gone = append(gone, fmt.Errorf("%q is no longer what generation %d had: install that version again", e.Path, g.Number))
			continue
		case err != nil:
			gone = append(gone, err)
			continue
		}
		p.Version = e.Version
		picked = append(picked, p)
	}
	return picked, errors.Join(gone...)
}

// pickTrusted picks what a generation had, where no other user can have replaced any
// of it since, or that does not matter. Must run in the host view.
func pickTrusted(g state.Generation, anyPath bool) ([]*extension.Picked, error) {
	picked, err := pickRecorded(g)
	if err != nil || anyPath {
		return picked, err
	}
	for _, p := range picked {
		if err := trusted(p); err != nil {
			return nil, err
		}
	}
	return picked, nil
}

// corrupted lists the images of a generation that is live in which the kernel has
// seen a changed block. Must run in the host view.
func corrupted(g state.Generation) (paths []string) {
	for _, e := range g.Extensions {
		if extension.Corrupted(e.Device) {
			paths = append(paths, e.Path)
		}
	}
	return paths
}

// opened are extensions as trees, in layer order.
type opened struct {
	extensions []*extension.Opened
	warnings   []string
}

// Close gives all trees up.
func (o *opened) Close() error {
	nsmount.Gather(o.trees())
	var errs []error
	for _, e := range o.extensions {
		errs = append(errs, e.Close())
	}
	o.extensions = nil
	return errors.Join(errs...)
}

// trees are those that Close closes.
func (o *opened) trees() (trees []*nsmount.Tree) {
	for _, e := range o.extensions {
		trees = append(trees, e.Owners()...)
	}
	return trees
}

// picked are the picks of what was opened.
func (o *opened) picked() []*extension.Picked {
	var picked []*extension.Picked
	for _, e := range o.extensions {
		picked = append(picked, e.Picked)
	}
	return picked
}

// openOptions are what the settings demand of an extension.
func openOptions(s settings.Settings, os release.OS) extension.OpenOptions {
	return extension.OpenOptions{OS: os, Policy: s.Policy, RequireSignature: s.RequireSignature, VerifiedCopyMax: s.VerifiedCopyMax}
}

// openAll opens and matches what was picked. On an error nothing stays open.
// Must run in the host view.
func openAll(ctx context.Context, s settings.Settings, picked []*extension.Picked, os release.OS) (*opened, error) {
	all := &opened{}
	for _, p := range picked {
		e, err := extension.Open(ctx, p, openOptions(s, os))
		if err != nil {
			if !s.SkipBad || extension.Shortage(err) {
				return nil, errors.Join(err, all.Close())
			}
			all.warnings = append(all.warnings, fmt.Sprintf("left out (OnBadExtension=skip): %v", err))
			continue
		}
		if e.Info.Untrusted != nil {
			all.warnings = append(all.warnings, fmt.Sprintf("%q is used, since the image policy takes it without a signature: %v", e.Path, e.Info.Untrusted))
		}
		all.extensions = append(all.extensions, e)
	}
	return all, nil
}

// osOf reads what a survey found of the service root's os-release.
func osOf(v *hierarchy.View) (release.OS, error) {
	if v.OSRelease == nil {
		return release.OS{}, nil
	}
	fields, err := release.Parse(v.OSRelease)
	if err != nil {
		return release.OS{}, fmt.Errorf("read %s of the service's root: %w", v.OSReleaseFile, err)
	}
	return release.OS{File: v.OSReleaseFile, Fields: fields}, nil
}

// notThere warns of hierarchies that no layer wanted, and that are no directories. That
// one of the usual three is missing is no surprise.
func notThere(s settings.Settings, v *hierarchy.View) (warnings []string) {
	if slices.Equal(s.Hierarchies, settings.Default().Hierarchies) {
		return nil
	}
	for _, one := range v.Surveys {
		if one.Err != nil && slices.Contains(s.Hierarchies, one.Path) {
			warnings = append(warnings, one.Err.Error())
		}
	}
	return warnings
}

// layers are the directories that the extensions give to each hierarchy.
type layers struct {
	wanted []hierarchy.Wanted
	gives  map[*extension.Opened][]string // hierarchies by extension
	open   []io.Closer
}

// Close closes the directories.
func (l *layers) Close() error {
	var errs []error
	for _, c := range l.open {
		errs = append(errs, c.Close())
	}
	l.open = nil
	return errors.Join(errs...)
}

// layersOf opens what each extension has for each hierarchy.
func layersOf(is *situation, all *opened, source hierarchy.Source) (*layers, error) {
	l := &layers{gives: map[*extension.Opened][]string{}}
	for _, h := range is.hierarchies {
		w := hierarchy.Wanted{Source: source, NoExec: is.settings.NoExec, NoSuid: is.settings.NoSuid}
		for _, e := range all.extensions {
			if !slices.Contains(is.settings.Hierarchies, h) {
				break
			}
			dir, ok, err := e.Layer(h)
			if err != nil {
				return nil, errors.Join(err, l.Close())
			}
			if !ok {
				continue
			}
			l.add(&w, e, dir, h)
		}
		l.wanted = append(l.wanted, w)
	}
	return l, nil
}

func (l *layers) add(w *hierarchy.Wanted, e *extension.Opened, dir *os.File, h string) {
	l.open = append(l.open, dir)
	l.gives[e] = append(l.gives[e], h)
	w.Layers = append(w.Layers, dir)
	w.Owners = append(w.Owners, e.Owners()...)
}
