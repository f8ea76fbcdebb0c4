package portable

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/units/lint"
)

// A Request is what to attach, and how. Detach needs the images, and Runtime to
// Enable.
type Request struct {
	Base       string // a path, or a name
	Extensions []string
	Prefixes   []string // of units; none is the base's name
	Profile    string   // "" is "default"
	Copy       string   // "", "copy", "symlink", "mixed", as portablectl has them

	Runtime  bool // until the next boot
	Force    bool // over units that are there, and for extensions whose release file has another name
	NoReload bool // systemd is not told
	Now      bool // start or stop, too
	Enable   bool // or disable
	Clean    bool // of Detach: remove state, cache, logs and so on of the units, too
	DryRun   bool
}

// A Result is what was done, or would be.
type Result struct {
	Changes []Change
	Units   []string // that are attached, or were
	Notes   []string // for the administrator, a line each
}

// Attach attaches the units of an image: all of them, or on failure none.
func (h Host) Attach(ctx context.Context, r Request) (*Result, error) {
	return h.locked(ctx, r, func() (*Result, error) { return h.attach(ctx, r, nil) })
}

// locked runs f while no other call of ours does anything, and once it was put right what
// one that was killed has left. A dry run needs no lock: what is attached changes in one
// step.
func (h Host) locked(ctx context.Context, r Request, f func() (*Result, error)) (*Result, error) {
	if r.DryRun {
		return f()
	}
	lock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	notes, err := h.mend(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("finish what an earlier call began: %w", err)
	}
	if err := h.sweep(); err != nil {
		return nil, fmt.Errorf("remove what an earlier call left: %w", err)
	}
	result, err := f()
	if result != nil {
		result.Notes = append(notes, result.Notes...)
	}
	return result, err
}

// attach puts units in, and those of old, where it is not nil, out.
func (h Host) attach(ctx context.Context, r Request, old *attachment) (result *Result, err error) {
	images, err := h.open(ctx, r)
	defer func() {
		for _, i := range images {
			err = errors.Join(err, i.Close())
		}
	}()
	if err != nil {
		return nil, err
	}
	found, err := h.units(images, r)
	if err != nil {
		return nil, err
	}
	if err := h.mayAttach(ctx, found, r, old); err != nil {
		return nil, err
	}
	j, err := h.jobs(ctx, found, r, old)
	if err != nil {
		return nil, err
	}
	e := &edit{dir: h.attachedDir(r.Runtime)}
	notes, err := h.plan(e, images, found, r, old, len(j.running) > 0)
	if err != nil {
		return nil, err
	}
	result = &Result{Changes: e.all(), Units: names(found), Notes: notes}
	if r.DryRun {
		return result, nil
	}
	left, err := h.commit(ctx, e, j)
	if err != nil {
		return nil, fmt.Errorf("attach %q: %w", r.Base, err)
	}
	result.Notes = append(result.Notes, left...)
	return result, nil
}

// open opens the base and the extensions. The caller closes what is returned, also
// with an error.
func (h Host) open(ctx context.Context, r Request) (images []*Image, err error) {
	base, err := h.openBase(ctx, r.Base)
	if err != nil {
		return nil, err
	}
	images = append(images, base)
	if err := writable(base.Path); err != nil {
		return images, err
	}
	for _, given := range r.Extensions {
		i, err := h.openExtension(ctx, given, base, r.Force)
		if err != nil {
			return images, err
		}
		images = append(images, i)
		if slices.ContainsFunc(images[:len(images)-1], func(o *Image) bool { return o.Picked == i.Picked }) {
			return images, fmt.Errorf("extension %q: it is given twice, and the kernel refuses such an overlay: give it once", i.Picked)
		}
	}
	return images, nil
}

