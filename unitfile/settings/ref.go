package settings

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/extexec/extexec/unitfile"
)

// Kind is what a ref names.
type Kind int

// The kinds of refs.
const (
	Image Kind = iota + 1
	Directory
)

func (k Kind) String() string {
	switch k {
	case Image:
		return "image"
	case Directory:
		return "directory"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Origin is where a ref was written.
type Origin int

// The origins, in layer order.
const (
	FromService Origin = iota + 1
	FromExtexec
	FromFlag
)

func (o Origin) String() string {
	switch o {
	case FromService:
		return "[Service]"
	case FromExtexec:
		return "[" + Section + "]"
	case FromFlag:
		return "flag"
	}
	return fmt.Sprintf("Origin(%d)", int(o))
}

// RelaxOption is the mount option that lets an image in whose
// extension-release does not have the image's name.
const RelaxOption = "x-systemd.relax-extension-release-check"

// Ref is one entry of ExtensionImages= or ExtensionDirectories=.
type Ref struct {
	Kind     Kind
	Path     string // absolute, clean, specifiers done
	Optional bool   // "-": a missing source is no error
	Relax    bool   // RelaxOption is among the options
	// Options are mount options by partition ("root", "usr", ...), as written.
	Options map[string]string
	Origin  Origin
	File    string // "" for a flag
	Line    int
}

// designators are the partitions that mount options can be given for.
var designators = []string{
	"root", "usr", "home", "srv", "esp", "xbootldr", "swap", "root-verity", "usr-verity",
	"root-verity-sig", "usr-verity-sig", "tmp", "var",
}

var fields = unitfile.Splitter{Separators: ":", CUnescape: true, UnescapeSeparators: true}

// ParseRef reads one definition, quotes and specifiers already done. Of an
// image: [-]PATH[:OPTIONS] or [-]PATH:PARTITION:OPTIONS..., C escapes and "\:"
// for a colon. Of a directory: [-][+]PATH, nothing escaped.
func ParseRef(kind Kind, s string) (Ref, error) {
	r, skipped, err := parseRef(kind, s, nil)
	if err == nil && len(skipped) > 0 {
		err = skipped[0]
	}
	if err != nil {
		return Ref{}, fmt.Errorf("extension %s %q: %w", kind, s, err)
	}
	return r, nil
}

// errSyntax marks an error after which systemd skips the rest of the line.
type errSyntax struct{ error }

func (e errSyntax) Unwrap() error { return e.error }

// parseRef also gives what systemd skips in a definition that it keeps.
func parseRef(kind Kind, s string, expand func(string) (string, error)) (r Ref, skipped []error, err error) {
	if expand == nil {
		expand = func(s string) (string, error) { return s, nil }
	}
	r.Kind = kind
	source, rest := s, ""
	if kind == Image {
		var ok bool
		if source, rest, ok, err = fields.Next(s); err != nil {
			return Ref{}, nil, errSyntax{err}
		} else if !ok {
			return Ref{}, nil, errors.New("it has no path")
		}
	}
	source, r.Optional = strings.CutPrefix(source, "-")
	if kind == Directory {
		// "+" (relative to the root directory) is accepted and means nothing
		// here, as in systemd.
		source = strings.TrimPrefix(source, "+")
	}
	if source, err = expand(source); err != nil {
		return Ref{}, nil, err
	}
	if r.Path, err = cleanPath(source); err != nil {
		return Ref{}, nil, err
	}
	if kind == Directory {
		return r, nil, nil
	}
	if belowAPI(r.Path) {
		return Ref{}, nil, errors.New("the path is below /proc, /sys or /dev: use a path elsewhere, a symlink will do")
	}
	skipped, err = r.parseOptions(rest, expand)
	return r, skipped, err
}

// parseOptions reads the fields after the path, two at a time. One that is left
// over is the options of the root partition, and the end.
func (r *Ref) parseOptions(s string, expand func(string) (string, error)) (skipped []error, err error) {
	for {
		part, rest, ok, err := fields.Next(s)
		if err != nil {
			return nil, errSyntax{err}
		}
		if !ok {
			break
		}
		options, rest, pair, err := fields.Next(rest)
		if err != nil {
			return nil, errSyntax{err}
		}
		if !pair {
			part, options = "root", part
		}
		s = rest
		if !slices.Contains(designators, part) {
			skipped = append(skipped, fmt.Errorf("unknown partition %q (one of %s)", part, strings.Join(designators, " ")))
			continue
		}
		if options, err = expand(options); err != nil {
			skipped = append(skipped, err)
			continue
		}
		if !utf8.ValidString(options) || strings.ContainsRune(options, 0) {
			skipped = append(skipped, fmt.Errorf("mount options %q are not valid UTF-8", options))
			continue
		}
		r.setOptions(part, options)
	}
	r.Relax = relaxed(r.Options)
	return skipped, nil
}

// setOptions: the last options given for a partition count, as in systemd
// since v260.
func (r *Ref) setOptions(part, options string) {
	if options == "" {
		delete(r.Options, part)
		return
	}
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	r.Options[part] = options
}

// String is the ref as one definition, which ParseRef reads back.
func (r Ref) String() string {
	var b strings.Builder
	if r.Optional {
		b.WriteByte('-')
	}
	if r.Kind == Directory {
		b.WriteString(r.Path)
		return b.String()
	}
	b.WriteString(escapeField(r.Path))
	options := r.Options
	if r.Relax && !relaxed(options) {
		if options = maps.Clone(options); options == nil {
			options = map[string]string{}
		}
		options["root"] = strings.TrimPrefix(options["root"]+","+RelaxOption, ",")
	}
	for _, d := range designators {
		if o := options[d]; o != "" {
			b.WriteString(":" + d + ":" + escapeField(o))
		}
	}
	return b.String()
}

// relaxed looks for RelaxOption; for which partition it is does not matter.
func relaxed(options map[string]string) bool {
	for _, o := range options {
		if slices.Contains(strings.Split(o, ","), RelaxOption) {
			return true
		}
	}
	return false
}

// escapeField writes a field so that Splitter reads it back.
func escapeField(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\' || c == ':':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// cleanPath is systemd's path_simplify_and_warn: absolute, without "..", valid
// UTF-8; double slashes, "." and a slash at the end go.
func cleanPath(p string) (string, error) {
	switch {
	case p == "":
		return "", errors.New("the path is empty")
	case !utf8.ValidString(p) || strings.ContainsRune(p, 0):
		return "", errors.New("the path is not valid UTF-8")
	case !path.IsAbs(p):
		return "", fmt.Errorf("the path %q is not absolute", p)
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "", fmt.Errorf("the path %q has a \"..\"", p)
	}
	p = path.Clean(p)
	// PATH_MAX counts the final NUL, NAME_MAX does not.
	tooLong := func(part string) bool { return len(part) > 255 }
	if len(p) >= 4096 || slices.ContainsFunc(strings.Split(p, "/"), tooLong) {
		return "", errors.New("the path is too long")
	}
	return p, nil
}

func belowAPI(p string) bool {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}
