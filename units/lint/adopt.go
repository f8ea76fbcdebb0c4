package lint

import (
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// adoptRefresh: from 260 on systemd refreshes confexts itself, unless told not to.
func adoptRefresh(j judgement) []Finding {
	if j.way != Adopt || j.facts.Systemd < 260 || refreshOff(j.unit) {
		return nil
	}
	for _, r := range j.set.Refs {
		if r.Origin == settings.FromService && versioned(r.Path) && j.facts.Sources[r.Path].mayBeConfext() {
			return []Finding{atRef(r, Warning, "write RefreshOnReload=~extensions in [Service]; extexec adopt does",
				"systemd %d refreshes confexts itself before ExecReload=, unchecked, and drops the mounts below /etc", j.facts.Systemd)}
		}
	}
	return nil
}

// refreshOff tells whether RefreshOnReload= takes extensions out.
func refreshOff(u *unitfile.Unit) bool {
	off := false
	for _, a := range u.All("Service", "RefreshOnReload") {
		list, inverted := strings.CutPrefix(a.Value, "~")
		names := strings.Contains(list, "extensions")
		on, err := unitfile.ParseBool(a.Value)
		switch {
		case a.Value == "":
			off = false
		case err == nil:
			off = !on
		case inverted:
			off = off || names
		default:
			off = !names
		}
	}
	return off
}

// adoptRoot: systemd looks ExecReload= up in the service's root.
func adoptRoot(j judgement) []Finding {
	if j.way != Adopt {
		return nil
	}
	for _, key := range []string{"RootDirectory", "RootImage"} {
		if a, ok := j.last("Service", key); ok && a.Value != "/" {
			return []Finding{at(a, Warning, "have it there, or bind it: BindReadOnlyPaths=/usr/bin/extexec", "systemd runs ExecReload= in the root that %s= names, where extexec must be found", key)}
		}
	}
	return nil
}

// nothingYet: a unit that has no extensions, or nobody who applies them.
func nothingYet(j judgement) []Finding {
	if len(j.set.Refs) == 0 && j.way != Wrapper {
		return []Finding{{Severity: Note, File: j.unit.Fragment, Text: "the unit has no extensions"}}
	}
	if j.way != None {
		return nil
	}
	return []Finding{atRef(j.set.Refs[0], Warning, "extexec wrap, or list them in [Service] and extexec adopt", "nothing applies the extensions of [%s]: ExecStart= is not extexec run", settings.Section)}
}
