package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxName is the longest name: systemd's UNIT_NAME_MAX, and NAME_MAX of the file
// systems that the directories are on.
const maxName = 255

// Dirs says where records and memories are: two directories that have one
// directory a name.
type Dirs struct {
	Record string
	Memory string
}

// DefaultDirs returns the places of the system.
func DefaultDirs() Dirs {
	return Dirs{Record: "/run/extexec/units", Memory: "/var/lib/extexec/units"}
}

// In returns both places below dir, which must be absolute.
func In(dir string) Dirs {
	return Dirs{Record: filepath.Join(dir, "record"), Memory: filepath.Join(dir, "memory")}
}

// Hint is the command line of a verb of extexec that looks at these places, for messages.
func (d Dirs) Hint(verb string, args ...string) string {
	words := []string{"extexec", verb}
	if d != DefaultDirs() {
		dir := filepath.Dir(d.Record)
		if strings.ContainsFunc(dir, func(c rune) bool { return c != '/' && (c >= utf8.RuneSelf || !nameByte(byte(c))) }) {
			dir = strconv.Quote(dir)
		}
		words = append(words, "--state-dir", dir)
	}
	return strings.Join(append(words, args...), " ")
}

// A Unit is one name in the two places. It holds nothing open.
type Unit struct {
	name   string
	record string
	memory string

	// reach is called before every file operation that changes something, so that
	// a test can stop there; nil otherwise.
	reach func(operation string)
}

// Unit returns the unit of that name, whether it has a record or not. A text that
// is no name is a [*NameError].
func (d Dirs) Unit(name string) (*Unit, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	for _, dir := range []string{d.Record, d.Memory} {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("find state of %q: directory %q is not absolute", name, dir)
		}
	}
	return &Unit{name: name, record: filepath.Join(d.Record, name), memory: filepath.Join(d.Memory, name)}, nil
}

// Name returns the name of the unit.
func (u *Unit) Name() string { return u.name }

// RecordDir returns the directory of the record, for messages.
func (u *Unit) RecordDir() string { return u.record }

// MemoryDir returns the directory of the memory, for messages.
func (u *Unit) MemoryDir() string { return u.memory }

// Hint is [Dirs.Hint] for this name.
func (u *Unit) Hint(verb string) string {
	return Dirs{Record: filepath.Dir(u.record), Memory: filepath.Dir(u.memory)}.Hint(verb, u.name)
}

// Names returns the names that have a record directory, sorted. None is no error.
func (d Dirs) Names() ([]string, error) {
	entries, err := os.ReadDir(d.Record)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list records: %w%s", err, remedyFor(err))
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// FindMountNS returns the names whose record is of that mount namespace. A record that cannot be read is passed over: it is an error only
// where nothing else was found.
func (d Dirs) FindMountNS(ns uint64) ([]string, error) {
	all, err := d.Names()
	if err != nil {
		return nil, err
	}
	var found []string
	var errs []error
	for _, name := range all {
		u, err := d.Unit(name)
		if err != nil {
			return nil, err
		}
		r, err := u.Load()
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case r.MountNS == ns:
			found = append(found, name)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, errors.Join(errs...)
}

// CheckName returns a [*NameError] for what cannot be the name of a unit or an
// instance: it is made of systemd's unit-name characters, is at most 255 bytes and
// does not begin with a dot. The type suffix that a unit has is not needed.
func CheckName(name string) error {
	switch {
	case name == "":
		return &NameError{Name: name, Why: "empty"}
	case len(name) > maxName:
		return &NameError{Name: name[:32] + "…", Why: fmt.Sprintf("%d bytes long, %d are allowed", len(name), maxName)}
	case name[0] == '.':
		return &NameError{Name: name, Why: "begins with a dot"}
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return &NameError{Name: name, Why: fmt.Sprintf("has the character %q", name[i:i+1])}
		}
	}
	return nil
}

// nameByte is VALID_CHARS_WITH_AT of systemd's src/basic/unit-name.c.
func nameByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		strings.IndexByte(`:-_.\@`, c) >= 0
}
