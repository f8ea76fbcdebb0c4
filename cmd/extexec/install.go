package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/vdir"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/internal/pathtrust"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units/manager"
)

func newInstall(a *app) *cobra.Command {
	i := &installer{app: a}
	c := &cobra.Command{
		Use:   "install [flags] FILE|DIR UNIT",
		Short: "Put a new version of an extension into place, and reload the unit",
		Long: `Install copies an extension into the ".v/" directory of the unit that has versions of
it: aside first, under a name that nobody picks, with what belongs to it by its name
(hash tree, root hash, signature). The copy is written to the disk, opened, and matched
against the unit: release file, class, image policy. Then it is renamed into place, and
the unit is reloaded where it runs.

The name says which directory it is for, and which version it is: web_2.raw, or a
directory web_2, goes to web.v/. What is there is never written over.

When anything fails, the reload included, nothing is left of it, and the old state is
live.`,
		Example: `  sudo extexec install web_2.raw web
  sudo extexec install --no-reload build/nginx_7 nginx.service`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("install wants FILE or DIR and UNIT, and got %d arguments", len(args))
			}
			return oneUnit(c, args[1:])
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c)
			defer stop()
			return i.install(ctx, filepath.Clean(args[0]), args[1])
		},
	}
	c.Flags().BoolVar(&i.noReload, "no-reload", false, "do not reload the unit")
	return c
}

// An installer is one call of install.
type installer struct {
	app      *app
	noReload bool
	hook     func(point string) error // for tests, see steps.Run

	unit     string
	settings settings.Settings
	ref      settings.Ref
	reloads  bool // that the unit's reload is ours
}

// install is the transaction. When it fails, nothing is left of it.
func (i *installer) install(ctx context.Context, source, unit string) (err error) {
	into, err := i.place(source, unit)
	if err != nil {
		return err
	}
	run := &steps.Run{Hook: i.hook}
	var part *vdir.Part
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("install %q: %w", source, err), run.Undo(ctx))
		}
		if part != nil {
			part.Close()
		}
	}()
	part, err = steps.Do(ctx, run, "copy", i.copy(source, into))
	if err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "verify", i.verify(part)); err != nil {
		return err
	}
	path, err := steps.Do(ctx, run, "rename", steps.Step[string]{Do: func(context.Context) (string, error) { return part.Move() }})
	if err != nil {
		return err
	}
	if best, err := extension.Pick(i.ref, extension.PickOptions{}); err == nil && best.Path != path {
		i.app.log.Warn(fmt.Sprintf("%q comes before it: a reload picks that", best.Path))
	}
	if !i.noReload {
		if !i.reloads {
			i.app.log.Warn(fmt.Sprintf("no ExecReload= of %s is \"extexec reload\": it may have the version after a restart only: see extexec adopt and extexec wrap", i.unit))
		}
		if _, err := steps.Do(ctx, run, "reload", i.reload()); err != nil {
			return err
		}
	}
	i.app.log.Info("installed: " + path)
	return nil
}

// place finds the versioned directory that a version is for, by its name.
func (i *installer) place(source, unit string) (into string, err error) {
	u, err := loadUnit(serviceName(unit))
	if err != nil {
		return "", err
	}
	i.unit = u.Name.String()
	var refs []settings.Ref
	i.settings, refs = lintSettings(u)
	i.reloads = reloadsByUs(u)
	st, err := os.Stat(source)
	if err != nil {
		return "", notThere("install", source, err)
	}
	kind, what, filter := settings.Image, "an image", vpick.Raw()
	if st.IsDir() {
		kind, what, filter = settings.Directory, "a directory", vpick.Dir()
	}
	name := filepath.Base(source)
	var places []string
	for _, r := range refs {
		c, fits := vpick.Entry(r.Path, filter, name)
		if r.Kind != kind || !fits {
			continue
		}
		if c.Why != "" {
			return "", fmt.Errorf("install %q: %q would not be picked in %q: it %s", source, name, r.Path, c.Why)
		}
		into, _ = vpick.DirOf(r.Path, filter)
		into, i.ref = filepath.Clean(into), r
		places = append(places, into)
	}
	slices.Sort(places)
	switch len(slices.Compact(places)) {
	case 0:
		return "", fmt.Errorf("install %q: unit %q has no \".v\" directory for %s with this name: NAME_VERSION%s goes to NAME.v", source, i.unit, what, filter.Suffix)
	case 1:
		if err := pathtrust.Check(into); err != nil {
			return "", fmt.Errorf("install %q: %w", source, err)
		}
		return into, nil
	}
	return "", fmt.Errorf("install %q: unit %q has several places for it (%s): rename it into the one that is meant", source, i.unit, strings.Join(slices.Compact(places), " "))
}

