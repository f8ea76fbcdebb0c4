package unitfile

// ExecLine is one command of an Exec setting of a unit, and where it stands.
// Specifiers are not done.
type ExecLine struct {
	ExecCommand
	Key  string
	File string
	Line int
}

// Exec gives the commands of an Exec setting, in the order in which systemd runs
// them. The error is a *SyntaxError.
func (u *Unit) Exec(section, key string) ([]ExecLine, error) {
	var lines []ExecLine
	for _, a := range u.List(section, key) {
		commands, err := ParseExec(a.Value, nil)
		if err != nil {
			return nil, a.Errorf("%s=: %v", key, err)
		}
		for _, c := range commands {
			lines = append(lines, ExecLine{ExecCommand: c, Key: key, File: a.File, Line: a.Line})
		}
	}
	return lines, nil
}

// Without is the unit as it would be without one of its drop-ins.
func (u *Unit) Without(dropIn string) *Unit {
	w := *u
	w.DropIns = others(u.DropIns, func(s string) bool { return s == dropIn })
	w.Assignments = others(u.Assignments, func(a Assignment) bool { return a.File == dropIn })
	w.Sections = others(u.Sections, func(s UnitSection) bool { return s.File == dropIn })
	w.Warnings = others(u.Warnings, func(s Warning) bool { return s.File == dropIn })
	return &w
}

// With is the unit as it would be with one more drop-in, after all others. The
// error is a *SyntaxError.
func (u *Unit) With(dropIn string, data []byte) (*Unit, error) {
	w := u.Without(dropIn)
	w.DropIns = append(w.DropIns, dropIn)
	if err := w.add(dropIn, data); err != nil {
		return nil, err
	}
	return w, nil
}

// others is a new slice without what is left out.
func others[T any](list []T, out func(T) bool) []T {
	var kept []T
	for _, x := range list {
		if !out(x) {
			kept = append(kept, x)
		}
	}
	return kept
}
