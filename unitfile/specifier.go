package unitfile

import (
	"fmt"
	"path"
	"strings"
)

// Facts is what specifiers say of the host. The zero value knows nothing of
// the host: a specifier that needs more is then an error. It stands for the
// system manager, whose user is root.
type Facts struct {
	Arch           string // systemd's word, "x86-64"
	MachineID      string
	BootID         string
	Hostname       string
	PrettyHostname string // "" falls back to Hostname
	KernelRelease  string // uname -r
	OSRelease      map[string]string
	Shell          string // root's; "" is /bin/sh
	Home           string // root's; "" is /root
}

// Specifiers expands the %-specifiers of systemd.unit(5) for one unit.
type Specifiers struct {
	Unit     Name
	Fragment string
	Facts    Facts
}

// Expand replaces every specifier. One that is unknown, or cannot be resolved,
// is an error; a "%" before anything but a letter or digit stays, as in
// systemd.
func (s Specifiers) Expand(text string) (string, error) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c != '%' || i+1 == len(text) {
			b.WriteByte(c)
			continue
		}
		i++
		switch c = text[i]; {
		case c == '%':
			b.WriteByte('%')
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			v, err := s.lookup(c)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
		if b.Len() > lineMax {
			return "", fmt.Errorf("specifiers make it longer than 1 MiB")
		}
	}
	return b.String(), nil
}

// The directories of the system manager.
var managerDirs = map[byte]string{
	't': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc",
	'T': "/tmp", 'V': "/var/tmp", 'D': "/usr/share",
}

// Fields of os-release; one that is not set is empty.
var osFields = map[byte]string{
	'o': "ID", 'w': "VERSION_ID", 'W': "VARIANT_ID", 'B': "BUILD_ID", 'A': "IMAGE_VERSION", 'M': "IMAGE_ID",
}

func (s Specifiers) lookup(c byte) (string, error) {
	if dir, ok := managerDirs[c]; ok {
		return dir, nil
	}
	if field, ok := osFields[c]; ok {
		if s.Facts.OSRelease == nil {
			return "", unresolved(c, "no os-release was read")
		}
		return s.Facts.OSRelease[field], nil
	}
	if v, ok, err := s.ofUnit(c); ok || err != nil {
		return v, err
	}
	if v, ok, err := s.ofHost(c); ok || err != nil {
		return v, err
	}
	return "", fmt.Errorf("unknown specifier \"%%%c\" (a plain %% is written %%%%)", c)
}

func unresolved(c byte, why string) error {
	return fmt.Errorf("specifier \"%%%c\" cannot be resolved: %s", c, why)
}

func (s Specifiers) ofUnit(c byte) (v string, ok bool, err error) {
	switch n := s.Unit; c {
	case 'n':
		return n.full, true, nil
	case 'N':
		return strings.TrimSuffix(n.full, "."+n.kind), true, nil
	case 'p':
		return n.prefix, true, nil
	case 'P':
		v, err = Unescape(n.prefix)
	case 'i':
		return n.instance, true, nil
	case 'I':
		v, err = Unescape(n.instance)
	case 'j', 'J':
		v = n.prefix[strings.LastIndexByte(n.prefix, '-')+1:]
		if c == 'J' {
			v, err = Unescape(v)
		}
	case 'f':
		escaped := n.instance
		if escaped == "" {
			escaped = n.prefix
		}
		v, err = UnescapePath(escaped)
	case 'd':
		return "/run/credentials/" + n.full, true, nil
	case 'y':
		return s.Fragment, true, nil
	case 'Y':
		if s.Fragment == "" {
			return "", true, nil
		}
		return path.Dir(s.Fragment), true, nil
	default:
		return "", false, nil
	}
	if err != nil {
		err = unresolved(c, err.Error())
	}
	return v, true, err
}

func (s Specifiers) ofHost(c byte) (v string, ok bool, err error) {
	f := s.Facts
	known := func(v, what string) (string, bool, error) {
		if v == "" {
			return "", true, unresolved(c, "the "+what+" is not known")
		}
		return v, true, nil
	}
	or := func(v, otherwise string) (string, bool, error) {
		if v == "" {
			v = otherwise
		}
		return v, true, nil
	}
	switch c {
	case 'u', 'g':
		return "root", true, nil
	case 'U', 'G':
		return "0", true, nil
	case 'h':
		return or(f.Home, "/root")
	case 's':
		return or(f.Shell, "/bin/sh")
	case 'a':
		return known(f.Arch, "architecture")
	case 'm':
		return known(f.MachineID, "machine id")
	case 'b':
		return known(f.BootID, "boot id")
	case 'v':
		return known(f.KernelRelease, "kernel release")
	case 'H':
		return known(f.Hostname, "host name")
	case 'l':
		short, _, _ := strings.Cut(f.Hostname, ".")
		return known(short, "host name")
	case 'q':
		if f.PrettyHostname != "" {
			return f.PrettyHostname, true, nil
		}
		return known(f.Hostname, "host name")
	}
	return "", false, nil
}
