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
	"time"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units"
	"github.com/extexec/extexec/units/lint"
	"github.com/extexec/extexec/units/manager"
)

func newWatch(a *app) *cobra.Command {
	w := &watcher{app: a}
	c := &cobra.Command{
		Use:   "watch --enable|--disable [--dry-run] UNIT",
		Short: "Have systemd reload a unit when new versions of its extensions appear",
		Long: `Watch --enable has systemd watch the directories that the unit's extensions come
from, with the path unit extexec-reload@UNIT.path. When something changes there,
extexec-reload@UNIT.service looks whether a reload would pick other versions, and has
systemd reload the unit if so. After a burst of renames the last version is live.

What is watched is written to /etc/systemd/system/extexec-reload@UNIT.path.d/. The files
of the unit are watched, too: when its extensions change, so does that. The path unit
is started with the unit, and now if the unit runs.

A version appears by rename, or by "extexec install". A directory that is copied into
place is refused until something later than all that is in it says that it is complete.

--disable takes it back.`,
		Example: `  sudo extexec watch --enable nginx
  sudo extexec watch --enable --dry-run nginx
  sudo extexec watch --disable nginx`,
		Args:              oneUnit,
		ValidArgsFunction: completeUnits,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c)
			defer stop()
			return w.run(ctx, args[0])
		},
	}
	f := c.Flags()
	f.BoolVar(&w.enable, "enable", false, "watch")
	f.BoolVar(&w.disable, "disable", false, "do not watch any more")
	f.BoolVar(&w.dryRun, "dry-run", false, "show what would be written, and do nothing")
	f.BoolVar(&w.look, "look", false, "reload the unit if its extensions have new versions: for extexec-reload@.service")
	c.MarkFlagsMutuallyExclusive("enable", "disable", "look")
	c.MarkFlagsOneRequired("enable", "disable", "look")
	return c
}

// A watcher is one call of watch.
type watcher struct {
	app                           *app
	enable, disable, look, dryRun bool
}

func (w *watcher) run(ctx context.Context, name string) error {
	switch {
	case w.disable:
		return w.takeBack(ctx, name)
	case w.enable && w.dryRun:
		_, d, err := watchOf(name)
		if err == nil {
			w.app.log.Info("would write " + d.Path)
			_, err = fmt.Fprint(w.app.out, d.Text)
		}
		return err
	}
	m, err := manager.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if w.look {
		return w.lookAt(ctx, m, name)
	}
	return w.write(ctx, m, name)
}

// watchOf reads a unit and makes the drop-in of its path unit: it watches the
// directories of the extensions, and the unit's own files.
func watchOf(name string) (unitfile.Name, units.DropIn, error) {
	u, err := loadUnit(serviceName(name))
	if err != nil {
		return unitfile.Name{}, units.DropIn{}, err
	}
	_, refs := lintSettings(u)
	var paths []string
	for _, r := range refs {
		paths = append(paths, watched(r))
	}
	if len(paths) > 0 {
		paths = append(paths, filesOf(u)...)
	}
	d, err := units.ForWatch(u.Name, paths)
	if err == nil && !reloadsByUs(u) {
		err = fmt.Errorf("watch unit %q: no ExecReload= of it is \"extexec reload\": run extexec adopt or extexec wrap first", u.Name)
	}
	return u.Name, d, err
}

// filesOf are the places that change when the unit's settings do: its file, where its
// drop-ins are, and where "systemctl edit" puts one, with --runtime or without.
func filesOf(u *unitfile.Unit) []string {
	dropIns := filepath.Dir(units.Path(u.Name.String()))
	paths := []string{u.Fragment, dropIns, strings.Replace(dropIns, "/etc/", "/run/", 1)}
	for _, d := range u.DropIns {
		paths = append(paths, filepath.Dir(d))
	}
	return paths
}

// watched is what changes when a ref comes to mean something else.
func watched(r settings.Ref) string {
	f := vpick.Dir()
	if r.Kind == settings.Image {
		f = vpick.Raw()
	}
	if dir, versioned := vpick.DirOf(r.Path, f); versioned {
		return filepath.Clean(dir)
	}
	return filepath.Clean(r.Path)
}

