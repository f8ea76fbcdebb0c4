package unitfile

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// NameMax is the longest unit name, in bytes.
const NameMax = 255

const nameChars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\"

var unitTypes = []string{"service", "mount", "swap", "socket", "target", "device", "automount", "timer", "path", "slice", "scope"}

// Name is a valid unit name, taken apart.
type Name struct {
	full     string
	prefix   string
	instance string
	at       bool
	kind     string
}

// ParseName checks a unit name by systemd's rules: characters, length, type.
func ParseName(s string) (Name, error) {
	bad := func(why string) (Name, error) {
		return Name{}, fmt.Errorf("invalid unit name %q: %s", abbreviate(s), why)
	}
	if s == "" {
		return bad("it is empty")
	}
	if len(s) > NameMax {
		return bad(fmt.Sprintf("longer than %d bytes", NameMax))
	}
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return bad("it has no type: try " + s + ".service")
	}
	if dot == 0 {
		return bad("nothing before the type")
	}
	n := Name{full: s, prefix: s[:dot], kind: s[dot+1:]}
	if !slices.Contains(unitTypes, n.kind) {
		return bad(fmt.Sprintf("%q is no unit type", n.kind))
	}
	for _, c := range []byte(n.prefix) {
		if c != '@' && strings.IndexByte(nameChars, c) < 0 {
			return bad(fmt.Sprintf("character %q: escape it with systemd-escape", c))
		}
	}
	if at := strings.IndexByte(n.prefix, '@'); at >= 0 {
		n.prefix, n.instance, n.at = s[:at], s[at+1:dot], true
	}
	if n.prefix == "" {
		return bad("nothing before \"@\"")
	}
	return n, nil
}

// String is the whole name, "foo@bar.service".
func (n Name) String() string { return n.full }

// Prefix is what stands before "@" or the type: "foo".
func (n Name) Prefix() string { return n.prefix }

// Instance is what stands between "@" and the type, "" where nothing does.
func (n Name) Instance() string { return n.instance }

// Type is "service" in "foo@bar.service".
func (n Name) Type() string { return n.kind }

// IsTemplate holds for "foo@.service".
func (n Name) IsTemplate() bool { return n.at && n.instance == "" }

// IsInstance holds for "foo@bar.service".
func (n Name) IsInstance() bool { return n.at && n.instance != "" }

// Template is the template of an instance, "foo@.service"; "" for a plain
// name.
func (n Name) Template() string {
	if !n.at {
		return ""
	}
	return n.prefix + "@." + n.kind
}

// withInstance puts an instance into a template's name.
func (n Name) withInstance(instance string) (Name, error) {
	return ParseName(n.prefix + "@" + instance + "." + n.kind)
}

// Unescape gives what was made fit for a unit name, as systemd-escape --unescape does.
func Unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '-':
			b.WriteByte('/')
		case '\\':
			if len(s) < i+4 || s[i+1] != 'x' || digit(s[i+2]) > 15 || digit(s[i+3]) > 15 {
				return "", fmt.Errorf("unescape %q: backslash without xHH", abbreviate(s))
			}
			b.WriteByte(byte(digit(s[i+2])<<4 | digit(s[i+3])))
			i += 3
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// UnescapePath is the same for a path, systemd-escape --unescape --path: it is absolute.
func UnescapePath(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("unescape path: it is empty")
	}
	if s == "-" {
		return "/", nil
	}
	p, err := Unescape(s)
	if err != nil {
		return "", err
	}
	if p = "/" + p; path.Clean(p) != p {
		return "", fmt.Errorf("unescape path %q: %q is not a normal path", abbreviate(s), abbreviate(p))
	}
	return p, nil
}
