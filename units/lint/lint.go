package lint

import (
	"slices"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// judgement is what one check looks at.
type judgement struct {
	unit  *unitfile.Unit
	set   settings.Settings
	facts Facts
	way   Way
}

// checks are all of them, in no order that matters.
var checks = []func(judgement) []Finding{
	sources, imagePolicy, reloadLines, reloadTimeout, ownReload, signals, startTries,
	hostFiles, writablePaths, sessions,
	noProgram, wrapperLine, wrapperPlace, wrapperDevices, wrapperOthers,
	adoptRefresh, adoptRoot, nothingYet,
}

// Check judges a unit as it is.
func Check(u *unitfile.Unit, f Facts) Report {
	s, found := Load(u, f.Specifiers)
	return check(u, s, found, f)
}

func check(u *unitfile.Unit, s settings.Settings, found []Finding, f Facts) Report {
	j := judgement{unit: u, set: s, facts: f, way: wayOf(u, s)}
	r := Report{Unit: s.Unit, Way: j.way, NoWrapper: []Finding{}, NoAdopt: []Finding{}}
	if s.Unit == "" {
		r.Unit = u.Name.String()
	}
	r.NoWrapper = append(r.NoWrapper, sorted(u, NoWrapper(u, s))...)
	r.NoAdopt = append(r.NoAdopt, sorted(u, NoAdopt(u, s, f))...)
	switch j.way {
	case Wrapper:
		found = append(found, r.NoWrapper...)
	case Adopt:
		found = append(found, systemdLacks(s, f)...)
	}
	for _, c := range checks {
		found = append(found, c(j)...)
	}
	r.Findings = slices.Compact(sorted(u, append([]Finding{}, found...)))
	return r
}

// wayOf is how the unit has its extensions.
func wayOf(u *unitfile.Unit, s settings.Settings) Way {
	for _, l := range execs(u, "ExecStart") {
		if IsRun(l.ExecCommand) {
			return Wrapper
		}
	}
	if slices.ContainsFunc(s.Refs, func(r settings.Ref) bool { return r.Origin == settings.FromService }) {
		return Adopt
	}
	return None
}

// images are the refs that name images.
func (j judgement) images() (refs []settings.Ref) {
	for _, r := range j.set.Refs {
		if r.Kind == settings.Image {
			refs = append(refs, r)
		}
	}
	return refs
}

// last is the assignment of a setting that counts; ok is false where there is none,
// or an empty one.
func (j judgement) last(section, key string) (unitfile.Assignment, bool) {
	a, ok := j.unit.Last(section, key)
	return a, ok && a.Value != ""
}

// on tells whether a boolean setting of [Service] is on.
func (j judgement) on(key string) bool {
	a, ok := j.last("Service", key)
	on, err := unitfile.ParseBool(a.Value)
	return ok && err == nil && on
}
