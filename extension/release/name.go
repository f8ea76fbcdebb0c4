package release

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ImageName is the name that an image's release file has, from the file name of
// the image: without what says how it is packed.
func ImageName(file string) string {
	suffixes := []string{".xz", ".gz", ".bz2", ".zst", ".sysext.raw", ".confext.raw", ".raw", ".qcow2", ".img", ".bin"}
	for {
		before := file
		for _, suffix := range suffixes {
			file = strings.TrimSuffix(file, suffix)
		}
		if file == before {
			return file
		}
	}
}

// BaseName is what remains of an extension's name without its version: up to the
// first "_" or "+".
func BaseName(name string) string {
	for _, suffix := range []string{".sysext.raw", ".confext.raw", ".raw"} {
		if cut, ok := strings.CutSuffix(name, suffix); ok {
			name = cut
			break
		}
	}
	if at := strings.IndexAny(name, "_+"); at >= 0 {
		name = name[:at]
	}
	return name
}

// ValidName says whether a name can be an extension's: that of a file, printable
// UTF-8, and not that of a temporary file.
func ValidName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.Contains(name, "/") &&
		!strings.HasPrefix(name, ".#") && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}