// writable refuses a path that a unit cannot have plainly.
func writable(p string) error {
	if !utf8.ValidString(p) { // systemd ignores such a line, and the service would have the host as its root
		return fmt.Errorf("base image %q: its path is not valid UTF-8, and cannot be written into a unit: use another path", p)
	}
	if strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f || strings.ContainsRune(`"'\`, c) }) || strings.TrimSpace(p) != p {
		return fmt.Errorf("base image %q: its path has a character that cannot be written into a unit: use another path", p)
	}
	return nil
}

// units finds the units that are to be attached.
func (h Host) units(images []*Image, r Request) ([]UnitFile, error) {
	prefixes := r.Prefixes
	if len(prefixes) == 0 {
		prefixes = []string{shortName(images[0].Path)}
	}
	var allowed []string
	for _, i := range images {
		allowed = append(allowed, strings.Fields(i.Fields["PORTABLE_PREFIXES"])...)
	}
	if err := checkPrefixes(prefixes, allowed); err != nil {
		return nil, fmt.Errorf("attach %q: %w", r.Base, err)
	}
	found, err := unitFiles(images, prefixes)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("attach %q: no unit in it, or in its extensions, begins with %s: name a prefix, see extexec portable inspect", r.Base, strings.Join(prefixes, " or "))
	}
	return found, nil
}

func names(found []UnitFile) (list []string) {
	for _, u := range found {
		list = append(list, u.Name)
	}
	return list
}

// mayAttach refuses units that are on the host already.
func (h Host) mayAttach(ctx context.Context, found []UnitFile, r Request, old *attachment) error {
	if r.Force {
		return nil
	}
	if r.Enable {
		if err := h.mayEnable(found); err != nil {
			return err
		}
	}
	for _, u := range found {
		if old != nil && slices.Contains(old.Units, u.Name) {
			continue
		}
		for _, dir := range unitfile.SystemPath() {
			p := h.path(dir, u.Name)
			if ok, err := there(p); err != nil {
				return fmt.Errorf("attach unit %q: %w", u.Name, err)
			} else if ok {
				return fmt.Errorf("attach unit %q: %q is there already: reattach or detach what it is of, or give --force", u.Name, p)
			}
		}
		for _, runtime := range []bool{false, true} {
			p := filepath.Join(h.attachedDir(runtime), u.Name+".d")
			if ok, err := there(p); err != nil {
				return fmt.Errorf("attach unit %q: %w", u.Name, err)
			} else if ok {
				return fmt.Errorf("attach unit %q: %q is left over from an earlier attach: detach that, or give --force", u.Name, p)
			}
		}
		if h.Manager == nil {
			continue
		}
		active, err := h.Manager.Active(ctx, u.Name)
		if err != nil {
			return err
		}
		if active {
			return fmt.Errorf("attach unit %q: a unit of that name runs: stop it, or give --force", u.Name)
		}
	}
	return nil
}

// factsOf are the facts about the extensions.
func (h Host) factsOf(extensions []*Image) lint.Facts {
	f := h.Facts
	f.Sources = map[string]lint.Source{}
	for _, e := range extensions {
		f.Sources[e.Path] = lint.Source{Classes: e.Classes}
	}
	return f
}

// plan says what changes. running says that units of old will not have been stopped.
func (h Host) plan(e *edit, images []*Image, found []UnitFile, r Request, old *attachment, running bool) (notes []string, err error) {
	profile := r.Profile
	if profile == "" {
		profile = "default"
	}
	files, err := h.profileFiles(profile, found)
	if err != nil {
		return nil, err
	}
	others, err := h.othersThan(old)
	if err != nil {
		return nil, err
	}
	var leaving Marker
	if old != nil {
		leaving = old.Marker
	}
	if e.shelf, err = h.place(images, r, leaving, others, running && !r.Now); err != nil {
		return nil, err
	}
	w := &writer{base: images[0], extensions: images[1:], facts: h.factsOf(images[1:]), profile: map[string][]byte{}}
	for kind, file := range files {
		if w.profile[kind], err = readBounded(file); err != nil {
			return nil, fmt.Errorf("read profile %q: %w", profile, err)
		}
	}
	gone := map[string]bool{}
	if old != nil {
		if err := e.remove(old.Units); err != nil {
			return nil, err
		}
		for _, c := range e.changes {
			gone[c.Path] = true
		}
		kept, err := e.shelf.clearOf(leaving, append(others, w.marker()), running && !r.Now)
		if err != nil {
			return nil, err
		}
		w.notes = stays(kept)
	}
	if ok, err := there(e.dir); err != nil {
		return nil, err
	} else if !ok {
		e.changes = append(e.changes, Change{Type: "mkdir", Path: e.dir})
	}
	for _, u := range found {
		if err := e.add(w, u, files[path.Ext(u.Name)], r, gone); err != nil {
			return nil, err
		}
	}
	return w.notes, nil
}

// stays says which copies are not removed.
func stays(kept []string) (notes []string) {
	for _, p := range kept {
		notes = append(notes, fmt.Sprintf("%q stays, since units run that use it: remove it once they have stopped", p))
	}
	return notes
}

// add puts one unit into the directory. gone are the paths that are not there any more
// by then.
func (e *edit) add(w *writer, u UnitFile, profile string, r Request, gone map[string]bool) error {
	unit := filepath.Join(e.dir, u.Name)
	text, err := w.dropIn(u)
	if err != nil {
		return err
	}
	var bad error
	is := func(p string) bool {
		ok, err := there(p)
		bad = errors.Join(bad, err)
		return ok && !gone[p]
	}
	put := func(c Change) {
		if is(c.Path) && c.Type != "write" && c.Type != "copy" {
			e.changes = append(e.changes, Change{Type: "unlink", Path: c.Path})
		}
		e.changes = append(e.changes, c)
	}
	if d := unit + ".d"; !is(d) {
		put(Change{Type: "mkdir", Path: d})
	}
	put(Change{Type: "write", Path: unit + ".d/" + dropInName, text: []byte(text)})
	switch {
	case profile == "":
	case r.Copy == "copy":
		put(Change{Type: "copy", Path: unit + ".d/" + profileName, Source: profile, text: w.profile[path.Ext(u.Name)]})
	default:
		put(Change{Type: "symlink", Path: unit + ".d/" + profileName, Source: profile})
	}
	if r.Copy == "symlink" && u.From.ref.Path == "" && u.HostPath != "" && strings.HasPrefix(u.HostPath, u.From.Path+"/") {
		put(Change{Type: "symlink", Path: unit, Source: u.HostPath})
		return bad
	}
	put(Change{Type: "copy", Path: unit, Source: u.Source, text: u.Text})
	return bad
}

// jobs says what systemd is asked to do.
func (h Host) jobs(ctx context.Context, found []UnitFile, r Request, old *attachment) (jobs, error) {
	j := jobs{runtime: r.Runtime, reload: !r.NoReload}
	if (r.Now || r.Enable) && h.Manager == nil {
		return j, fmt.Errorf("attach %q: --now and --enable: %w", r.Base, errNoManager)
	}
	running, enabled, err := h.states(ctx, old)
	if err != nil {
		return j, err
	}
	j.running = running
	for _, u := range found {
		if isTemplate(u.Name) {
			continue // a template is neither started nor enabled
		}
		switch {
		case !r.Now:
		case slices.Contains(running, u.Name):
			j.restart = append(j.restart, u.Name)
		default:
			j.start = append(j.start, u.Name)
		}
		if r.Enable && !slices.Contains(enabled, u.Name) {
			j.enable = append(j.enable, u.Name)
		}
	}
	left := func(u string) bool { return !slices.Contains(names(found), fileOf(u)) }
	for _, u := range running {
		switch {
		case !r.Now:
		case left(u):
			j.stop = append(j.stop, u)
		case fileOf(u) != u:
			j.restart = append(j.restart, u)
		}
	}
	for _, u := range enabled {
		if left(u) && r.Enable {
			j.disable = append(j.disable, u)
		}
	}
	return j, nil
}

func isTemplate(unit string) bool { return strings.Contains(unit, "@.") }

// fileOf is the unit file of a unit: of an instance, its template's.
func fileOf(unit string) string {
	if n, err := unitfile.ParseName(unit); err == nil && n.IsInstance() {
		return n.Template()
	}
	return unit
}

// states are those units of an attachment that run, instances of templates too, and those
// that are enabled.
func (h Host) states(ctx context.Context, a *attachment) (running, enabled []string, err error) {
	if a == nil || h.Manager == nil {
		return nil, nil, nil
	}
	for _, u := range a.Units {
		active, err := h.Manager.Active(ctx, u)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case active && isTemplate(u):
			instances, err := h.Manager.Instances(ctx, u)
			if err != nil {
				return nil, nil, err
			}
			running = append(running, instances...)
		case active:
			running = append(running, u)
		}
		state, err := h.Manager.FileState(ctx, u)
		if err != nil {
			return nil, nil, err
		}
		if strings.HasPrefix(state, "enabled") {
			enabled = append(enabled, u)
		}
	}
	return running, enabled, nil
}
