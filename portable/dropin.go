package portable

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units"
	"github.com/extexec/extexec/units/lint"
)

// The drop-ins of an attached unit, as systemd-portabled names them.
const (
	profileName = "10-profile.conf"
	dropInName  = "20-portable.conf"
)

// A writer makes the drop-ins of the units of one attach.
type writer struct {
	base       *Image
	extensions []*Image
	profile    map[string][]byte // its text by the type of units
	facts      lint.Facts
	notes      []string
}

// marker names the images, a ".v/" by the version that was picked: portablectl compares
// versions with versions (257).
func (w *writer) marker() Marker {
	m := Marker{w.base.Path}
	for _, e := range w.extensions {
		m = append(m, e.Picked)
	}
	return m
}

// dropIn is the text of 20-portable.conf of a unit.
func (w *writer) dropIn(u UnitFile) (string, error) {
	text := w.marker().line()
	if path.Ext(u.Name) != ".service" {
		return text, nil
	}
	with, err := w.unit(u)
	if err != nil {
		return "", fmt.Errorf("attach unit %q of image %q: %w", u.Name, u.From.Path, err)
	}
	in := units.Input{Unit: with, Facts: w.facts}
	for _, e := range w.extensions {
		if e.Kind == settings.Image {
			in.Images = append(in.Images, e.ref.String())
		} else {
			in.Directories = append(in.Directories, e.ref.String())
		}
	}
	lines, notes, err := units.ForPortable(in)
	if err != nil {
		return "", err
	}
	w.notes = append(w.notes, notes...)
	return text + w.root(u, with) + lines, nil
}

// unit is the unit with its profile.
func (w *writer) unit(u UnitFile) (*unitfile.Unit, error) {
	name, err := unitfile.ParseName(u.Name)
	if err != nil {
		return nil, err
	}
	empty := &unitfile.Unit{Name: name, Requested: u.Name, Names: []string{u.Name}, Fragment: u.Source}
	with, err := empty.With(u.Source, u.Text)
	if err != nil {
		return nil, err
	}
	return with.With(profileName, w.profile[".service"])
}

// root is what makes the image the unit's root, and what its journal entries say of it. A
// root of the unit's own would go before that.
func (w *writer) root(u UnitFile, with *unitfile.Unit) string {
	var b strings.Builder
	add := func(key, value string) { fmt.Fprintf(&b, "%s=%s\n", key, value) }
	b.WriteString("\n[Service]\n")
	key := "RootDirectory"
	if w.base.Kind == settings.Image {
		key = "RootImage"
	}
	for _, other := range []string{"RootDirectory", "RootImage", "RootMStack"} {
		if a, _ := with.Last("Service", other); other != key && a.Value != "" {
			add(other, "")
		}
	}
	add(key, strings.ReplaceAll(w.base.Path, "%", "%%"))
	add("Environment", units.Word("PORTABLE="+path.Base(u.From.Path)))
	if v := w.facts.Systemd; v != 0 && v < 255 {
		add("BindReadOnlyPaths", hostRelease()+":/run/host/os-release") // which systemd itself does from then on
	}
	add("LogExtraFields", units.Word("PORTABLE="+path.Base(u.From.Path)))
	if u.From == w.base {
		w.name(add, "PORTABLE_NAME_AND_VERSION", w.base.Fields, "")
	}
	if len(w.extensions) > 0 {
		add("LogExtraFields", units.Word("PORTABLE_ROOT="+path.Base(w.base.Path)))
		w.name(add, "PORTABLE_ROOT_NAME_AND_VERSION", w.base.Fields, "")
	}
	for _, e := range w.extensions {
		add("LogExtraFields", units.Word("PORTABLE_EXTENSION="+path.Base(e.Path)))
		w.name(add, "PORTABLE_EXTENSION_NAME_AND_VERSION", e.Fields, strings.ToUpper(e.Classes[0])+"_")
	}
	w.policies(add)
	return b.String()
}

// policies pin what protects the images; systemd 253 has no such settings.
func (w *writer) policies(add func(key, value string)) {
	if v := w.facts.Systemd; v != 0 && v < 254 {
		return
	}
	if p := pin([]protection{w.base.guard}); p != "" {
		add("RootImagePolicy", p)
	}
	var guards []protection
	for _, e := range w.extensions {
		if e.Kind == settings.Image {
			guards = append(guards, e.guard)
		}
	}
	if p := pin(guards); p != "" {
		add("ExtensionImagePolicy", p)
	}
}

// name adds the field that says which version of an image it is. The values come from
// the image: what could be more than a name is left out.
func (w *writer) name(add func(key, value string), field string, release map[string]string, prefix string) {
	first := func(keys ...string) string {
		for _, k := range keys {
			if v := release[k]; v != "" {
				return v
			}
		}
		return ""
	}
	name := first(prefix+"IMAGE_ID", prefix+"ID", "IMAGE_ID", "ID")
	version := first(prefix+"IMAGE_VERSION", prefix+"VERSION_ID", prefix+"BUILD_ID", "IMAGE_VERSION", "VERSION_ID", "BUILD_ID")
	if version != "" {
		name += "_" + version
	}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._~^+-", r)
	}
	if name != "" && strings.TrimFunc(name, plain) == "" {
		add("LogExtraFields", field+"="+name)
	}
}

// hostRelease is the host's own os-release.
func hostRelease() string {
	if _, err := os.Stat("/etc/os-release"); err == nil {
		return "/etc/os-release"
	}
	return "/usr/lib/os-release"
}
