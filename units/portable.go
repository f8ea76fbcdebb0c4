package units

import (
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/units/lint"
)

// Portable is the kind of what [ForPortable] makes. It is part of systemd's own
// drop-in for a portable service, and has no first line of its own.
const Portable Kind = "portable attach"

// insideProgram is where a portable unit finds extexec: its root is an image, in which
// neither the program nor a place for it need be.
const insideProgram = "/run/extexec/extexec"

// ForPortable makes the lines that give a portable unit its extensions and, where it
// is a service that has some, its reload. in.Unit is the unit with its profile; that
// it has a root of its own is not in there. The error is a *RefusedError where this
// systemd would not apply the extensions.
func ForPortable(in Input) (text string, notes []string, err error) {
	m, err := newMaker(Portable, in)
	if err != nil {
		return "", nil, err
	}
	s := m.set
	s.Refs = m.all()
	if err := m.refuse(append(lint.NoPortable(in.Unit, s, in.Facts), m.signalTwice()...), false); err != nil {
		return "", nil, err
	}
	m.mounts()
	for _, r := range m.added {
		m.service.add(key(r.Kind), refText(r))
	}
	m.devices()
	switch v := in.Facts.Systemd; {
	case v == 258 || v == 259:
		m.note("%s is not reloaded by extexec: systemd %d refreshes confexts itself, and cannot be told not to", in.Unit.Name, v)
	case len(s.Refs) > 0:
		m.inside()
		m.reload(insideProgram)
		if v == 0 || v >= 260 {
			m.service.add("RefreshOnReload", "~extensions")
		}
	}
	var b strings.Builder
	m.sections(&b)
	return b.String(), m.notes, nil
}

// inside has systemd show extexec in the unit's root, also where that is an image that
// cannot be written to: systemd makes /run a tmpfs for ExecStart= lines, but not
// for a line with "+", which is what a reload needs.
func (m *maker) inside() {
	m.service.add("TemporaryFileSystem", "/run")
	m.service.add("BindReadOnlyPaths", Program+":"+insideProgram)
	// Where control groups are protected, systemd (seen on 262) lets a line with "+"
	// have its memory.pressure below /sys, which it does not mount for that.
	a, ok := m.in.Unit.Last("Service", "ProtectControlGroups")
	on, err := unitfile.ParseBool(a.Value)
	if protected := ok && a.Value != "" && (err != nil || on); protected && (m.in.Facts.Systemd == 0 || m.in.Facts.Systemd >= 254) {
		m.service.add("MemoryPressureWatch", "skip")
	}
}