// copy copies aside. The inverse removes the version wherever it is by then.
func (i *installer) copy(source, into string) steps.Step[*vdir.Part] {
	return steps.Step[*vdir.Part]{
		Do: func(ctx context.Context) (*vdir.Part, error) {
			if err := vdir.Sweep(into); err != nil {
				return nil, err
			}
			path := filepath.Join(into, filepath.Base(source))
			if _, err := os.Lstat(path); err == nil {
				return nil, fmt.Errorf("%q is there already: give the new version another name", path)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			return i.whole(ctx, source, into)
		},
		Undo: func(_ context.Context, p *vdir.Part) error {
			if p.Moved() && live(state.DefaultDirs(), i.unit, filepath.Join(into, filepath.Base(source))) {
				return fmt.Errorf("%q stays: the service may have it: see \"extexec status %s\"", filepath.Join(into, filepath.Base(source)), i.unit)
			}
			return p.Remove()
		},
	}
}

// whole copies what nobody changes meanwhile.
func (i *installer) whole(ctx context.Context, source, into string) (*vdir.Part, error) {
	abs, err := filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	ref := settings.Ref{Kind: i.ref.Kind, Path: abs}
	before, err := extension.Pick(ref, extension.PickOptions{Given: true})
	if err != nil {
		return nil, err
	}
	var beside []string
	if ref.Kind == settings.Image {
		if err := extension.Complete(abs); err != nil {
			return nil, err
		}
		if beside, err = extension.Beside(abs); err != nil {
			return nil, err
		}
	}
	part, err := vdir.Copy(ctx, abs, into, beside)
	if err != nil {
		return nil, err
	}
	after, err := extension.Pick(ref, extension.PickOptions{Given: true})
	if err == nil && after.Identity != before.Identity {
		if err = errors.Join(before.Unread, after.Unread); err == nil {
			err = errors.New("it changed while it was copied: try again when it is complete")
		}
	}
	if err != nil {
		return nil, errors.Join(err, part.Remove())
	}
	return part, nil
}

// live says whether a path may be in what is recorded of a unit as live or begun: it may
// where that cannot be read.
func live(dirs state.Dirs, unit, path string) bool {
	u, err := dirs.Unit(unit)
	if err != nil {
		return true
	}
	r, err := u.Load()
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	has := func(g state.Generation) bool {
		return slices.ContainsFunc(g.Extensions, func(e state.Extension) bool { return e.Path == path })
	}
	return has(r.Current) || r.Pending != nil && has(*r.Pending)
}

// verify opens the copy, as a start or a reload of the unit would.
func (i *installer) verify(p *vdir.Part) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(context.Context) (struct{}, error) {
		var other *pathtrust.Error
		if err := pathtrust.Check(p.Path()); errors.As(err, &other) { // owner and mode are copied, too
			return struct{}{}, fmt.Errorf("it %s, and no start would take it: chown it to root and chmod go-w it", other.Why)
		} else if err != nil {
			return struct{}{}, err
		}
		ref := i.ref
		ref.Path, ref.Optional = p.Path(), false
		picked, err := extension.Pick(ref, extension.PickOptions{Given: true})
		if err != nil {
			return struct{}{}, err
		}
		classes, err := classesOf(picked, i.settings)
		if err != nil {
			return struct{}{}, err
		}
		gives := func(h string) bool { return slices.Contains(classes, extension.ClassOf(h)) }
		if len(classes) > 0 && !slices.ContainsFunc(i.settings.Hierarchies, gives) {
			return struct{}{}, fmt.Errorf("it is a %s, and the unit has extensions on %s alone", classes[0], strings.Join(i.settings.Hierarchies, " "))
		}
		return struct{}{}, nil
	}}
}

// reload reloads the unit, where it runs. An interruption comes too late for it.
func (i *installer) reload() steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		ctx = context.WithoutCancel(ctx)
		m, err := manager.Connect(ctx)
		if err != nil {
			return struct{}{}, err
		}
		defer m.Close()
		u, err := m.Unit(ctx, i.unit)
		switch {
		case err != nil:
			return struct{}{}, err
		case u.ActiveState != "active" && u.ActiveState != "reloading":
			i.app.log.Info(fmt.Sprintf("%s is %s: its next start picks the version", i.unit, u.ActiveState))
			return struct{}{}, nil
		}
		before := lastGeneration(i.unit)
		err = m.Reload(ctx, i.unit)
		if now := lastGeneration(i.unit); err != nil && now.Number > before.Number && !now.Committed() {
			err = fmt.Errorf("reload unit %q: %s: %s", i.unit, now.Outcome, now.Why)
		}
		return struct{}{}, err
	}}
}

// lastGeneration is the last one of a unit's history, whatever has become of it; the
// zero one where there is none.
func lastGeneration(unit string) state.Generation {
	u, err := state.DefaultDirs().Unit(unit)
	if err != nil {
		return state.Generation{}
	}
	h, err := u.History()
	if err != nil || len(h) == 0 {
		return state.Generation{}
	}
	return h[len(h)-1]
}
