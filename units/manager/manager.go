package manager

import (
	"context"
	"errors"
	"fmt"
	"os"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// ErrNoManager says that no systemd answers here.
var ErrNoManager = errors.New("no systemd answers on D-Bus")

// ErrNotFound says that systemd knows no unit of that name.
var ErrNotFound = errors.New("there is no such unit")

// A Manager is a connection to systemd's system manager.
type Manager struct {
	conn *systemd.Conn
	stop context.CancelFunc
}

// Connect connects by the system bus, and as root without one by systemd's own
// socket: before the bus is up, and in an initrd. The context is for connecting
// alone. The caller closes the Manager.
func Connect(ctx context.Context) (*Manager, error) {
	// The library ties a connection to the context that it was made with; ours
	// ends with Close, or with ctx while we are still connecting.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	tied := context.AfterFunc(ctx, stop)
	conn, err := systemd.NewWithContext(life)
	if !tied() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		stop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to systemd: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("connect to systemd: %w: %w%s", ErrNoManager, err, hint())
	}
	return &Manager{conn: conn, stop: stop}, nil
}

// hint says what it takes.
func hint() string {
	if os.Geteuid() == 0 {
		return ": this needs a systemd that runs"
	}
	return ": try it as root"
}

// Close ends the connection.
func (m *Manager) Close() {
	m.stop()
	m.conn.Close()
}

// A Unit is what systemd says of a unit now.
type Unit struct {
	Name         string   // without aliases: web.service, not httpd.service
	LoadState    string   // loaded, masked, bad-setting, error
	ActiveState  string   // active, reloading, inactive, failed, activating, …
	SubState     string   // running, exited, dead, …
	FragmentPath string   // the unit file; "" for a generated one
	DropIns      []string // in the order in which they apply
	NeedReload   bool     // the files have changed since systemd read them

	CleanResult string // how the last clean ended, "success" also where there was none

	Queued  bool   // a job of it waits or runs
	MainPID int    // 0 when there is none; services alone have one
	Cgroup  string // "" when the unit has none now
}

// Unit asks for a unit, which systemd loads if it has to. The error wraps
// [ErrNotFound] when there is none.
func (m *Manager) Unit(ctx context.Context, name string) (Unit, error) {
	p, err := m.conn.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, fmt.Errorf("ask systemd for unit %q: %w", name, plain(ctx, err))
	}
	u := Unit{
		Name:         text(p, "Id"),
		LoadState:    text(p, "LoadState"),
		ActiveState:  text(p, "ActiveState"),
		SubState:     text(p, "SubState"),
		FragmentPath: text(p, "FragmentPath"),
		Cgroup:       text(p, "ControlGroup"),
		CleanResult:  text(p, "CleanResult"),
	}
	// A property that this systemd does not have, or of another type, is as if
	// it were empty.
	u.DropIns, _ = p["DropInPaths"].([]string)
	u.NeedReload, _ = p["NeedDaemonReload"].(bool)
	job, _ := p["Job"].([]any) // its number, which is 0 where there is none, and its path
	u.Queued = len(job) == 2 && job[0] != uint32(0)
	pid, _ := p["MainPID"].(uint32)
	u.MainPID = int(pid)
	if u.LoadState == "not-found" {
		return u, fmt.Errorf("ask systemd for unit %q: %w: look at systemctl list-units --all", name, ErrNotFound)
	}
	return u, nil
}

func text(properties map[string]any, name string) string {
	s, _ := properties[name].(string)
	return s
}

// MainPID is the process id of a service's main process, as systemd's own pid
// namespace has it; 0 when there is none.
func (m *Manager) MainPID(ctx context.Context, unit string) (int, error) {
	u, err := m.Unit(ctx, unit)
	return u.MainPID, err
}

// ControlGroup is the path of the unit's cgroup, "" when it has none now.
func (m *Manager) ControlGroup(ctx context.Context, unit string) (string, error) {
	u, err := m.Unit(ctx, unit)
	return u.Cgroup, err
}

// UnitOf is the name of the unit that a process belongs to.
func (m *Manager) UnitOf(ctx context.Context, pid int) (string, error) {
	if pid <= 0 {
		return "", fmt.Errorf("ask systemd for the unit of process %d: not a process id", pid)
	}
	name, err := m.conn.GetUnitNameByPID(ctx, uint32(pid))
	if err != nil {
		return "", fmt.Errorf("ask systemd for the unit of process %d: %w", pid, plain(ctx, err))
	}
	return name, nil
}

// ActiveState is the state of a unit alone; "inactive" where there is none of that name.
// For all that [Manager.Unit] gives systemd reads a service's cgroup, which takes it
// some milliseconds.
func (m *Manager) ActiveState(ctx context.Context, name string) (string, error) {
	p, err := m.conn.GetUnitPropertyContext(ctx, name, "ActiveState")
	if err != nil {
		return "", fmt.Errorf("ask systemd for the state of unit %q: %w", name, plain(ctx, err))
	}
	state, _ := p.Value.Value().(string)
	return state, nil
}

// Ordering are the units that a unit comes after, and those that it comes before
// (systemd.unit(5), After=). Of a unit that systemd has not loaded it is what that unit
// says itself: what others say of it counts once they are loaded.
func (m *Manager) Ordering(ctx context.Context, name string) (after, before []string, err error) {
	for property, list := range map[string]*[]string{"After": &after, "Before": &before} {
		p, err := m.conn.GetUnitPropertyContext(ctx, name, property)
		if err != nil {
			return nil, nil, fmt.Errorf("ask systemd for %s= of unit %q: %w", property, name, plain(ctx, err))
		}
		*list, _ = p.Value.Value().([]string)
	}
	return after, before, nil
}

// plain takes the names of D-Bus errors that a caller may act on, and the cause of the
// context's end, such as a signal.
func plain(ctx context.Context, err error) error {
	if over := ctx.Err(); over != nil && errors.Is(err, over) {
		return context.Cause(ctx)
	}
	var e dbus.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Name {
	case "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.NoUnitForPID":
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
