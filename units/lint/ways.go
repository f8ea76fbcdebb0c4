package lint

import (
	"fmt"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// Remedies that are two ways of one thing.
const (
	wrapInstead  = "have it wrapped: extexec wrap"
	adoptInstead = "remove it for this unit, or have systemd apply the extensions: extexec adopt"
)

// NoWrapper says why a unit cannot be wrapped; nil where it can. For a unit that is
// wrapped already it says what forbids that.
func NoWrapper(u *unitfile.Unit, s settings.Settings) []Finding {
	var found []Finding
	for _, f := range settings.Forbids(s) {
		found = append(found, Finding{Severity: Error, File: f.File, Line: f.Line, Setting: f.Setting,
			Text: fmt.Sprintf("%s= forbids the wrapper: %s", f.Setting, f.Why), Remedy: adoptInstead})
	}
	lines, err := u.Exec("Service", "ExecStart")
	switch {
	case err != nil:
		return append(found, syntax(err))
	case len(lines) == 0:
		return append(found, Finding{Severity: Error, File: u.Fragment, Setting: "ExecStart", Text: "there is no ExecStart= to put the wrapper before", Remedy: "only a service with a main process can have extensions exchanged"})
	case len(lines) > 1:
		return append(found, atLine(lines[1], Error, "make one service of each command", "a second ExecStart= (%s): only one process can be the service that is reloaded", lines[1].Text))
	}
	l := lines[0]
	if IsRun(l.ExecCommand) {
		return found
	}
	if bad := strings.Trim(strings.ReplaceAll(l.Prefix, "!!", ""), "-@:"); bad != "" {
		found = append(found, atLine(l, Error, "write it without the prefix, or: extexec adopt", "the prefix %q of %q cannot be had under the wrapper, which itself runs with \"!\" and becomes User=", bad, l.Prefix+l.Text))
	}
	if l.Text == "" || strings.Contains(l.Path, "$") {
		found = append(found, atLine(l, Error, "write the program's path plainly", "the program's name cannot be an argument as it is written"))
	}
	return append(found, keepable(u)...)
}

// NoAdopt says why a unit cannot be adopted; nil where it can.
func NoAdopt(u *unitfile.Unit, s settings.Settings, f Facts) []Finding {
	found := systemdLacks(s, f)
	if lines := execs(u, "ExecStart"); len(lines) > 0 && IsRun(lines[0].ExecCommand) {
		found = append(found, atLine(lines[0], Error, "take the wrapper out first", "the unit is wrapped: extexec, not systemd, applies the extensions"))
	}
	return append(found, keepable(u)...)
}

// keepable are the ExecReload= lines that neither way can keep.
func keepable(u *unitfile.Unit) []Finding {
	kept, err := KeptReload(u)
	if err != nil {
		return []Finding{syntax(err)}
	}
	return kept.Refused
}

func syntax(err error) Finding {
	bad := &unitfile.SyntaxError{Msg: err.Error()}
	if e, ok := err.(*unitfile.SyntaxError); ok { //nolint:errorlint // Unit.Exec gives it as it is
		bad = e
	}
	return Finding{Severity: Error, File: bad.File, Line: bad.Line, Text: bad.Msg, Remedy: "correct the line"}
}

// NoPortable says why systemd cannot have a portable unit's extensions, or extexec not
// exchange them. Such a unit has a root of its own, so there is no other way to have it.
func NoPortable(u *unitfile.Unit, s settings.Settings, f Facts) []Finding {
	var found []Finding
	if f.Systemd != 258 && f.Systemd != 259 { // there it is attached, and not reloaded
		found = systemdLacks(s, f)
	}
	for i := range found {
		found[i].Remedy = "leave it out, or use a newer systemd"
	}
	return append(found, keepable(u)...)
}

// systemdLacks is what this systemd does not apply of what [Service] lists.
func systemdLacks(s settings.Settings, f Facts) []Finding {
	v := f.Systemd
	if v == 0 {
		return nil
	}
	var found []Finding
	if v == 258 || v == 259 {
		found = append(found, Finding{Severity: Error, Text: fmt.Sprintf("systemd %d refreshes confexts itself at a reload, and cannot be told not to", v), Remedy: wrapInstead})
	}
	for _, r := range s.Refs {
		if r.Origin != settings.FromService {
			continue
		}
		lacks := func(since int, what string) {
			if v < since {
				found = append(found, atRef(r, Error, wrapInstead, "systemd %d does not apply %s, %d does: %q", v, what, since, r.Path))
			}
		}
		switch {
		case r.Kind == settings.Image && v < 248:
			lacks(248, "extension images for a unit")
		case r.Kind == settings.Directory && v < 251:
			lacks(251, "extension directories for a unit")
		case versioned(r.Path):
			lacks(256, "a versioned directory (.v/) for a unit")
		}
		if f.Sources[r.Path].confextAlone() {
			lacks(254, "a confext for a unit")
		}
	}
	return found
}
