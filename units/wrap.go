package units

import (
	"path"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units/lint"
)

// ForWrap makes the drop-in with which extexec starts the service of a unit. The
// error is a *RefusedError where the unit does not allow it.
func ForWrap(in Input) (DropIn, error) {
	m, err := newMaker(Wrap, in)
	if err != nil {
		return DropIn{}, err
	}
	reasons := slices.Concat(lint.NoWrapper(in.Unit, m.set), m.wrappedAlready(), m.signalTwice(), m.unmovable())
	if len(m.all()) == 0 {
		reasons = append(reasons, lint.Finding{File: in.Unit.Fragment, Text: "the unit has no extensions", Remedy: "name them with --extension-directory and --extension-image"})
	}
	s := m.set
	s.Refs = m.asService()
	other := len(lint.NoAdopt(in.Unit, s, in.Facts)) == 0 && len(s.Refs) > 0
	if err := m.refuse(reasons, other); err != nil {
		return DropIn{}, err
	}
	m.mounts()
	m.extensions()
	if err := m.start(); err != nil {
		return DropIn{}, err
	}
	m.devices()
	m.reload(Program)
	if err := m.others(); err != nil {
		return DropIn{}, err
	}
	m.note("restart %s once, so that extexec starts it; from then on, reload it", in.Unit.Name)
	return m.finish()
}

// wrappedAlready: somebody has done it by hand.
func (m *maker) wrappedAlready() []lint.Finding {
	lines, _ := m.in.Unit.Exec("Service", "ExecStart") // an error is among NoWrapper's
	for _, l := range lines {
		if lint.IsRun(l.ExecCommand) {
			return []lint.Finding{{File: l.File, Line: l.Line, Setting: "ExecStart", Text: "it is wrapped already, not by this verb", Remedy: "see extexec lint " + m.in.Unit.Name.String()}}
		}
	}
	return nil
}

// asService are the refs as adopt would have them.
func (m *maker) asService() []settings.Ref {
	refs := m.all()
	for i := range refs[len(m.set.Refs):] {
		refs[len(m.set.Refs)+i].Origin = settings.FromService
	}
	return refs
}

// unmovable: extensions of [Service] are moved to [X-Extexec], which cannot have its
// own images below directories of [Service].
func (m *maker) unmovable() []lint.Finding {
	directory := false
	for _, r := range m.set.Refs {
		directory = directory || r.Origin == settings.FromService && r.Kind == settings.Directory
		if directory && r.Origin == settings.FromExtexec && r.Kind == settings.Image {
			return []lint.Finding{{File: r.File, Line: r.Line, Setting: key(r.Kind), Text: "images of [X-Extexec] above directories of [Service]: the order cannot be kept in one section", Remedy: "list them all in [X-Extexec]"}}
		}
	}
	return nil
}

// start writes ExecStart=, and where systemd need not find what comes from an
// extension.
func (m *maker) start() error {
	lines, err := m.lines("ExecStart")
	if err != nil {
		return err
	}
	l := lines[0]
	prefix := keep(l.Prefix, "-:") + "!"
	command := Program + " run --unit %n"
	text := l.Text
	if strings.Contains(l.Prefix, "@") {
		program, rest := cutWord(text)
		argv0, rest := cutWord(rest)
		command += " --argv0 " + argv0
		text = strings.TrimSpace(program + " " + rest)
	}
	m.service.add("ExecStart", "")
	m.service.add("ExecStart", prefix+command+" -- "+text)
	s := m.set.Service
	if !s.WorkingDirectoryMissingOK && m.in.Facts.Missing[s.WorkingDirectory] {
		a, _ := m.in.Unit.Last("Service", "WorkingDirectory")
		m.service.add("WorkingDirectory", "-"+a.Value)
		m.note("%q is not there yet, so it is taken to come from an extension: WorkingDirectory= gets a \"-\", and extexec changes into it", s.WorkingDirectory)
	}
	if s.Type == "exec" {
		m.note("under Type=exec a program that is missing is found a moment after the start counts as done")
	}
	return nil
}

// keep are the prefixes that stay.
func keep(prefix, which string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(which, r) {
			return r
		}
		return -1
	}, prefix)
}

// cutWord cuts the first word off a command line, as it is written.
func cutWord(text string) (word, rest string) {
	_, rest, ok, err := unitfile.Splitter{Unquote: true, CUnescape: true, UnescapeRelax: true}.Next(text)
	if err != nil || !ok {
		return text, ""
	}
	return strings.Trim(text[:len(text)-len(rest)], " \t\n\r"), rest
}

// others puts extexec exec before the commands that run while the main process does,
// and names those that do not see the extensions.
func (m *maker) others() error {
	for _, k := range []string{"ExecStartPost", "ExecStop"} {
		lines, err := m.lines(k)
		if err != nil {
			return err
		}
		var out []string
		changed := false
		for _, l := range lines {
			text, ok := m.beside(l)
			if !ok {
				text = l.Prefix + l.Text
				m.note("%s:%d: %s=%s does not see the extensions", l.File, l.Line, k, text)
				if l.Text == "" {
					return m.refuse([]lint.Finding{{File: l.File, Line: l.Line, Setting: k, Text: "the command cannot be written again: its prefix is escaped"}}, false)
				}
			}
			changed = changed || ok
			out = append(out, text)
		}
		if !changed {
			continue
		}
		m.service.add(k, "")
		for _, text := range out {
			m.service.add(k, text)
		}
	}
	for _, k := range lint.Outside {
		lines, err := m.lines(k)
		if err != nil {
			return err
		}
		for _, l := range lines {
			m.note("%s:%d: %s=%s does not see the extensions", l.File, l.Line, k, l.Prefix+l.Text)
		}
	}
	return nil
}

// beside is a command that runs in the service's place; ok is false where it has to
// stay as it is.
func (m *maker) beside(l unitfile.ExecLine) (text string, ok bool) {
	if !lint.Beside(l.Key, m.set.Service.Type) || strings.ContainsAny(l.Prefix, "+!@|") || l.Text == "" || strings.Contains(l.Path, "$") {
		return "", false
	}
	command := Program + " exec"
	if d := m.set.Service.WorkingDirectory; path.IsAbs(d) && d != "/" {
		command += " --working-directory " + Word(d)
	}
	return keep(l.Prefix, "-:") + "+" + command + " %n -- " + l.Text, true
}

// extensions lists the refs in [X-Extexec]: those of [Service] move there, since
// systemd is not to apply them.
func (m *maker) extensions() {
	from := func(k settings.Kind, origins ...settings.Origin) bool {
		return slices.ContainsFunc(m.set.Refs, func(r settings.Ref) bool { return r.Kind == k && slices.Contains(origins, r.Origin) })
	}
	moved := from(settings.Image, settings.FromService) || from(settings.Directory, settings.FromService)
	for _, k := range []settings.Kind{settings.Image, settings.Directory} {
		refs := m.added
		if moved {
			refs = m.all()
		}
		if from(k, settings.FromService) {
			m.service.add(key(k), "")
		}
		if moved && from(k, settings.FromExtexec) {
			m.own.add(key(k), "")
		}
		for _, r := range refs {
			if r.Kind == k {
				m.own.add(key(k), refText(r))
			}
		}
	}
	if moved {
		m.note("the extensions of [Service] move to [X-Extexec]: extexec applies them, at the start as well")
	}
}
