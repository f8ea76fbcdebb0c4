package settings

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// LoadOptions says where units are looked for. The zero value is this host.
type LoadOptions struct {
	// Root is the root directory; nil is "/" of the calling thread.
	Root fs.FS
	// SearchPath is where unit files are, highest priority first; nil is
	// unitfile.SystemPath.
	SearchPath []string
}

// Load reads the settings of a unit: a name from the search path, or, with a
// slash in it, the path of one unit file, whose base name is the unit's name
// and beside which its drop-ins are. A relative path needs a nil Root. No
// manager is asked. The errors are those of unitfile.Load and FromUnit.
func Load(unit string, o LoadOptions) (Settings, error) {
	if strings.Contains(unit, "/") && o.Root == nil {
		abs, err := filepath.Abs(unit)
		if err != nil {
			return Settings{}, fmt.Errorf("find unit file %q: %w", unit, err)
		}
		unit = abs
	}
	if o.Root == nil {
		o.Root = os.DirFS("/")
	}
	if o.SearchPath == nil {
		o.SearchPath = unitfile.SystemPath()
	}
	var u *unitfile.Unit
	var err error
	if strings.Contains(unit, "/") {
		u, err = unitfile.LoadFile(o.Root, unit)
	} else {
		u, err = unitfile.Load(o.Root, unit, o.SearchPath)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("load settings: %w", err)
	}
	var facts unitfile.Facts
	if usesSpecifiers(u) {
		facts = HostFacts(o.Root)
	}
	s, err := FromUnit(u, facts)
	if err != nil {
		return Settings{}, fmt.Errorf("load settings: %w", err)
	}
	return s, nil
}

// usesSpecifiers saves the reading of host facts where nobody asks for them.
func usesSpecifiers(u *unitfile.Unit) bool {
	for _, a := range u.Assignments {
		if strings.Contains(a.Value, "%") {
			return true
		}
	}
	return false
}

var architectures = map[string]string{
	"amd64": "x86-64", "386": "x86", "arm64": "arm64", "arm": "arm", "riscv64": "riscv64",
	"loong64": "loongarch64", "ppc64": "ppc64", "ppc64le": "ppc64-le", "s390x": "s390x",
	"mips": "mips", "mipsle": "mips-le", "mips64": "mips64", "mips64le": "mips64-le",
}

// HostFacts reads what specifiers say of a host from the files of its root. A
// fact that cannot be read is left empty: the specifier that needs it is then
// an error.
func HostFacts(root fs.FS) unitfile.Facts {
	line := func(name string) string {
		data, _ := fs.ReadFile(root, name)
		first, _, _ := strings.Cut(string(data), "\n")
		return strings.TrimSpace(first)
	}
	f := unitfile.Facts{
		Arch:          architectures[runtime.GOARCH],
		MachineID:     line("etc/machine-id"),
		BootID:        strings.ReplaceAll(line("proc/sys/kernel/random/boot_id"), "-", ""),
		Hostname:      line("proc/sys/kernel/hostname"),
		KernelRelease: line("proc/sys/kernel/osrelease"),
	}
	f.PrettyHostname = envFile(root, "etc/machine-info")["PRETTY_HOSTNAME"]
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		if f.OSRelease = envFile(root, name); f.OSRelease != nil {
			break
		}
	}
	return f
}

// envFile reads KEY=VALUE lines with shell quotes; nil where there is no file.
func envFile(root fs.FS, name string) map[string]string {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return nil
	}
	fields := map[string]string{}
	for l := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(strings.TrimSpace(l), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		words, err := unitfile.Words(value)
		if err == nil {
			fields[key] = strings.Join(words, " ")
		}
	}
	return fields
}
