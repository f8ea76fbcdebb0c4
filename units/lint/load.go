package lint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// Load takes the settings out of a unit, those in the flags of a wrapper included. What stands in the way is a finding, and
// is left out, so that one mistake does not hide the next.
func Load(u *unitfile.Unit, facts unitfile.Facts) (settings.Settings, []Finding) {
	var found []Finding
	for {
		s, err := settings.FromUnit(u, facts)
		if err == nil {
			found = append(found, warnings(s)...)
			s, bad := withFlags(u, s, facts)
			return s, append(found, bad...)
		}
		var bad *unitfile.SyntaxError
		if !errors.As(err, &bad) {
			return settings.Default(), append(found, Finding{Severity: Error, File: u.Fragment, Text: err.Error()})
		}
		found = append(found, Finding{Severity: Error, File: bad.File, Line: bad.Line, Text: bad.Msg, Remedy: "until that is right extexec neither starts nor reloads the unit"})
		less := without(u, bad.File, bad.Line)
		if len(less.Assignments)+len(less.Warnings) == len(u.Assignments)+len(u.Warnings) {
			return settings.Default(), found
		}
		u = less
	}
}

// withFlags adds what the flags of the wrapper in ExecStart= say.
func withFlags(u *unitfile.Unit, s settings.Settings, facts unitfile.Facts) (settings.Settings, []Finding) {
	expand := unitfile.Specifiers{Unit: u.Name, Fragment: u.Fragment, Facts: facts}.Expand
	for _, l := range execs(u, "ExecStart") {
		if !IsRun(l.ExecCommand) {
			continue
		}
		argv := slices.Clone(l.Argv)
		for i := range argv {
			if text, err := expand(argv[i]); err == nil {
				argv[i] = text // one that cannot be expanded is systemd's to refuse
			}
		}
		with, err := s.WithFlags(wrapperFlags(argv[2:]))
		if err != nil {
			return s, []Finding{atLine(l, Error, "", "%v", err)}
		}
		for i := range with.Refs {
			if with.Refs[i].Origin == settings.FromFlag {
				with.Refs[i].File, with.Refs[i].Line = l.File, l.Line
			}
		}
		return with, nil
	}
	return s, nil
}

// without is the unit without what one line says.
func without(u *unitfile.Unit, file string, line int) *unitfile.Unit {
	less := *u
	less.Assignments = slices.DeleteFunc(slices.Clone(u.Assignments), func(a unitfile.Assignment) bool { return a.File == file && a.Line == line })
	less.Warnings = slices.DeleteFunc(slices.Clone(u.Warnings), func(w unitfile.Warning) bool { return w.File == file && w.Line == line })
	return &less
}

// warnings are those of the settings, each of which begins with its place.
func warnings(s settings.Settings) (found []Finding) {
	for _, text := range s.Warnings {
		f := Finding{Severity: Warning, Text: text}
		if place, msg, ok := strings.Cut(text, ": "); ok {
			if i := strings.LastIndexByte(place, ':'); i > 0 {
				if line, err := strconv.Atoi(place[i+1:]); err == nil {
					f.File, f.Line, f.Text = place[:i], line, msg
				}
			}
		}
		found = append(found, f)
	}
	return found
}

// sorted puts findings in the order of the unit's text: fragment, then drop-ins;
// what has no line comes last.
func sorted(u *unitfile.Unit, found []Finding) []Finding {
	files := append([]string{u.Fragment}, u.DropIns...)
	rank := func(f Finding) int {
		if i := slices.Index(files, f.File); i >= 0 && f.Line > 0 {
			return i
		}
		return len(files)
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line))
	})
	return found
}

// at is a finding about an assignment.
func at(a unitfile.Assignment, severity Severity, remedy, format string, args ...any) Finding {
	return Finding{Severity: severity, File: a.File, Line: a.Line, Setting: a.Key, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// atLine is a finding about a command.
func atLine(l unitfile.ExecLine, severity Severity, remedy, format string, args ...any) Finding {
	return Finding{Severity: severity, File: l.File, Line: l.Line, Setting: l.Key, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

// atRef is a finding about an extension.
func atRef(r settings.Ref, severity Severity, remedy, format string, args ...any) Finding {
	key := "ExtensionDirectories"
	if r.Kind == settings.Image {
		key = "ExtensionImages"
	}
	if r.Origin == settings.FromFlag {
		key = "ExecStart"
	}
	return Finding{Severity: severity, File: r.File, Line: r.Line, Setting: key, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}
