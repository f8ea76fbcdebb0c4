package portable

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// shortName is the name of an image without its directory, version and suffix:
// "web" of "/srv/web_1.2.raw" and of "/srv/web.raw.v".
func shortName(image string) string {
	name := path.Base(image)
	if cut, _, versioned := strings.Cut(name, "_"); versioned && cut != "" {
		return cut
	}
	for _, suffix := range []string{".raw.v", ".raw", ".v"} {
		if cut, ok := strings.CutSuffix(name, suffix); ok && cut != "" {
			return cut
		}
	}
	return name
}

// hasPrefix says whether a unit belongs to one of the prefixes: it begins with it, and
// a "-", "." or "@" follows, or nothing. No prefixes are all.
func hasPrefix(unit string, prefixes []string) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool {
		rest, ok := strings.CutPrefix(unit, p)
		return ok && p != "" && (rest == "" || strings.IndexByte("-.@", rest[0]) >= 0)
	})
}

// checkPrefixes holds what is wanted against what the images allow (PORTABLE_PREFIXES=).
func checkPrefixes(wanted, allowed []string) error {
	if len(allowed) == 0 {
		return nil
	}
	for _, w := range wanted {
		if !slices.Contains(allowed, w) {
			return fmt.Errorf("prefix %q is not among PORTABLE_PREFIXES= of the images: use one of %s", w, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// attachable are the types of units that are taken from an image.
func attachable(name string) bool {
	return slices.Contains([]string{".service", ".socket", ".target", ".timer", ".path"}, path.Ext(name))
}
