package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units"
	"github.com/extexec/extexec/units/lint"
	"github.com/extexec/extexec/units/manager"
)

// A dropInVerb is a verb that writes the drop-in of a unit.
type dropInVerb struct {
	app  *app
	kind units.Kind
	make func(units.Input) (units.DropIn, error)

	dryRun, undo        bool
	images, directories []string
	systemd             int
}

// command adds what both verbs have.
func (v *dropInVerb) command(c *cobra.Command) *cobra.Command {
	c.Args = oneUnit
	c.ValidArgsFunction = completeUnits
	f := c.Flags()
	f.BoolVar(&v.dryRun, "dry-run", false, "show what would be done, and do nothing")
	f.BoolVar(&v.undo, "undo", false, "take back what this verb wrote")
	f.StringArrayVar(&v.directories, "extension-directory", nil, "add the extension in directory `PATH`; the last one given wins")
	f.StringArrayVar(&v.images, "extension-image", nil, "the same for the extension in image `PATH`; images lie below directories")
	systemdFlag(c, &v.systemd)
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		switch {
		case v.undo && len(v.images)+len(v.directories) > 0:
			return &exitError{code: exitUsage, err: errors.New("--undo takes no extensions")}
		case c.Flags().Changed("systemd-version") && !v.dryRun:
			return &exitError{code: exitUsage, err: errors.New("--systemd-version is for --dry-run")}
		case v.undo:
			return v.takeBack(ctx, args[0])
		}
		return v.write(ctx, args[0])
	}
	return c
}

// write makes the drop-in, shows it, and installs it.
func (v *dropInVerb) write(ctx context.Context, name string) error {
	for _, list := range [][]string{v.images, v.directories} {
		if err := absolute(list); err != nil {
			return err
		}
	}
	u, err := loadUnit(serviceName(name))
	if err != nil {
		return err
	}
	path := units.Path(u.Name.String())
	if err := v.mayReplace(path); err != nil {
		return err
	}
	in, err := v.input(ctx, u, path)
	if err != nil {
		return err
	}
	d, err := v.make(in)
	if err != nil {
		return err
	}
	if !v.dryRun {
		if _, err := os.Stat(units.Program); err != nil {
			return fmt.Errorf("%s unit %q: the unit will call %s: %w: install extexec there first", v.kind, d.Unit, units.Program, err)
		}
		if err := v.install(ctx, change{unit: d.Unit, path: d.Path, text: []byte(d.Text)}); err != nil {
			return err
		}
	}
	v.show(d)
	return nil
}

// mayReplace refuses to touch a file that is not ours.
func (v *dropInVerb) mayReplace(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", v.kind, err)
	}
	if _, ours := units.Owner(string(text)); !ours {
		return fmt.Errorf("%s: %q was not written by extexec: rename it, or take it away", v.kind, path)
	}
	return nil
}

// input gathers what the drop-in is made from. Extensions that an earlier drop-in of
// ours added stay, unless new ones are given.
func (v *dropInVerb) input(ctx context.Context, u *unitfile.Unit, path string) (units.Input, error) {
	version, err := systemdVersion(ctx, v.systemd)
	if err != nil {
		return units.Input{}, err
	}
	in := units.Input{Unit: u.Without(path), Images: v.images, Directories: v.directories}
	before, _ := lintSettings(u)
	base, refs := lintSettings(in.Unit)
	if len(v.images)+len(v.directories) == 0 {
		for _, r := range before.Refs {
			if r.File == path && !contains(base.Refs, r) {
				list := &in.Directories
				if r.Kind == settings.Image {
					list = &in.Images
				}
				*list = append(*list, r.String())
			}
		}
	}
	with, err := settings.Settings{}.WithFlags(in.Images, in.Directories, nil)
	if err != nil {
		return units.Input{}, err
	}
	in.Facts = gather(in.Unit, base, append(refs, with.Refs...), version)
	return in, nil
}

// lintSettings are the settings as far as they can be read, and their refs.
func lintSettings(u *unitfile.Unit) (settings.Settings, []settings.Ref) {
	s, _ := lint.Load(u, settings.HostFacts(os.DirFS("/")))
	return s, s.Refs
}

func contains(refs []settings.Ref, r settings.Ref) bool {
	for _, o := range refs {
		if o.Equal(r) {
			return true
		}
	}
	return false
}

// show says what the unit is now, or would be: the text on standard output, the rest
// beside it.
func (v *dropInVerb) show(d units.DropIn) {
	done := "written, and read by systemd: "
	if v.dryRun {
		done = "would write "
	}
	v.app.log.Info(done + d.Path)
	fmt.Fprint(v.app.out, d.Text)
	for _, f := range d.Report.Findings {
		if f.Severity != lint.Note {
			v.app.log.Warn(f.String())
		}
	}
	for _, n := range d.Notes {
		v.app.log.Info(n)
	}
}

// takeBack removes the drop-in. The unit may have changed, or be gone.
func (v *dropInVerb) takeBack(ctx context.Context, name string) error {
	unit := serviceName(name)
	if u, err := loadUnit(unit); err == nil {
		unit = u.Name.String() // an alias was given
	} else if _, err := unitfile.ParseName(unit); err != nil {
		return err
	}
	path := units.Path(unit)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		v.app.log.Info("nothing to undo: there is no " + path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("undo %s of unit %q: %w", v.kind, unit, err)
	}
	switch kind, ours := units.Owner(string(text)); {
	case !ours:
		return fmt.Errorf("undo %s of unit %q: %q was not written by extexec", v.kind, unit, path)
	case kind != v.kind:
		return fmt.Errorf("undo %s of unit %q: %q was written by another verb: extexec %s --undo %s", v.kind, unit, path, kind, unit)
	}
	if v.dryRun {
		v.app.log.Info("would remove " + path)
		return nil
	}
	if err := v.install(ctx, change{unit: unit, path: path}); err != nil {
		return err
	}
	v.app.log.Info("removed, and systemd knows: " + path)
	v.app.log.Info("a service that runs is as it was started until it is restarted")
	return nil
}

// install makes a change known to systemd, or leaves all as it was.
func (v *dropInVerb) install(ctx context.Context, c change) error {
	m, err := manager.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := c.apply(ctx, m); err != nil {
		return fmt.Errorf("%s unit %q: %w", v.kind, c.unit, err)
	}
	return nil
}
