package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/internal/pathtrust"
	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units/lint"
	"github.com/extexec/extexec/units/manager"
)

// loadUnit reads a unit: a name, where ".service" may be left out, or with a slash in
// it the path of a unit file.
func loadUnit(name string) (*unitfile.Unit, error) {
	if strings.Contains(name, "/") {
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, fmt.Errorf("find unit file %q: %w", name, err)
		}
		return unitfile.LoadFile(os.DirFS("/"), abs)
	}
	return unitfile.Load(os.DirFS("/"), serviceName(name), unitfile.SystemPath())
}

// orPath adds, for a verb that takes one, that the path of a unit file will do too.
func orPath(err error) error {
	var missing *unitfile.NotFoundError
	if errors.As(err, &missing) && missing.Path == "" {
		return fmt.Errorf("%w; a path with a slash in it names a unit file", err)
	}
	return err
}

// serviceName adds the ".service" that may be left out.
func serviceName(name string) string {
	if _, err := unitfile.ParseName(name); err != nil {
		return name + ".service"
	}
	return name
}

// oneUnit is the rule for verbs that take the name of one service.
func oneUnit(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s wants one UNIT, and got %d arguments", c.Name(), len(args))
	}
	n, err := unitfile.ParseName(serviceName(args[0]))
	if err != nil {
		return err
	}
	if n.Type() != "service" {
		return fmt.Errorf("%s wants a service, and %q is none", c.Name(), args[0])
	}
	return nil
}

// completeUnits completes the first argument with the services that have unit files.
func completeUnits(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	seen := map[string]bool{}
	var names []string
	for _, dir := range unitfile.SystemPath() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most of them are not there
		}
		for _, e := range entries {
			n, err := unitfile.ParseName(e.Name())
			if err == nil && n.Type() == "service" && !n.IsTemplate() && !seen[e.Name()] {
				seen[e.Name()] = true
				names = append(names, e.Name())
			}
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// systemdVersion asks the systemd that runs, unless the flag says which is meant.
func systemdVersion(ctx context.Context, given int) (int, error) {
	if given > 0 {
		return given, nil
	}
	if given < 0 {
		return 0, &exitError{code: exitUsage, err: fmt.Errorf("--systemd-version=%d is no version of systemd: 262 is one", given)}
	}
	m, err := manager.Connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("%w, or --dry-run with --systemd-version", err)
	}
	defer m.Close()
	return m.Version(ctx)
}

// gather finds out what lint wants to know of the host.
func gather(u *unitfile.Unit, s settings.Settings, refs []settings.Ref, systemd int) lint.Facts {
	f := lint.Facts{Systemd: systemd, Specifiers: settings.HostFacts(os.DirFS("/")), Sources: map[string]lint.Source{}, Missing: map[string]bool{}}
	for _, r := range refs {
		f.Sources[r.Path] = source(r, s)
	}
	for _, p := range lint.Paths(u, s) {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			f.Missing[p] = true
		}
	}
	return f
}

// source looks at one extension as a start would. Without root nothing can be
// mounted, so of a directory the release files alone are looked at then.
func source(r settings.Ref, s settings.Settings) lint.Source {
	picked, err := extension.Pick(r, extension.PickOptions{})
	switch {
	case errors.Is(err, vpick.ErrNoMatch) || errors.Is(err, fs.ErrNotExist):
		return lint.Source{Missing: true, Why: err.Error()}
	case err != nil:
		return lint.Source{Why: err.Error()}
	case picked == nil:
		return lint.Source{Missing: true, Why: fmt.Sprintf("nothing is at %q", r.Path)}
	}
	var src lint.Source
	if err := pathtrust.Check(picked.Path); err != nil {
		src.Untrusted = err.Error()
	}
	classes, err := classesOf(picked, s)
	if err != nil {
		src.Why = err.Error()
	}
	for _, c := range classes {
		src.Classes = append(src.Classes, c.String())
	}
	return src
}

// classesOf opens what was picked, matches it against the root of the service, and
// gives its classes; nil where they cannot be known here.
func classesOf(picked *extension.Picked, s settings.Settings) (classes []release.Class, err error) {
	if os.Geteuid() != 0 || s.Service.RootImage != "" {
		return releaseClasses(picked)
	}
	root, err := os.Open(filepath.Join("/", s.Service.RootDirectory))
	if err != nil {
		return nil, fmt.Errorf("look at the root of the service: %w", err)
	}
	defer root.Close()
	host, err := release.ReadOS(root)
	if err != nil {
		return nil, err
	}
	opened, err := extension.Open(context.Background(), picked, extension.OpenOptions{
		OS: host, Policy: s.Policy, RequireSignature: s.RequireSignature, VerifiedCopyMax: s.VerifiedCopyMax,
	})
	if err != nil {
		return nil, err
	}
	return opened.Classes, opened.Close()
}

func releaseClasses(picked *extension.Picked) (classes []release.Class, err error) {
	if picked.Kind != settings.Directory {
		return nil, nil
	}
	dir, err := os.Open(picked.Path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	found, err := release.FindAll(dir, picked.Name, picked.Ref.Relax)
	for _, r := range found {
		classes = append(classes, r.Class)
	}
	return classes, err
}