func reloadsByUs(u *unitfile.Unit) bool {
	lines, err := u.Exec("Service", "ExecReload")
	for _, l := range lines {
		if lint.IsReload(l.ExecCommand) {
			return true
		}
	}
	return err != nil // lint says what is wrong with it
}

// write is the transaction of --enable.
func (w *watcher) write(ctx context.Context, m *manager.Manager, name string) (err error) {
	unit, d, err := watchOf(name)
	if err != nil {
		return err
	}
	if _, err := m.Unit(ctx, d.Unit); errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("watch unit %q: systemd does not know extexec-reload@.path: install the units of extexec (make install, or its package)", unit)
	}
	run := &steps.Run{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("watch unit %q: %w", unit, err), run.Undo(ctx))
		}
	}()
	if _, err := steps.Do(ctx, run, "drop-in", dropInStep(m, d)); err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "enable", enableStep(m, d.Unit)); err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "daemon-reload", steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.DaemonReload(ctx)
	}}); err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "start", startStep(m, unit.String(), d.Unit)); err != nil {
		return err
	}
	w.app.log.Info("written, and read by systemd: " + d.Path)
	_, err = fmt.Fprint(w.app.out, d.Text)
	return err
}

// dropInStep changes the file, and has systemd read it.
func dropInStep(m *manager.Manager, d units.DropIn) steps.Step[[]byte] {
	c := change{unit: d.Unit, path: d.Path, text: []byte(d.Text)}
	return steps.Step[[]byte]{
		Do: func(ctx context.Context) ([]byte, error) {
			old, err := os.ReadFile(d.Path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if _, ours := units.Owner(string(old)); old != nil && !ours {
				return nil, fmt.Errorf("%q was not written by extexec: rename it, or take it away", d.Path)
			}
			return old, c.apply(ctx, m)
		},
		Undo: func(ctx context.Context, old []byte) error { return errors.Join(put(d.Path, old), m.DaemonReload(ctx)) },
	}
}

func enableStep(m *manager.Manager, path string) steps.Step[bool] {
	return steps.Step[bool]{
		Do: func(ctx context.Context) (bool, error) { return m.Enable(ctx, path) },
		Undo: func(ctx context.Context, changed bool) error {
			if !changed {
				return nil
			}
			return m.Disable(ctx, path) // the inverse of the drop-in has systemd read it
		},
	}
}

// startStep starts the path unit, or has it watch what the drop-in says now, where
// the service runs: otherwise it starts with that.
func startStep(m *manager.Manager, unit, path string) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		u, err := m.Unit(ctx, unit)
		if err == nil && u.ActiveState != "inactive" && u.ActiveState != "failed" {
			err = m.Restart(ctx, path)
		}
		return struct{}{}, err
	}}
}

// takeBack is --disable. The unit may have changed, or be gone.
func (w *watcher) takeBack(ctx context.Context, name string) error {
	unit, err := unitfile.ParseName(serviceName(name))
	if err != nil {
		return err
	}
	if u, err := loadUnit(unit.String()); err == nil {
		unit = u.Name // an alias was given
	}
	path := units.PathUnit(unit)
	c := change{unit: path, path: units.Path(path)}
	text, err := os.ReadFile(c.path)
	if kind, _ := units.Owner(string(text)); err == nil && kind != units.Watch {
		return fmt.Errorf("stop watching unit %q: %q was not written by extexec watch", unit, c.path)
	}
	if w.dryRun {
		w.app.log.Info("would stop and disable " + path + ", and remove " + c.path)
		return nil
	}
	m, err := manager.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := m.Unit(ctx, path); err == nil {
		// A look that is under way might write the file again. Without the path unit there
		// is no further one.
		for _, u := range []string{path, units.TriggerUnit(unit), units.LookUnit(unit)} {
			if err := m.Stop(ctx, u); err != nil {
				return err
			}
		}
		if err := m.Disable(ctx, path); err != nil {
			return err
		}
	}
	if err := c.apply(ctx, m); err != nil {
		return fmt.Errorf("stop watching unit %q: %w", unit, err)
	}
	w.app.log.Info("not watched any more: " + unit.String())
	return nil
}

