package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/extexec/extexec/extension/architecture"
)

// wildcard in ID= and ARCHITECTURE= stands for all of them.
const wildcard = "_any"

// defaultScopes are those of a release file without a SCOPE field.
const defaultScopes = "system portable"

// Host is what an extension is matched against.
type Host struct {
	OS OS

	// Architecture is systemd's word for it; empty: that of the kernel.
	Architecture string

	// Scope must be among the extension's scopes; empty: any will do, as for
	// the extensions of a unit.
	Scope string
}

// MismatchError says that an extension is not made for this host.
type MismatchError struct {
	Extension string // its name
	File      string // its release file, in its tree
	Field     string // the field that does not match; empty: the file is empty
	Want, Got string // what the host has and what the file has
	OSFile    string // where Want comes from, in the service root; empty: not from there
}

func (e *MismatchError) Error() string {
	switch {
	case e.Field == "":
		return fmt.Sprintf("%q does not fit: %s has no fields: it needs an ID= at least", e.Extension, e.File)
	case e.OSFile == "":
		return fmt.Sprintf("%q does not fit: %s has %s, and %s is wanted%s", e.Extension, e.File, e.got(), e.Want, e.remedy())
	case e.Want == "":
		return fmt.Sprintf("%q does not fit: %s has %s, and the service root's %s has no %s%s", e.Extension, e.File, e.got(),
			e.OSFile, e.Field, e.remedy())
	}
	return fmt.Sprintf("%q does not fit: %s has %s, and the service root's %s has %q%s", e.Extension, e.File, e.got(),
		e.OSFile, e.Want, e.remedy())
}

func (e *MismatchError) got() string {
	if e.Got == "" {
		return "no " + e.Field + "="
	}
	return fmt.Sprintf("%s=%q", e.Field, e.Got)
}

func (e *MismatchError) remedy() string {
	switch e.Field {
	case "ID", "ARCHITECTURE":
		return fmt.Sprintf(": use one made for this system, or set %s=%s in it if it fits everywhere", e.Field, wildcard)
	case "VERSION_ID":
		return ": use one made for this version, or set ID=_any in it if it fits everywhere"
	}
	return ": use one made for this system"
}

// Match says whether an extension is made for a host: nil, or a
// [*MismatchError] for the first field that does not match. Values are compared
// as strings; there is no order of versions.
func (r Release) Match(extension string, host Host) error {
	mismatch := func(field, want, osFile string) error {
		return &MismatchError{Extension: extension, File: r.File, Field: field, Want: want, Got: r.Fields[field], OSFile: osFile}
	}
	if len(r.Fields) == 0 {
		return mismatch("", "", "")
	}
	if field := r.Class.prefix() + "SCOPE"; host.Scope != "" {
		scopes, ok := r.Fields[field]
		if !ok {
			scopes = defaultScopes
		}
		if !slices.Contains(strings.Fields(scopes), host.Scope) {
			return mismatch(field, host.Scope, "")
		}
	}
	if host.Architecture == "" {
		host.Architecture = architecture.Uname()
	}
	if a := r.Fields["ARCHITECTURE"]; a != "" && a != wildcard && a != host.Architecture {
		return mismatch("ARCHITECTURE", host.Architecture, "")
	}

	id, system := r.Fields["ID"], host.OS.Fields
	osFile := host.OS.File
	if osFile == "" {
		osFile = "os-release"
	}
	switch {
	case id == wildcard:
		return nil
	case id == "" || id != system["ID"] && !slices.Contains(strings.Fields(system["ID_LIKE"]), id):
		return mismatch("ID", strings.TrimSpace(system["ID"]+" "+system["ID_LIKE"]), osFile)
	}
	return r.matchVersion(mismatch, system, osFile)
}

// matchVersion: where both have a level, it stands for the version. A system
// that has neither is a rolling release, which everything fits.
func (r Release) matchVersion(mismatch func(field, want, osFile string) error, system map[string]string, osFile string) error {
	field := r.Class.prefix() + "LEVEL"
	if want, got := system[field], r.Fields[field]; want != "" && got != "" {
		if want != got {
			return mismatch(field, want, osFile)
		}
		return nil
	}
	if want := system["VERSION_ID"]; want != "" && want != r.Fields["VERSION_ID"] {
		return mismatch("VERSION_ID", want, osFile)
	}
	return nil
}
