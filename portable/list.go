package portable

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A State is what portablectl says of an image.
type State string

// The states; those of what goes with the next boot have "-runtime" at the end.
const (
	Detached State = "detached"
	Attached State = "attached"
	Enabled  State = "enabled"
	Running  State = "running"
)

// state is that of units, of which some run and some are enabled.
func state(running, enabled bool, a *attachment) State {
	s := Attached
	switch {
	case a == nil:
		return Detached
	case running:
		s = Running
	case enabled:
		s = Enabled
	}
	if a.Runtime {
		s += "-runtime"
	}
	return s
}

// An Entry is one image, or one that is attached with its extensions.
type Entry struct {
	Name       string   `json:"name"`
	State      State    `json:"state"`
	Path       string   `json:"path"`
	Extensions []string `json:"extensions"`
	Units      []string `json:"units"`
	// Missing are those of the images that are not there any more, and links that lead
	// nowhere.
	Missing []string `json:"missing"`
	// Dangling are the links by which images of it were found by name, and that lead to
	// what is not there any more: of a ".v/", an older version.
	Dangling []string `json:"dangling"`
}

func newEntry(state State, image string) Entry {
	return Entry{Name: shortName(image), State: state, Path: image, Extensions: []string{}, Units: []string{}, Missing: []string{}, Dangling: []string{}}
}

// List gives what is attached, and after that the images that could be: those of the
// directories in which they are found by name.
func (h Host) List(ctx context.Context) ([]Entry, error) {
	all, err := h.attachments()
	if err != nil {
		return nil, err
	}
	list, known := []Entry{}, map[string]bool{}
	for _, a := range all {
		s, err := h.stateOf(ctx, a)
		if err != nil {
			return nil, err
		}
		e := newEntry(s, a.Marker[0])
		e.Extensions, e.Units = a.Marker[1:], a.Units
		for _, image := range a.Marker {
			known[image] = true
			if gone(image) && gone(versions(image)) {
				e.Missing = append(e.Missing, image)
			}
		}
		list = append(list, e)
	}
	attached := len(list)
	for _, dir := range searchDirs() {
		entries, _ := os.ReadDir(h.path(dir)) // most of them are not there
		for _, d := range entries {
			p := h.path(dir, d.Name())
			target, err := os.Readlink(p)
			if err == nil && known[target] && gone(p) {
				dangles(list[:attached], target, p)
			}
			if strings.HasPrefix(d.Name(), ".") || known[p] || err == nil && known[target] {
				continue
			}
			known[p] = true
			e := newEntry(Detached, p)
			if gone(p) {
				e.Missing = append(e.Missing, p)
			}
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list[:attached], func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return list, nil
}

// dangles notes a link of what is attached from an image.
func dangles(attached []Entry, image, link string) {
	for i := range attached {
		if e := &attached[i]; e.Path == image || slices.Contains(e.Extensions, image) {
			e.Dangling = append(e.Dangling, link)
		}
	}
}

// versions is the ".v/" that an image lies in, which may have a newer version by now;
// the image itself where it lies in none.
func versions(image string) string {
	if dir := filepath.Dir(image); filepath.Ext(dir) == ".v" {
		return dir
	}
	return image
}

// stateOf asks systemd, where there is one.
func (h Host) stateOf(ctx context.Context, a *attachment) (State, error) {
	running, enabled, err := h.states(ctx, a)
	return state(len(running) > 0, len(enabled) > 0, a), err
}

// IsAttached gives the state of what is attached of the images.
func (h Host) IsAttached(ctx context.Context, base string, extensions []string) (State, error) {
	a, err := h.attached(given(base, extensions))
	if errors.Is(err, ErrNotAttached) {
		return Detached, nil
	}
	if err != nil {
		return "", err
	}
	return h.stateOf(ctx, a)
}

// An Inspection is what an image and its extensions are.
type Inspection struct {
	Base       Release    `json:"base"`
	Extensions []Release  `json:"extensions"`
	Prefixes   []string   `json:"prefixes"` // that it allows; none is all
	Units      []UnitText `json:"units"`
}

// A Release is one image and its release file.
type Release struct {
	Path    string            `json:"path"`
	Picked  string            `json:"picked"` // another where the path is a ".v/"
	Classes []string          `json:"classes"`
	Fields  map[string]string `json:"release"`
}

// UnitText is a unit of an image.
type UnitText struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	Text  string `json:"text"`
}

// Inspect looks at an image as Attach would. No prefixes are those of its name, and all
// where no unit has that; "-" is all units.
func (h Host) Inspect(ctx context.Context, r Request) (in *Inspection, err error) {
	images, err := h.open(ctx, r)
	defer func() {
		for _, i := range images {
			err = errors.Join(err, i.Close())
		}
	}()
	if err != nil {
		return nil, err
	}
	prefixes := r.Prefixes
	switch {
	case len(prefixes) == 0:
		prefixes = []string{shortName(images[0].Path)}
	case slices.Equal(prefixes, []string{"-"}):
		prefixes = nil
	}
	found, err := unitFiles(images, prefixes)
	if err == nil && len(found)+len(r.Prefixes) == 0 {
		found, err = unitFiles(images, nil)
	}
	if err != nil {
		return nil, err
	}
	in = &Inspection{Extensions: []Release{}, Prefixes: []string{}, Units: []UnitText{}}
	for n, i := range images {
		in.Prefixes = append(in.Prefixes, strings.Fields(i.Fields["PORTABLE_PREFIXES"])...)
		rel := Release{Path: i.Path, Picked: i.Picked, Classes: append([]string{}, i.Classes...), Fields: i.Fields}
		if n == 0 {
			in.Base = rel
		} else {
			in.Extensions = append(in.Extensions, rel)
		}
	}
	for _, u := range found {
		in.Units = append(in.Units, UnitText{Name: u.Name, Image: filepath.Base(u.From.Path), Text: string(u.Text)})
	}
	return in, nil
}
