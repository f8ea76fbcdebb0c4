package lint

import (
	"path"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// Facts is what the caller knows of the host. The zero value knows nothing.
type Facts struct {
	// Systemd is its version, 0 where it is not known.
	Systemd int
	// Specifiers are for the unit's %-specifiers: see settings.HostFacts.
	Specifiers unitfile.Facts
	// Sources say what the refs lead to, by their path.
	Sources map[string]Source
	// Missing are those of Paths that the host does not have.
	Missing map[string]bool
}

// Source is what a ref leads to now.
type Source struct {
	// Missing says that nothing is there, or nothing can be picked. Why has the
	// reason and the remedy, as one line.
	Missing bool
	// Why says what is wrong with what is there; "" where nothing is.
	Why string
	// Classes are "sysext" and "confext", as the extension's release files say;
	// nil where they are not known.
	Classes []string
	// Untrusted says who could change what the path leads to; "" where root alone.
	Untrusted string
}

// Paths are the paths of the host that Facts.Missing is to be asked about.
func Paths(u *unitfile.Unit, s settings.Settings) (paths []string) {
	if d := s.Service.WorkingDirectory; path.IsAbs(d) {
		paths = append(paths, d)
	}
	for _, l := range ours(u) {
		if path.IsAbs(l.Path) && !slices.Contains(paths, l.Path) {
			paths = append(paths, l.Path)
		}
	}
	return paths
}

// versioned tells whether a path is picked from: "NAME.v", or "NAME.v/BEGIN___END"
// (systemd.v(7)).
func versioned(p string) bool {
	dir, base := path.Split(path.Clean(p))
	return strings.HasSuffix(base, ".v") || strings.HasSuffix(path.Clean(dir), ".v") && strings.Contains(base, "___")
}

// confextAlone tells whether a source is known to be a confext and no sysext.
func (s Source) confextAlone() bool {
	return slices.Contains(s.Classes, "confext") && !slices.Contains(s.Classes, "sysext")
}

// mayBeConfext is true where the class is not known, too.
func (s Source) mayBeConfext() bool {
	return s.Classes == nil || slices.Contains(s.Classes, "confext")
}
