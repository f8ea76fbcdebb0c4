package unitfile

import (
	"fmt"
	"slices"
)

// Unit is a unit file with its drop-ins, merged.
type Unit struct {
	// Name is what the unit goes by: an alias is followed, a template has its
	// instance.
	Name Name
	// Requested is the name or path that was asked for.
	Requested string
	// Names is Name and every alias.
	Names []string
	// Fragment is the path of the unit file.
	Fragment string
	// DropIns are the paths of the drop-ins, in the order in which they apply.
	DropIns []string
	// Assignments are those of the fragment and then of each drop-in, in order,
	// empty ones included.
	Assignments []Assignment
	// Sections are all section headers, with their files.
	Sections []UnitSection
	Warnings []Warning
}

// UnitSection is a section header and the file that has it.
type UnitSection struct {
	File string
	Section
}

// read fills a unit from its fragment and drop-ins.
func (x *index) read(u *Unit) error {
	data, masked, err := x.tree.content(u.Fragment)
	if err != nil {
		return fmt.Errorf("read unit file %q: %w", u.Fragment, err)
	}
	if masked {
		return &MaskedError{Unit: u.Name.full, Path: u.Fragment}
	}
	if err := u.add(u.Fragment, data); err != nil {
		return err
	}
	for _, d := range x.dropIns(u) {
		u.DropIns = append(u.DropIns, d.path)
		// systemd applies what stands before a bad header in a drop-in and
		// forgets the rest; here that would be a setting lost in silence.
		if err := u.add(d.path, d.data); err != nil {
			return err
		}
	}
	u.Warnings = append(u.Warnings, x.warnings...)
	return nil
}

func (u *Unit) add(path string, data []byte) error {
	f, err := Parse(path, data)
	if err != nil {
		return err
	}
	u.Assignments = append(u.Assignments, f.Assignments...)
	u.Warnings = append(u.Warnings, f.Warnings...)
	for _, s := range f.Sections {
		u.Sections = append(u.Sections, UnitSection{File: path, Section: s})
	}
	return nil
}

// All gives every assignment of a setting, empty ones included.
func (u *Unit) All(section, key string) []Assignment {
	var as []Assignment
	for _, a := range u.Assignments {
		if a.Section == section && a.Key == key {
			as = append(as, a)
		}
	}
	return as
}

// List gives the assignments of a setting that adds up: those after the last
// empty one.
func (u *Unit) List(section, key string) []Assignment {
	as := u.All(section, key)
	for i, a := range slices.Backward(as) {
		if a.Value == "" {
			return as[i+1:]
		}
	}
	return as
}

// Last gives the assignment of a setting that replaces; ok is false where there
// is none. Its value may be "", which means the default.
func (u *Unit) Last(section, key string) (a Assignment, ok bool) {
	as := u.All(section, key)
	if len(as) == 0 {
		return Assignment{}, false
	}
	return as[len(as)-1], true
}
