package integration

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// readFacts reads a unit as extexec does. With a line of ExecStart= that cannot be read, it returns an error
// beside the facts: systemd ignores some such lines and refuses the unit for others.
func readFacts(root fs.FS, name string) (*unitFacts, error) {
	u, err := unitfile.Load(root, name, unitfile.SystemPath())
	if err != nil {
		return nil, err
	}
	set, err := settings.FromUnit(u, settings.HostFacts(root))
	if err != nil {
		return nil, err
	}
	spec := unitfile.Specifiers{Unit: u.Name, Fragment: u.Fragment, Facts: settings.HostFacts(root)}
	f := &unitFacts{
		Fragment: u.Fragment, DropIns: u.DropIns, Names: slices.Sorted(slices.Values(u.Names)),
		Description: description(u, spec), Groups: set.Service.SupplementaryGroups,
		User: set.Service.User, WorkingDirectory: set.Service.WorkingDirectory,
		DynamicUser: set.Service.DynamicUser, NoNewPrivs: set.Service.NoNewPrivileges,
	}
	if set.Service.WorkingDirectoryMissingOK {
		f.WorkingDirectory = "!" + f.WorkingDirectory // as the bus has it
	}
	for _, r := range set.Refs {
		if r.Kind == settings.Image {
			f.Images = append(f.Images, imageFact(r.Path, r.Optional, r.Options))
			continue
		}
		prefix := ""
		if r.Optional {
			prefix = "-"
		}
		f.Directories = append(f.Directories, prefix+r.Path)
	}
	f.Exec, err = execs(u, spec)
	return f.normal(), err
}

// description is the last one whose specifiers can be done; by default it is the name.
func description(u *unitfile.Unit, spec unitfile.Specifiers) string {
	text := ""
	for _, a := range u.All("Unit", "Description") {
		if expanded, err := spec.Expand(a.Value); err == nil {
			text = expanded
		}
	}
	if text == "" {
		return u.Name.String()
	}
	return text
}

// execs are the commands of ExecStart= as ExecStartEx on the bus has them, and what is wrong with others.
func execs(u *unitfile.Unit, spec unitfile.Specifiers) ([][]string, error) {
	var all [][]string
	var errs []error
	for _, a := range u.List("Service", "ExecStart") {
		commands, err := unitfile.ParseExec(a.Value, spec.Expand)
		errs = append(errs, err)
		for _, c := range commands {
			var flags []string
			for prefix, flag := range map[string]string{"-": "ignore-failure", ":": "no-env-expand", "+": "privileged", "!": "no-setuid"} {
				if strings.Contains(c.Prefix, prefix) && !strings.Contains(c.Prefix, "!!") {
					flags = append(flags, flag)
				}
			}
			slices.Sort(flags)
			all = append(all, append([]string{strings.Join(flags, " "), c.Path}, c.Argv...))
		}
	}
	return all, errors.Join(errs...)
}
