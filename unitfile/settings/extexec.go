package settings

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/unitfile"
)

// keys are what [X-Extexec] has.
var keys = []string{
	"ExtensionImages", "ExtensionDirectories", "ExtensionImagePolicy",
	"Hierarchies", "OnBadExtension", "RequireSignature", "VerifiedCopyMax", "NoExec", "NoSuid",
	"ReloadCheck", "ReloadCommand", "ReloadSignal", "ReloadVerify", "ReloadTimeoutSec",
	"Namespaces", "KeepGenerations", "CountTries",
}

// shared are those of them that [Service] has, too.
var shared = []string{"ExtensionImages", "ExtensionDirectories", "ExtensionImagePolicy", "ReloadSignal"}

// serviceRefs reads the extension settings of [Service]. What systemd skips
// there is a warning.
func (r *reader) serviceRefs() error {
	for _, kind := range []Kind{Image, Directory} {
		for _, a := range r.unit.List("Service", refKey(kind)) {
			refs, errs := r.refs(kind, FromService, a)
			for _, err := range errs {
				r.warn(a, "%v: ignored, as systemd does", err)
			}
			r.set.Refs = append(r.set.Refs, refs...)
		}
	}
	for _, a := range r.unit.All("Service", "ExtensionImagePolicy") {
		if a.Value == "" {
			r.set.Policy = policy.Default()
			continue
		}
		p, unknown, err := policy.ParseGraceful(a.Value)
		for _, u := range append(unknown, err) {
			if u != nil {
				r.warn(a, "%v: ignored, as systemd does", u)
			}
		}
		if err == nil {
			r.set.Policy = p
		}
	}
	return nil
}

// ownRefs reads the same settings of [X-Extexec], where nothing is skipped.
func (r *reader) ownRefs() error {
	for _, kind := range []Kind{Image, Directory} {
		for _, a := range r.unit.List(Section, refKey(kind)) {
			refs, errs := r.refs(kind, FromExtexec, a)
			if len(errs) > 0 {
				return bad(a, errs[0])
			}
			r.set.Refs = append(r.set.Refs, refs...)
		}
	}
	return nil
}

func refKey(kind Kind) string {
	if kind == Image {
		return "ExtensionImages"
	}
	return "ExtensionDirectories"
}

// refs reads one assignment. errs is what systemd skips in it: a definition, a
// pair of options, or, where quotes or escapes are wrong, the rest of the line.
func (r *reader) refs(kind Kind, origin Origin, a unitfile.Assignment) (refs []Ref, errs []error) {
	words := unitfile.Splitter{Unquote: true, RetainEscape: kind == Image}
	for rest := a.Value; ; {
		word, after, ok, err := words.Next(rest)
		if err != nil {
			return refs, append(errs, err)
		}
		if !ok {
			return refs, errs
		}
		rest = after
		ref, skipped, err := parseRef(kind, word, r.spec.Expand)
		for _, s := range skipped {
			errs = append(errs, fmt.Errorf("%q: %w", word, s))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", word, err))
			if errors.As(err, new(errSyntax)) {
				return refs, errs
			}
			continue
		}
		ref.Origin, ref.File, ref.Line = origin, a.File, a.Line
		refs = append(refs, ref)
	}
}

// scalars reads the settings of [X-Extexec] that hold one value. The last one
// counts, an empty one is the default; the ones before it must be good too.
func (r *reader) scalars() error {
	parsers := r.scalarParsers()
	for _, a := range r.unit.Assignments {
		p, ok := parsers[a.Key]
		switch {
		case a.Section != Section || !ok:
		case a.Value == "":
			p.reset()
		default:
			if err := p.set(a.Value); err != nil {
				return bad(a, err)
			}
		}
	}
	return nil
}

// scalar is a setting that holds one value: how it gets its default, and a
// value.
type scalar struct {
	reset func()
	set   func(string) error
}

