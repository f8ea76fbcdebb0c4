package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/unitfile"
)

// Section is the section of a unit file that is ours.
const Section = "X-Extexec"

// Settings is what one service asks for.
type Settings struct {
	Unit     string // "web.service"; "" without a unit
	Fragment string // path of the unit file
	DropIns  []string

	// Refs are in layer order, bottom to top: images, then directories, of
	// [Service]; the same of [X-Extexec]; the same of the flags. The same path
	// twice stays twice: which are the same extension is judged by identity.
	Refs   []Ref
	Policy policy.Policy

	Hierarchies      []string // absolute, clean, none below another
	SkipBad          bool     // OnBadExtension=skip
	RequireSignature bool
	VerifiedCopyMax  int64 // bytes
	NoExec, NoSuid   bool

	ReloadCheck   []Command
	ReloadCommand []Command
	ReloadVerify  []Command
	ReloadSignal  syscall.Signal // 0: none
	ReloadTimeout time.Duration  // 0: no limit

	AllNamespaces   bool // Namespaces=unit
	KeepGenerations int  // at least 1
	CountTries      bool

	Service Service
	// Warnings are about things that were skipped, each with file and line.
	Warnings []string
}

// Command is one command line of a Reload*= setting. Specifiers are done, $VAR
// is not: see Expand.
type Command struct {
	IgnoreFailure bool
	Argv          []string
	File          string
	Line          int
}

// Expand gives the command line with its variables replaced. lookup is like
// os.LookupEnv, over the environment in which the command will run.
func (c Command) Expand(lookup func(name string) (string, bool)) []string {
	if len(c.Argv) == 0 {
		return nil
	}
	return append([]string{c.Argv[0]}, unitfile.ExpandEnv(c.Argv[1:], lookup)...)
}

// Default is the settings where nothing is set.
func Default() Settings {
	return Settings{
		Policy:          policy.Default(),
		Hierarchies:     []string{"/usr", "/opt", "/etc"},
		VerifiedCopyMax: 256 << 20,
		ReloadTimeout:   time.Minute,
		KeepGenerations: 10,
		Service:         Service{Type: "simple", IgnoreSIGPIPE: true},
	}
}

// FromUnit takes the settings out of a unit. facts is what specifiers say of
// the host (see HostFacts). The error is a *unitfile.SyntaxError.
func FromUnit(u *unitfile.Unit, facts unitfile.Facts) (Settings, error) {
	r := reader{
		unit: u,
		spec: unitfile.Specifiers{Unit: u.Name, Fragment: u.Fragment, Facts: facts},
		set:  Default(),
	}
	s := &r.set
	s.Unit, s.Fragment, s.DropIns = u.Name.String(), u.Fragment, slices.Clone(u.DropIns)
	if err := r.lexical(); err != nil {
		return Settings{}, err
	}
	if err := r.known(); err != nil {
		return Settings{}, err
	}
	steps := []func() error{r.serviceRefs, r.service, r.ownRefs, r.scalars, r.hierarchies, r.commands}
	for _, step := range steps {
		if err := step(); err != nil {
			return Settings{}, err
		}
	}
	return r.set, nil
}

// WithFlags adds what a command line says: image and directory refs on top, in
// the order given, images first; hierarchies, where there are any, instead of
// the unit's. Paths must be absolute: the caller knows what a relative one is
// relative to.
func (s Settings) WithFlags(images, directories, hierarchies []string) (Settings, error) {
	s.Refs = slices.Clone(s.Refs)
	for _, group := range []struct {
		kind Kind
		refs []string
	}{{Image, images}, {Directory, directories}} {
		for _, text := range group.refs {
			ref, err := ParseRef(group.kind, text)
			if err != nil {
				return Settings{}, err
			}
			ref.Origin = FromFlag
			s.Refs = append(s.Refs, ref)
		}
	}
	if len(hierarchies) > 0 {
		s.Hierarchies = nil
		for _, h := range hierarchies {
			var err error
			if s.Hierarchies, err = addHierarchy(s.Hierarchies, h); err != nil {
				return Settings{}, err
			}
		}
	}
	return s, nil
}

// reader takes settings out of one unit.
type reader struct {
	unit *unitfile.Unit
	spec unitfile.Specifiers
	set  Settings
}

func (r *reader) warn(a unitfile.Assignment, format string, args ...any) {
	r.set.Warnings = append(r.set.Warnings, a.Errorf("%s=: %s", a.Key, fmt.Sprintf(format, args...)).Error())
}

// bad is an error about a value of [X-Extexec].
func bad(a unitfile.Assignment, err error) error {
	return a.Errorf("%s=: %v", a.Key, err)
}

// lexical passes the warnings of the lexer on; about [X-Extexec] they are
// errors.
func (r *reader) lexical() error {
	for _, w := range r.unit.Warnings {
		if w.Section == Section {
			// Here it is no mere warning.
			msg := strings.TrimSuffix(w.Msg, ": line ignored")
			return &unitfile.SyntaxError{File: w.File, Line: w.Line, Msg: fmt.Sprintf("in [%s]: %s: write KEY=VALUE, or \"#\" before it", Section, msg)}
		}
		r.set.Warnings = append(r.set.Warnings, w.Error())
	}
	for _, s := range r.unit.Sections {
		if s.Name != Section && distance(fold(s.Name), fold(Section)) <= 2 {
			r.set.Warnings = append(r.set.Warnings, fmt.Sprintf("%s:%d: section [%s] is ignored: did you mean [%s]?", s.File, s.Line, s.Name, Section))
		}
	}
	return nil
}

// Keys are all keys of [X-Extexec].
func Keys() []string { return slices.Clone(keys) }

// known refuses keys that [X-Extexec] does not have, and warns of those that only it
// has where they stand in [Service].
func (r *reader) known() error {
	for _, a := range r.unit.Assignments {
		if a.Section == "Service" && slices.Contains(keys, a.Key) && !slices.Contains(shared, a.Key) {
			r.warn(a, "it is a key of [%s], and ignored here: write it there", Section)
		}
		if a.Section != Section {
			continue
		}
		switch {
		case a.Key == "Mutable":
			return a.Errorf("Mutable= is reserved and not built yet: remove it")
		case !slices.Contains(keys, a.Key):
			return a.Errorf("unknown key %q in [%s]: %s", a.Key, Section, meant(a.Key))
		}
	}
	return nil
}

// Equal tells whether two refs mean the same, wherever they stand.
func (r Ref) Equal(o Ref) bool {
	return r.Kind == o.Kind && r.Path == o.Path && r.Optional == o.Optional && r.Relax == o.Relax && maps.Equal(r.Options, o.Options)
}
