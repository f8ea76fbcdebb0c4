package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
	"github.com/spf13/cobra"
)

// A listed is one row of list, and one element of its JSON.
type listed struct {
	Name       string           `json:"name"`
	Unit       string           `json:"unit,omitempty"`
	State      status.State     `json:"state"`
	PID        int              `json:"pid,omitempty"`
	Generation state.Generation `json:"generation"`
	Pending    bool             `json:"pending,omitempty"` // a reload is at work, or was interrupted
	// Error is why nothing else is known: the record cannot be read.
	Error string `json:"error,omitempty"`
}

func newList(a *app) *cobra.Command {
	var dir stateDir
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [flags]",
		Short: "List the services that have extensions of ours",
		Long: `List shows every name that "extexec run" or "extexec reload" has a record of since
the machine was started, and the generation that was last committed for it.`,
		Example: `  extexec list
  extexec list --json | jq -r '.units[].name'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dirs, err := dir.dirs()
			if err != nil {
				return err
			}
			all, err := list(dirs)
			if asJSON {
				return errors.Join(err, a.writeJSON(map[string]any{"schema": status.Schema, "units": all}))
			}
			if err != nil && len(all) == 0 {
				return err // that there is none would be a guess
			}
			return errors.Join(err, writeList(a, all))
		},
	}
	dir.flag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// list looks at every record. One that cannot be read is listed, and is part of the
// error, too.
func list(dirs state.Dirs) ([]listed, error) {
	names, err := dirs.Names()
	if err != nil {
		return nil, err
	}
	all := []listed{}
	var errs []error
	for _, name := range names {
		u, err := dirs.Unit(name)
		if err != nil {
			return nil, err
		}
		r, err := u.Load()
		if errors.Is(err, fs.ErrNotExist) {
			continue // locked once, and never started
		}
		if err != nil {
			errs = append(errs, err)
			all = append(all, listed{Name: name, State: status.Unknown, Error: err.Error()})
			continue
		}
		l := listed{Name: name, Unit: r.Unit, Generation: r.Current, Pending: r.Pending != nil}
		l.State, l.PID, _ = status.Alive(r)
		all = append(all, l)
	}
	return all, errors.Join(errs...)
}

func writeList(a *app, all []listed) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(a.out, "Nothing has extensions of ours.")
		return err
	}
	var t table
	t.add("NAME", "STATE", "PID", "GENERATION", "SINCE", "EXTENSIONS")
	for _, l := range all {
		if l.Error != "" {
			t.add(l.Name, string(l.State), "", "", "", "its record cannot be read")
			continue
		}
		t.add(l.Name, string(l.State), number(l.PID), generation(l), when(l.Generation.Time), extensions(l.Generation))
	}
	return t.write(a.out)
}

func generation(l listed) string {
	s := fmt.Sprint(l.Generation.Number)
	if l.Pending {
		s += " (another pending)"
	}
	return s
}

// extensions are the names of a generation, with their versions.
func extensions(g state.Generation) string {
	var all []string
	for _, e := range g.Extensions {
		all = append(all, nameAndVersion(&e))
	}
	return strings.Join(all, ", ")
}

// nameAndVersion says the version once: the name of an entry in a .v/ directory has
// it too.
func nameAndVersion(e *state.Extension) string {
	if e.Version == "" {
		return e.Name
	}
	name, _, _ := strings.Cut(e.Name, "_"+e.Version)
	return name + " " + e.Version
}

// number is a number in a table, nothing for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