// lookAt is what extexec-reload@.service does: it keeps what is watched true, and has
// systemd reload the unit where a reload would pick something else.
func (w *watcher) lookAt(ctx context.Context, m *manager.Manager, name string) error {
	unit, err := unitfile.ParseName(serviceName(name))
	if err != nil {
		return err
	}
	if err := w.keep(ctx, m, unit); err != nil {
		w.app.log.Warn(fmt.Sprintf("what is watched is as before: %v", err))
	}
	if err := armed(ctx, m, unit); err != nil {
		return err
	}
	active, err := m.ActiveState(ctx, unit.String())
	if err != nil || active != "active" && active != "reloading" {
		return err // what does not run is not reloaded: its start picks
	}
	changed, err := somethingNew(ctx, unit.String())
	if err != nil || !changed {
		return err
	}
	return m.Reload(ctx, unit.String())
}

// keep writes the drop-in again where the unit's extensions come from other places
// than it says.
func (w *watcher) keep(ctx context.Context, m *manager.Manager, unit unitfile.Name) error {
	path := units.PathUnit(unit)
	old, err := os.ReadFile(units.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was not watch that had it watched
	}
	if err != nil {
		return err
	}
	_, d, err := watchOf(unit.String())
	if err != nil || d.Text == string(old) {
		return err
	}
	run := &steps.Run{}
	if _, err := steps.Do(ctx, run, "drop-in", dropInStep(m, d)); err != nil {
		return err
	}
	w.app.log.Info("the extensions come from other places now: rewritten: " + d.Path)
	return m.TryRestart(ctx, path)
}

// armed waits until the path unit watches again, or has seen something since, after
// which there is another look. What appears later is not for this one.
func armed(ctx context.Context, m *manager.Manager, unit unitfile.Name) error {
	const pause = 2 * time.Millisecond
	for {
		path, err := m.Unit(ctx, units.PathUnit(unit))
		if errors.Is(err, manager.ErrNotFound) || err == nil && path.SubState != "running" {
			return nil // it watches, or is not there to
		}
		if err != nil {
			return err
		}
		trigger, err := m.Unit(ctx, units.TriggerUnit(unit))
		if err != nil || trigger.Queued || trigger.ActiveState == "activating" {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle is how long a directory must stay as it is, where its times do not say that
// it is complete.
const settle = 200 * time.Millisecond

// somethingNew says whether there is something to reload. An error names a version
// that is not complete.
func somethingNew(ctx context.Context, unit string) (bool, error) {
	o := reload.Options{Name: unit, Dirs: state.DefaultDirs(), Manager: bus{}, Limits: nsmount.Limits{}}
	l, err := reload.Look(ctx, o)
	if err != nil || l.Same {
		return false, err
	}
	if len(l.Fresh) > 0 && !slices.ContainsFunc(l.Fresh, func(p *extension.Picked) bool { return !failedBefore(p) }) {
		return false, nil
	}
	sure, err := arrived(l.Fresh)
	if err != nil || sure {
		return err == nil, err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	again, err := reload.Look(ctx, o)
	if err != nil || again.Same {
		return false, err
	}
	for _, p := range again.Fresh {
		for _, q := range l.Fresh {
			if p.Path == q.Path && p.Identity != q.Identity {
				return false, fmt.Errorf("%q is being written to: rename it into place when it is complete", p.Path)
			}
		}
	}
	_, err = arrived(again.Fresh)
	return err == nil, err
}

// failedBefore says that the name counts a try, of a version that is not live. The
// rename that counted it has triggered this look: a try for each look would leave
// none.
func failedBefore(p *extension.Picked) bool {
	return slices.ContainsFunc(p.Candidates, func(c extension.Candidate) bool {
		return c.Why == "" && c.TriesDone > 0 && c.TriesDone != vpick.Unlimited
	})
}

func arrived(fresh []*extension.Picked) (sure bool, err error) {
	sure = true
	for _, p := range fresh {
		one, err := extension.Arrived(p)
		if err != nil {
			return false, err
		}
		sure = sure && one
	}
	return sure, nil
}
