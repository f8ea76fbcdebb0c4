package reload

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// Where the mount of a carried one came from, in a record.
const (
	originUnit = "unit"
	originHost = "host"
)

// Flags are what was given on the command line of run, beside the unit.
type Flags struct {
	Images, Directories, Hierarchies []string
	ImagePolicy                      string // "": what the unit says
	// AnyPath takes extensions also from where another user can replace them.
	AnyPath bool
}

func (f Flags) record() map[string][]string {
	m := map[string][]string{}
	for name, values := range map[string][]string{"extension-image": f.Images, "extension-directory": f.Directories, "hierarchy": f.Hierarchies} {
		if len(values) > 0 {
			m[name] = values
		}
	}
	if f.ImagePolicy != "" {
		m["image-policy"] = []string{f.ImagePolicy}
	}
	if f.AnyPath {
		m["allow-untrusted-path"] = []string{"yes"}
	}
	return m
}

func flagsOf(r *state.Record) Flags {
	if r == nil {
		return Flags{}
	}
	f := Flags{Images: r.Flags["extension-image"], Directories: r.Flags["extension-directory"], Hierarchies: r.Flags["hierarchy"], AnyPath: len(r.Flags["allow-untrusted-path"]) > 0}
	if p := r.Flags["image-policy"]; len(p) == 1 {
		f.ImagePolicy = p[0]
	}
	return f
}

// settingsFor reads what the unit says now and adds the flags. Must run in the
// host view.
func settingsFor(unit string, f Flags) (settings.Settings, error) {
	s := settings.Default()
	if unit != "" {
		var err error
		if s, err = settings.Load(unit, settings.LoadOptions{}); err != nil {
			return s, err
		}
	}
	if f.ImagePolicy != "" {
		var err error
		if s.Policy, err = policy.Parse(f.ImagePolicy); err != nil {
			return s, err
		}
	}
	return s.WithFlags(f.Images, f.Directories, f.Hierarchies)
}

// hierarchiesOf are the hierarchies that a reload has to do with. One that is no
// longer asked for loses its layers, but cannot make room for one above or below
// it: the mounts of the one would be the carried mounts of the other.
func hierarchiesOf(s settings.Settings, current state.Generation) ([]string, error) {
	all := slices.Clone(s.Hierarchies)
	for _, h := range current.Hierarchies {
		if slices.Contains(all, h.Path) {
			continue
		}
		for _, other := range s.Hierarchies {
			if strings.HasPrefix(other, h.Path+"/") || strings.HasPrefix(h.Path, other+"/") {
				return nil, fmt.Errorf("the hierarchy %q is wanted where %q is overlaid: restart the service to change that", other, h.Path)
			}
		}
		all = append(all, h.Path)
	}
	return all, nil
}

// carryOn keeps what an exchange does not change: the same generation once more is
// as old as it was, and a mount that has lost its link to the host's does not get
// it back, although the mount table no longer tells.
func carryOn(g *state.Generation, current state.Generation) {
	if g.Number == current.Number {
		g.Time, g.Trigger, g.Good = current.Time, current.Trigger, current.Good
	}
	lost := map[string]bool{}
	for _, h := range current.Hierarchies {
		for _, c := range h.Carried {
			lost[h.Path+"\x00"+c.Path] = c.LinkLost && c.Origin == originUnit
		}
	}
	for _, h := range g.Hierarchies {
		for i, c := range h.Carried {
			if c.Origin == originUnit && lost[h.Path+"\x00"+c.Path] {
				h.Carried[i].LinkLost = true
			}
		}
	}
}

// generationOf describes what was staged.
func generationOf(is *situation, source hierarchy.Source, trigger string, all *opened, l *layers, staged []*hierarchy.Staged) state.Generation {
	g := state.Generation{Number: source.Generation, Serial: source.Serial, Time: time.Now().UTC(), Outcome: state.OutcomeCommitted, Trigger: trigger, Good: true}
	for _, e := range all.extensions {
		x := extensionOf(e.Picked)
		x.Verified, x.Device, x.Hierarchies = e.Info.Verified, e.Info.Device, l.gives[e]
		for _, c := range e.Classes {
			x.Class = append(x.Class, c.String())
		}
		g.Extensions = append(g.Extensions, x)
	}
	for _, s := range staged {
		if slices.Contains(is.settings.Hierarchies, s.Survey.Path) || s.Live() {
			g.Hierarchies = append(g.Hierarchies, hierarchyOf(s))
		}
	}
	return g
}

func hierarchyOf(s *hierarchy.Staged) state.Hierarchy {
	h := state.Hierarchy{Path: s.Survey.Path, Layers: s.Layers, Covered: s.Covered()}
	if s.Survey.Point != s.Survey.Path {
		h.Point = s.Survey.Point
	}
	for _, c := range s.Carried {
		origin := originUnit
		if c.FromBase {
			origin = originHost
		}
		h.Carried = append(h.Carried, state.Carried{Path: c.Path, Origin: origin, LinkLost: c.LinkLost})
	}
	return h
}

// fromBase tells, by a record, which carried mounts were the base's.
func fromBase(r *state.Record) func(h, rel string) bool {
	known := map[string]bool{}
	for _, h := range r.Current.Hierarchies {
		for _, c := range h.Carried {
			known[h.Path+"\x00"+c.Path] = c.Origin == originHost
			known[place(h)+"\x00"+c.Path] = c.Origin == originHost
		}
	}
	return func(h, rel string) bool { return known[h+"\x00"+rel] }
}

// place is where a hierarchy is, links followed.
func place(h state.Hierarchy) string { return cmp.Or(h.Point, h.Path) }

// placesOf are those of all hierarchies that a record has, committed or not.
func placesOf(r *state.Record) (places []string) {
	all := r.Current.Hierarchies
	if r.Pending != nil {
		all = slices.Concat(all, r.Pending.Hierarchies)
	}
	for _, h := range all {
		if !slices.Contains(places, place(h)) {
			places = append(places, place(h))
		}
	}
	return places
}

// refsOf are the refs as a record has them.
func refsOf(s settings.Settings) []state.Ref {
	var refs []state.Ref
	for _, r := range s.Refs {
		refs = append(refs, state.Ref{Kind: r.Kind.String(), Text: r.String(), Origin: r.Origin.String()})
	}
	return refs
}

// nextSerial is higher than every serial that the name has had in this namespace.
func nextSerial(r *state.Record, v *hierarchy.View) uint64 {
	serials := map[uint64]bool{r.Current.Serial: true}
	if r.Pending != nil {
		serials[r.Pending.Serial] = true
	}
	for _, s := range v.Surveys {
		for _, o := range s.Overlays {
			serials[o.Source.Serial] = true
		}
	}
	return slices.Max(slices.Collect(maps.Keys(serials))) + 1
}
