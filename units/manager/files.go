package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Active says whether a unit runs, or is on its way there or back; of a template,
// whether an instance of it is. A unit that is not there is not active.
func (m *Manager) Active(ctx context.Context, unit string) (bool, error) {
	if strings.Contains(unit, "@.") {
		found, err := m.Instances(ctx, unit)
		return len(found) > 0, err
	}
	u, err := m.Unit(ctx, unit)
	if errors.Is(err, ErrNotFound) {
		// Of one whose file is gone, the processes may still be there.
		err = nil
	}
	switch u.ActiveState {
	case "active", "activating", "reloading", "refreshing", "deactivating":
		return true, err
	}
	return false, err
}

// Instances are the instances of a template that are active in that sense.
func (m *Manager) Instances(ctx context.Context, template string) (names []string, err error) {
	before, after, _ := strings.Cut(template, "@.")
	states := []string{"active", "activating", "reloading", "refreshing", "deactivating"}
	found, err := m.conn.ListUnitsByPatternsContext(ctx, states, []string{literal(before) + "@*." + literal(after)})
	if err != nil {
		return nil, fmt.Errorf("ask systemd for the instances of %q: %w", template, plain(ctx, err))
	}
	for _, u := range found {
		names = append(names, u.Name)
	}
	return names, nil
}

// literal is text that a pattern of systemd's, fnmatch(3), matches.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// FileState is what systemctl list-unit-files says of a unit file: "enabled",
// "static", and so on; "" where there is none.
func (m *Manager) FileState(ctx context.Context, unit string) (string, error) {
	found, err := m.conn.ListUnitFilesByPatternsContext(ctx, nil, []string{literal(unit)})
	if err != nil {
		return "", fmt.Errorf("ask systemd for the unit file %q: %w", unit, plain(ctx, err))
	}
	for _, f := range found {
		if strings.HasSuffix(f.Path, "/"+unit) {
			return f.Type, nil
		}
	}
	return "", nil
}

// EnableFiles makes the links that the [Install] sections of units ask for; with runtime
// until the next boot.
func (m *Manager) EnableFiles(ctx context.Context, units []string, runtime bool) error {
	if _, _, err := m.conn.EnableUnitFilesContext(ctx, units, runtime, false); err != nil {
		return fmt.Errorf("enable %s: %w", strings.Join(units, ", "), plain(ctx, err))
	}
	return nil
}

// DisableFiles removes all links to the units.
func (m *Manager) DisableFiles(ctx context.Context, units []string, runtime bool) error {
	if _, err := m.conn.DisableUnitFilesContext(ctx, units, runtime); err != nil {
		return fmt.Errorf("disable %s: %w", strings.Join(units, ", "), plain(ctx, err))
	}
	return nil
}

// Clean removes the directories that a stopped unit has for state, cache, logs,
// configuration and at run time, and waits until that is done (systemctl clean
// --what=all). That there are none is no error.
func (m *Manager) Clean(ctx context.Context, unit string) error {
	if err := m.queueClean(ctx, unit); err != nil {
		return fmt.Errorf("clean unit %q: %w", unit, plain(ctx, err))
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := m.Unit(ctx, unit)
		if err != nil {
			return err
		}
		switch {
		case u.ActiveState == "maintenance": // it is being cleaned
		case u.CleanResult != "" && u.CleanResult != "success":
			return fmt.Errorf("clean unit %q: %s: look at systemctl status %s", unit, u.CleanResult, unit)
		default:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("clean unit %q: %w: it goes on", unit, context.Cause(ctx))
		}
	}
}

// queueClean makes the call, which the library does not have, on a connection of its own.
func (m *Manager) queueClean(ctx context.Context, unit string) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.CleanUnit", 0, unit, []string{"all"}).Err
	var e dbus.Error
	if errors.As(err, &e) && (e.Name == "org.freedesktop.systemd1.NothingToClean" || e.Name == "org.freedesktop.DBus.Error.NotSupported") {
		return nil // it has none, or is of a type that has none
	}
	return err
}
