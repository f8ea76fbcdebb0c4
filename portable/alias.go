package portable

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// mayEnable refuses a unit that enabling would put in the place of one of the host, by
// Alias= (systemd.unit(5)): "dbus.service" say.
func (h Host) mayEnable(found []UnitFile) error {
	for _, u := range found {
		names, err := aliases(u)
		if err != nil {
			return fmt.Errorf("attach unit %q of image %q: %w", u.Name, u.From.Path, err)
		}
		for _, name := range names {
			for _, dir := range unitfile.SystemPath() {
				p := h.path(dir, name)
				if ok, err := there(p); err != nil {
					return fmt.Errorf("attach unit %q: %w", u.Name, err)
				} else if ok && !h.enabled(p, u.Name) {
					return fmt.Errorf("attach unit %q: enabled, it would be %q, too, and %q is there already: do without --enable, or give --force", u.Name, name, p)
				}
			}
		}
	}
	return nil
}

// enabled says whether a path is a link to the unit as it is attached: an Alias= that
// was enabled before.
func (h Host) enabled(p, unit string) bool {
	target, err := os.Readlink(p)
	return err == nil && (target == filepath.Join(h.attachedDir(false), unit) || target == filepath.Join(h.attachedDir(true), unit))
}

// aliases are the names that a unit gets when it is enabled; those with specifiers are
// left out.
func aliases(u UnitFile) (names []string, err error) {
	name, err := unitfile.ParseName(u.Name)
	if err != nil {
		return nil, err
	}
	unit, err := (&unitfile.Unit{Name: name}).With(u.Source, u.Text)
	if err != nil {
		return nil, err
	}
	for _, a := range unit.List("Install", "Alias") {
		for _, alias := range strings.Fields(a.Value) {
			if n, err := unitfile.ParseName(alias); err == nil && n.String() != u.Name {
				names = append(names, alias)
			}
		}
	}
	return names, nil
}
