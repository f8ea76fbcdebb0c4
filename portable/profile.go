package portable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/extexec/extexec/extension/release"
)

// NoProfile is the profile that is none: the unit has the sandbox that it has itself.
const NoProfile = "none"

// profileDirs are where profiles are, the first one wins.
func profileDirs() []string {
	return []string{"/etc/systemd/portable/profile", "/run/systemd/portable/profile", "/usr/local/lib/systemd/portable/profile", "/usr/lib/systemd/portable/profile"}
}

// profileFiles finds the files of a profile, by the type of units that they are for. One
// that would not confine a service among the units is refused.
func (h Host) profileFiles(profile string, units []UnitFile) (map[string]string, error) {
	if profile == NoProfile {
		return nil, nil
	}
	if !release.ValidName(profile) {
		return nil, fmt.Errorf("find profile %q: this cannot be the name of a profile", profile)
	}
	found, known := map[string]string{}, false
	for _, dir := range profileDirs() {
		entries, err := os.ReadDir(h.path(dir, profile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find profile %q: %w", profile, err)
		}
		known = true
		for _, e := range entries {
			kind, ok := strings.CutSuffix(e.Name(), ".conf")
			if ok && found["."+kind] == "" {
				found["."+kind] = h.path(dir, profile, e.Name())
			}
		}
	}
	if !known {
		return nil, fmt.Errorf("find profile %q: it is in none of %s: install systemd's (package systemd-container or systemd-portable), or give --profile %s, which leaves the unit as it is",
			profile, strings.Join(profileDirs(), ", "), NoProfile)
	}
	isService := func(u UnitFile) bool { return path.Ext(u.Name) == ".service" }
	if found[".service"] == "" && slices.ContainsFunc(units, isService) {
		return nil, fmt.Errorf("find profile %q: it has no service.conf, and services would run without a sandbox: write one, or give --profile %s", profile, NoProfile)
	}
	return found, nil
}

// Profiles are the names of all profiles.
func (h Host) Profiles() []string {
	names := []string{NoProfile}
	seen := map[string]bool{}
	for _, dir := range profileDirs() {
		entries, _ := os.ReadDir(h.path(dir)) // most of them are not there
		for _, e := range entries {
			if name := filepath.Base(e.Name()); e.IsDir() && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}