func (r *reader) scalarParsers() map[string]scalar {
	s, def := &r.set, Default()
	servicePolicy := s.Policy
	boolean := func(to *bool) func(string) error {
		return func(v string) (err error) {
			*to, err = unitfile.ParseBool(v)
			return err
		}
	}
	return map[string]scalar{
		"ExtensionImagePolicy": {func() { s.Policy = servicePolicy }, func(v string) (err error) {
			s.Policy, err = policy.Parse(v)
			return err
		}},
		"OnBadExtension":   {func() { s.SkipBad = false }, choice(&s.SkipBad, "fail", "skip")},
		"Namespaces":       {func() { s.AllNamespaces = false }, choice(&s.AllNamespaces, "main", "unit")},
		"RequireSignature": {func() { s.RequireSignature = false }, boolean(&s.RequireSignature)},
		"NoExec":           {func() { s.NoExec = false }, boolean(&s.NoExec)},
		"NoSuid":           {func() { s.NoSuid = false }, boolean(&s.NoSuid)},
		"CountTries":       {func() { s.CountTries = false }, boolean(&s.CountTries)},
		"VerifiedCopyMax": {func() { s.VerifiedCopyMax = def.VerifiedCopyMax }, func(v string) (err error) {
			s.VerifiedCopyMax, err = unitfile.ParseSize(v)
			return err
		}},
		"ReloadSignal": {func() { s.ReloadSignal = 0 }, func(v string) (err error) {
			s.ReloadSignal, err = ParseSignal(v)
			return err
		}},
		"ReloadTimeoutSec": {func() { s.ReloadTimeout = def.ReloadTimeout }, func(v string) (err error) {
			// 0 and infinity both mean no limit, as with systemd's own timeouts.
			if s.ReloadTimeout, err = unitfile.ParseTimeSpan(v); s.ReloadTimeout == unitfile.Infinity {
				s.ReloadTimeout = 0
			}
			return err
		}},
		"KeepGenerations": {func() { s.KeepGenerations = def.KeepGenerations }, func(v string) error {
			n, err := strconv.ParseUint(v, 10, 31)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no number between 1 and %d", v, math.MaxInt32)
			}
			s.KeepGenerations = int(n)
			return nil
		}},
	}
}

// choice reads one of two words.
func choice(to *bool, no, yes string) func(string) error {
	return func(v string) error {
		if v != no && v != yes {
			return fmt.Errorf("%q is neither %s nor %s", v, no, yes)
		}
		*to = v == yes
		return nil
	}
}

func (r *reader) hierarchies() error {
	var list []string
	for _, a := range r.unit.List(Section, "Hierarchies") {
		words, err := unitfile.Words(a.Value)
		if err != nil {
			return bad(a, err)
		}
		for _, w := range words {
			if w, err = r.spec.Expand(w); err == nil {
				list, err = addHierarchy(list, w)
			}
			if err != nil {
				return bad(a, err)
			}
		}
	}
	if len(list) > 0 {
		r.set.Hierarchies = list
	}
	return nil
}

// addHierarchy appends a hierarchy, each once. One in which no class of
// extension has files would never get a layer, so it is taken for a mistake.
func addHierarchy(list []string, h string) ([]string, error) {
	p, err := cleanPath(h)
	if err != nil {
		return nil, fmt.Errorf("hierarchy %q: %w", h, err)
	}
	below := func(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
	if !slices.ContainsFunc(Default().Hierarchies, func(dir string) bool { return below(p, dir) }) {
		return nil, fmt.Errorf("hierarchy %q: extensions have files for /usr, /opt and /etc only", h)
	}
	for _, o := range list {
		if o == p {
			return list, nil
		}
		if below(p, o) || below(o, p) {
			return nil, fmt.Errorf("hierarchies %q and %q: one is below the other", o, p)
		}
	}
	return append(list, p), nil
}

func (r *reader) commands() (err error) {
	for _, c := range []struct {
		key string
		to  *[]Command
	}{{"ReloadCheck", &r.set.ReloadCheck}, {"ReloadCommand", &r.set.ReloadCommand}, {"ReloadVerify", &r.set.ReloadVerify}} {
		for _, a := range r.unit.List(Section, c.key) {
			commands, err := unitfile.ParseExec(a.Value, r.spec.Expand)
			if err == nil && len(commands) == 0 {
				err = errors.New("no command")
			}
			if err != nil {
				return bad(a, err)
			}
			for _, e := range commands {
				if i := strings.IndexAny(e.Prefix, "@:+!|"); i >= 0 {
					return bad(a, fmt.Errorf("the prefix %q of %q is not possible here: only \"-\" is", e.Prefix[i:i+1], e.Path))
				}
				for _, w := range e.Warnings {
					r.warn(a, "%s", w)
				}
				*c.to = append(*c.to, Command{IgnoreFailure: e.IgnoreFailure(), Argv: e.Argv, File: a.File, Line: a.Line})
			}
		}
	}
	return nil
}
