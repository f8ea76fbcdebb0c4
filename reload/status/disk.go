package status

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// An Extension is one ref: what is recorded of it against what lies on disk.
type Extension struct {
	// Recorded is what is in the current generation; nil where this ref gave
	// nothing to it.
	Recorded *state.Extension `json:"recorded,omitempty"`
	Ref      string           `json:"ref"`
	Kind     string           `json:"kind"`

	Disk  DiskState `json:"disk"`
	Found *Found    `json:"found,omitempty"` // what a reload would pick, if anything
	Why   string    `json:"why,omitempty"`   // where that is nothing
	// PassedOver are the versions on disk that are better than what a reload would
	// pick, the newest first.
	PassedOver []PassedOver `json:"passed_over,omitempty"`
}

// A PassedOver is a version that would be picked, were it not refused or held, or
// that cannot be used.
type PassedOver struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
	Why     string `json:"why"`
}

// A Found is what a ref means on disk now.
type Found struct {
	Path     string `json:"path"`
	Version  string `json:"version,omitempty"`
	Identity string `json:"identity"`
	// Changed is when its file was last changed, where the identity does not say that.
	Changed string `json:"changed,omitempty"`
}

// A DiskState says what a reload would find of an extension.
type DiskState string

// The states of an extension on disk.
const (
	Same        DiskState = "same"
	Replaced    DiskState = "other version" // another path is picked
	Changed     DiskState = "changed"       // the same path, other contents
	New         DiskState = "new"           // nothing of it is in the generation
	Gone        DiskState = "gone"
	NotWanted   DiskState = "absent"     // optional, and neither recorded nor there
	CannotBeHad DiskState = "unreadable" // it is there, and is passed over
	Held        DiskState = "held"       // what is there was left by a rollback to a generation without it
)

// onDisk picks every recorded ref again, as a reload of a service without a unit
// does. A unit may name other refs by now: that is for plan to say.
func (s *Status) onDisk(r *state.Record, m *state.Memory) {
	recorded := map[state.Ref][]*state.Extension{}
	for i := range r.Current.Extensions {
		e := &r.Current.Extensions[i]
		key := state.Ref{Kind: e.Kind, Text: e.Ref}
		recorded[key] = append(recorded[key], e)
	}
	for _, ref := range r.Refs {
		e := Extension{Ref: ref.Text, Kind: ref.Kind}
		key := state.Ref{Kind: ref.Kind, Text: ref.Text}
		if same := recorded[key]; len(same) > 0 {
			e.Recorded, recorded[key] = same[0], same[1:]
		}
		e.find(m, r)
		s.Extensions = append(s.Extensions, e)
	}
	// What the generation has and no ref explains was left by another version of
	// the unit.
	for _, left := range r.Current.Extensions {
		key := state.Ref{Kind: left.Kind, Text: left.Ref}
		for _, e := range recorded[key] {
			s.Extensions = append(s.Extensions, Extension{Recorded: e, Ref: e.Ref, Kind: e.Kind, Disk: Gone, Why: "no ref asks for it"})
		}
		delete(recorded, key)
	}
	for _, e := range r.Current.Extensions {
		if s.State != Dead && extension.Corrupted(e.Device) {
			s.note("the kernel has seen a changed block in %q, and its readers get an error: install it again, and reload", e.Path)
		}
	}
}

// find picks the ref.
func (e *Extension) find(m *state.Memory, r *state.Record) {
	ref, err := parseRef(e.Kind, e.Ref)
	if err != nil {
		e.Disk, e.Why = CannotBeHad, err.Error()
		return
	}
	p, err := extension.Pick(ref, extension.PickOptions{
		Live:    e.paths(),
		Refused: m.IsRefused,
		Held:    func(v, identity string) (string, bool) { return m.IsHeld(e.Kind, e.Ref, v, identity, version.Compare) },
	})
	hold := m.HoldOf(e.Kind, e.Ref)
	switch {
	case errors.Is(err, vpick.ErrNoMatch) && hold != nil && hold.Without:
		e.Disk, e.Why = Held, hold.Why
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		e.Disk, e.Why = CannotBeHad, err.Error()
	case err != nil:
		e.Disk, e.Why = Gone, err.Error()
	case p == nil && e.Recorded == nil:
		e.Disk = NotWanted
	case p == nil:
		e.Disk, e.Why = Gone, "nothing is there, and the ref may be missing"
	default:
		e.Found = &Found{Path: p.Path, Version: p.Version, Identity: p.Identity, Changed: p.Changed}
		e.Disk = e.judge(r)
		e.passedOver(p.Candidates)
	}
}

func (e *Extension) paths() []string {
	if e.Recorded == nil {
		return nil
	}
	return []string{e.Recorded.Path}
}

// passedOver lists what comes before the one that is picked, and what would, had it
// any tries left. What else the vpick rules leave out, another architecture say, was
// never a candidate.
func (e *Extension) passedOver(candidates []extension.Candidate) {
	better := true
	for _, c := range candidates {
		if c.Why == "" {
			better = false
			continue
		}
		spent := c.TriesLeft == 0 && version.Compare(c.Version, e.Found.Version) > 0
		if better && c.Identity != "" || !better && spent {
			e.PassedOver = append(e.PassedOver, PassedOver{Path: c.Path, Version: c.Version, Why: c.Why})
		}
	}
}

func (e *Extension) judge(r *state.Record) DiskState {
	switch {
	case e.Recorded == nil && slices.Contains(r.Current.Identities(), e.Found.Identity):
		// Two refs lead to one extension: the higher one counts.
		return Same
	case e.Recorded == nil:
		return New
	case e.Recorded.Same(&state.Extension{Path: e.Found.Path, Identity: e.Found.Identity, Changed: e.Found.Changed}):
		return Same
	case e.Recorded.Path == e.Found.Path:
		return Changed
	}
	return Replaced
}

func parseRef(kind, text string) (settings.Ref, error) {
	for _, k := range []settings.Kind{settings.Image, settings.Directory} {
		if k.String() == kind {
			return settings.ParseRef(k, text)
		}
	}
	return settings.Ref{}, fmt.Errorf("read ref %q: unknown kind %q", text, kind)
}
