package units

import (
	"fmt"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units/lint"
)

// key is the setting that lists refs of a kind.
func key(k settings.Kind) string {
	if k == settings.Image {
		return "ExtensionImages"
	}
	return "ExtensionDirectories"
}

// writable refuses a ref whose path no unit file can hold plainly.
func writable(r settings.Ref) error {
	if i := strings.IndexFunc(r.Path, func(c rune) bool { return c < ' ' || c == 0x7f || strings.ContainsRune(`"'\`, c) }); i >= 0 {
		return fmt.Errorf("extension %q: the character %q cannot be written into a unit: use another path", r.Path, r.Path[i])
	}
	return nil
}

// refText is a ref as one definition in a unit: specifiers are done, so every "%" is
// one.
func refText(r settings.Ref) string { return Word(r.String()) }

// Word writes a word so that a unit has it as it is: what is no specifier looks like
// one, and a space is quoted.
func Word(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if strings.ContainsAny(s, " \t") {
		return `"` + s + `"`
	}
	return s
}

// mounts writes RequiresMountsFor= for the sources that must be there.
func (m *maker) mounts() {
	var paths []string
	seen := map[string]bool{}
	for _, r := range m.all() {
		if r.Optional || seen[r.Path] || writable(r) != nil {
			continue
		}
		seen[r.Path] = true
		paths = append(paths, Word(r.Path))
	}
	if len(paths) > 0 {
		m.unit.add("RequiresMountsFor", strings.Join(paths, " "))
	}
}

// devices lets images through the unit's device policy, as systemd does for
// RootImage= (unit_patch_contexts).
func (m *maker) devices() {
	s := m.set
	s.Refs = m.all()
	if !lint.Devices(m.in.Unit, s) {
		return
	}
	// A class of devices can be named once its module is loaded.
	for _, module := range []string{"modprobe@loop.service", "modprobe@dm_mod.service"} {
		m.unit.add("Wants", module)
		m.unit.add("After", module)
	}
	for _, d := range []string{"/dev/loop-control rw", "/dev/mapper/control rw", "block-loop rwm", "block-blkext rwm", "block-device-mapper rwm"} {
		m.service.add("DeviceAllow", d)
	}
}

// reload puts extexec, which the unit finds at the path program, in the place of the
// unit's own reload, and that behind it.
func (m *maker) reload(program string) {
	m.service.add("ExecReload", "")
	m.service.add("ExecReload", "+"+program+" reload")
	for _, c := range m.kept.Commands {
		m.own.add("ReloadCommand", c)
	}
	signal := m.kept.Signal
	if v := m.in.Facts.Systemd; m.set.Service.Type == "notify-reload" && v < 260 {
		m.service.add("Type", "notify")
		if signal == "" && m.set.ReloadSignal == 0 {
			signal = "HUP"
			if a, ok := m.in.Unit.Last("Service", "ReloadSignal"); ok && a.Value != "" {
				signal = a.Value
			}
		}
		m.note("Type=notify-reload becomes Type=notify: systemd %d signals the service while the reload is under way; extexec does it afterwards", v)
	}
	if signal != "" {
		m.own.add("ReloadSignal", signal)
	}
}

// signalTwice is the one case in which a signal cannot be kept.
func (m *maker) signalTwice() []lint.Finding {
	if m.kept.Signal == "" || m.set.ReloadSignal == 0 {
		return nil
	}
	a, _ := m.in.Unit.Last(settings.Section, "ReloadSignal")
	return []lint.Finding{{File: a.File, Line: a.Line, Setting: "ReloadSignal", Text: "ReloadSignal= is set, and ExecReload= sends a signal too", Remedy: "reset ExecReload= in a drop-in of your own"}}
}

// lines are the commands of a setting, as they are.
func (m *maker) lines(key string) ([]unitfile.ExecLine, error) {
	lines, err := m.in.Unit.Exec("Service", key)
	if err != nil {
		return nil, fmt.Errorf("%s unit %q: %w", m.kind, m.in.Unit.Name, err)
	}
	return lines, nil
}
