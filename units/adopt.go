package units

import (
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units/lint"
)

// ForAdopt makes the drop-in with which systemd applies the extensions of a unit and
// extexec exchanges them. The error is a *RefusedError where the unit, or this
// systemd, does not allow it.
func ForAdopt(in Input) (DropIn, error) {
	m, err := newMaker(Adopt, in)
	if err != nil {
		return DropIn{}, err
	}
	s := m.set
	s.Refs = m.all()
	reasons := lint.NoAdopt(in.Unit, s, in.Facts)
	other := len(lint.NoWrapper(in.Unit, m.set)) == 0 && len(m.wrappedAlready()) == 0
	service := false
	for _, r := range s.Refs {
		service = service || r.Origin == settings.FromService
	}
	if !service {
		reasons = append(reasons, lint.Finding{File: in.Unit.Fragment, Text: "[Service] lists no extensions", Remedy: "name them with --extension-directory and --extension-image"})
		other = false
	}
	if err := m.refuse(append(reasons, m.signalTwice()...), other); err != nil {
		return DropIn{}, err
	}
	m.mounts()
	for _, r := range m.added {
		m.service.add(key(r.Kind), refText(r))
	}
	m.devices()
	m.reload(Program)
	if in.Facts.Systemd >= 260 {
		m.service.add("RefreshOnReload", "~extensions")
	}
	if len(m.added) > 0 {
		m.note("restart %s once, so that systemd applies the extensions; from then on, reload it", in.Unit.Name)
	}
	return m.finish()
}
