package units

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units/lint"
)

// DropInName is what the drop-in of a unit is called, whichever verb wrote it: so
// there is one at most.
const DropInName = "50-extexec.conf"

// Program is where a unit finds extexec.
const Program = "/usr/bin/extexec"

// Path is where the drop-in of a unit is.
func Path(unit string) string { return "/etc/systemd/system/" + unit + ".d/" + DropInName }

// Kind is what a drop-in makes of a unit; its text is the verb that writes it.
type Kind string

// The kinds.
const (
	Adopt Kind = "adopt"
	Wrap  Kind = "wrap"
)

// marker begins the first line of every drop-in of ours.
const marker = "# Written by extexec "

// Owner tells of the text of a drop-in which verb wrote it; ok is false where none
// did, and it is somebody else's file.
func Owner(text string) (k Kind, ok bool) {
	after, ok := strings.CutPrefix(text, marker)
	verb, _, _ := strings.Cut(after, " ")
	k = Kind(verb)
	return k, ok && (k == Adopt || k == Wrap || k == Watch)
}

// Input is what a drop-in is made from.
type Input struct {
	// Unit is the unit without a drop-in of ours: see unitfile.Unit.Without.
	Unit *unitfile.Unit
	// Images and Directories are extensions to add, written as in a unit.
	Images, Directories []string
	Facts               lint.Facts
}

// DropIn is what is to be written.
type DropIn struct {
	Kind Kind
	Unit string
	Path string
	Text string
	// Notes say what the administrator should know, a line each.
	Notes []string
	// Report is about the unit as it will be.
	Report lint.Report
}

// RefusedError says why a unit cannot have a drop-in.
type RefusedError struct {
	Kind    Kind
	Unit    string
	Reasons []lint.Finding
	// Other is the other verb, where that would do; "" where it would not.
	Other Kind
}

func (e *RefusedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s unit %q: refused, nothing was changed", e.Kind, e.Unit)
	for _, r := range e.Reasons {
		r.Severity = "not possible"
		b.WriteString("\n  " + r.String())
	}
	if e.Other != "" {
		fmt.Fprintf(&b, "\nthe other way would do: extexec %s %s", e.Other, e.Unit)
	}
	return b.String()
}

// maker makes one drop-in.
type maker struct {
	in    Input
	kind  Kind
	set   settings.Settings
	added []settings.Ref
	kept  lint.Kept
	notes []string

	unit, service, own section
}

// section is the lines of one section.
type section []string

func (s *section) add(key, value string) { *s = append(*s, key+"="+value) }

func (m *maker) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// newMaker reads what both kinds need.
func newMaker(kind Kind, in Input) (*maker, error) {
	m := &maker{in: in, kind: kind}
	var err error
	if m.set, err = settings.FromUnit(in.Unit, in.Facts.Specifiers); err != nil {
		return nil, fmt.Errorf("%s unit %q: %w", kind, in.Unit.Name, err)
	}
	origin := settings.FromService
	if kind == Wrap {
		origin = settings.FromExtexec
	}
	for _, group := range []struct {
		kind  settings.Kind
		texts []string
	}{{settings.Image, in.Images}, {settings.Directory, in.Directories}} {
		for _, text := range group.texts {
			r, err := settings.ParseRef(group.kind, text)
			if err != nil {
				return nil, err
			}
			if err := writable(r); err != nil {
				return nil, err
			}
			r.Origin = origin
			m.added = append(m.added, r)
		}
	}
	m.kept, err = lint.KeptReload(in.Unit)
	if err != nil {
		return nil, fmt.Errorf("%s unit %q: %w", kind, in.Unit.Name, err)
	}
	return m, nil
}

// all are the refs as they will be, those of the unit first.
func (m *maker) all() []settings.Ref {
	return append(append([]settings.Ref{}, m.set.Refs...), m.added...)
}

// refuse makes the error, nil where there is no reason. other says whether the other
// verb would do.
func (m *maker) refuse(reasons []lint.Finding, other bool) error {
	if len(reasons) == 0 {
		return nil
	}
	e := &RefusedError{Kind: m.kind, Unit: m.in.Unit.Name.String(), Reasons: reasons}
	if other {
		e.Other = map[Kind]Kind{Adopt: Wrap, Wrap: Adopt}[m.kind]
	}
	return e
}

// later are the drop-ins that apply after ours and say something else.
func (m *maker) later() (found []lint.Finding) {
	sets := map[string]bool{}
	for _, line := range m.service {
		key, _, _ := strings.Cut(line, "=")
		sets[key] = true
	}
	own := map[string]bool{}
	for _, line := range m.own {
		key, _, _ := strings.Cut(line, "=")
		own[key] = true
	}
	for _, a := range m.in.Unit.Assignments {
		if a.File == m.in.Unit.Fragment || path.Base(a.File) <= DropInName {
			continue
		}
		if a.Section == "Service" && sets[a.Key] || a.Section == settings.Section && own[a.Key] {
			found = append(found, lint.Finding{File: a.File, Line: a.Line, Setting: a.Key,
				Text: fmt.Sprintf("%s= here comes after %s", a.Key, DropInName), Remedy: "rename this drop-in so that its name sorts before " + DropInName})
		}
	}
	return found
}

// finish puts the text together and proves it.
func (m *maker) finish() (DropIn, error) {
	if err := m.refuse(m.later(), false); err != nil {
		return DropIn{}, err
	}
	name := m.in.Unit.Name.String()
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s for %s. Changes are lost; \"extexec %s --undo %s\" takes it back.\n", marker, m.kind, name, m.kind, name)
	m.sections(&b)
	d := DropIn{Kind: m.kind, Unit: name, Path: Path(name), Text: b.String(), Notes: m.notes}
	with, err := m.in.Unit.With(d.Path, []byte(d.Text))
	if err == nil {
		err = m.prove(with)
	}
	if err != nil {
		return DropIn{}, fmt.Errorf("%s unit %q: the unit cannot be had this way: %w", m.kind, name, err)
	}
	d.Report = lint.Check(with, m.in.Facts)
	return d, nil
}

// sections writes what there is to say, a section each.
func (m *maker) sections(b *strings.Builder) {
	for _, s := range []struct {
		name  string
		lines section
	}{{"Unit", m.unit}, {"Service", m.service}, {settings.Section, m.own}} {
		if len(s.lines) > 0 {
			fmt.Fprintf(b, "\n[%s]\n%s\n", s.name, strings.Join(s.lines, "\n"))
		}
	}
}

// prove reads the unit with the drop-in, and finds the extensions that were meant.
func (m *maker) prove(with *unitfile.Unit) error {
	s, err := settings.FromUnit(with, m.in.Facts.Specifiers)
	if err != nil {
		return err
	}
	want, got := texts(m.all()), texts(s.Refs)
	if !slices.Equal(want, got) {
		return fmt.Errorf("its extensions would be %q, not %q", got, want)
	}
	return nil
}

// texts are the refs of a unit, in an order that does not depend on where they stand.
func texts(refs []settings.Ref) (list []string) {
	for _, r := range refs {
		list = append(list, r.Kind.String()+" "+r.String())
	}
	slices.Sort(list)
	return list
}
