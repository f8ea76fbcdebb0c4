package running

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/units/manager"
)

var _ service.MainPIDer = (*manager.Manager)(nil)

// connect connects to the container's systemd. Only the path of the socket is
// looked up inside.
func connect(t *testing.T, c *rig.Container) *manager.Manager {
	t.Helper()
	var m *manager.Manager
	err := c.Inside(func() (err error) {
		m, err = manager.Connect(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

const plainUnit = `[Service]
Type=exec
ExecStart=sleep infinity
ExecReload=%s
`

func TestManagerUnit(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		c.WriteUnit("managed.service", strings.Replace(plainUnit, "%s", "true", 1))
		c.WriteFile("/etc/systemd/system/managed.service.d/10-x.conf", "[Unit]\nDescription=managed\n", 0o644)
		t.Cleanup(func() { c.Remove("/etc/systemd/system/managed.service.d") })
		m := connect(t, c)
		if err := m.DaemonReload(t.Context()); err != nil {
			t.Fatal(err)
		}
		u, err := m.Unit(t.Context(), "managed.service")
		if err != nil || u.LoadState != "loaded" || u.ActiveState != "inactive" || u.MainPID != 0 || u.Cgroup != "" {
			t.Errorf("before its start: %+v, %v", u, err)
		}
		if filepath.Base(u.FragmentPath) != "managed.service" || len(u.DropIns) != 1 || !strings.HasSuffix(u.DropIns[0], "/managed.service.d/10-x.conf") {
			t.Errorf("files %q and %q", u.FragmentPath, u.DropIns)
		}
		if err := m.Start(t.Context(), "managed.service"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"managed.service": "active", "nowhere.service": "inactive"} {
			if state, err := m.ActiveState(t.Context(), name); err != nil || state != want {
				t.Errorf("%s is %q, %v, want %q", name, state, err, want)
			}
		}
		before := c.MainPID("managed.service")
		if err := m.TryRestart(t.Context(), "managed.service"); err != nil || c.MainPID("managed.service") == before {
			t.Errorf("restarted: %v, and it is the same process", err)
		}
		u, err = m.Unit(t.Context(), "managed.service")
		if want := c.MainPID("managed.service").Inside; err != nil || u.MainPID != want || u.ActiveState != "active" || u.SubState != "running" {
			t.Errorf("started: %+v, %v, want main process %d", u, err, want)
		}
		if !strings.HasSuffix(u.Cgroup, "/managed.service") {
			t.Errorf("cgroup %q", u.Cgroup)
		}
		if name, err := m.UnitOf(t.Context(), u.MainPID); err != nil || name != "managed.service" {
			t.Errorf("unit of the main process: %q, %v", name, err)
		}
		if err := errors.Join(m.Reload(t.Context(), "managed.service"), m.Restart(t.Context(), "managed.service")); err != nil {
			t.Error(err)
		}
		if pid, err := m.MainPID(t.Context(), "managed.service"); err != nil || pid == 0 || pid == u.MainPID {
			t.Errorf("main process after the restart: %d, %v, before %d", pid, err, u.MainPID)
		}
		if err := m.Stop(t.Context(), "managed.service"); err != nil {
			t.Error(err)
		}
		if pid, err := m.MainPID(t.Context(), "managed.service"); err != nil || pid != 0 {
			t.Errorf("main process after the stop: %d, %v", pid, err)
		}
	})
}

func TestManagerRefusals(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		c.WriteUnit("unmanaged.service", strings.Replace(plainUnit, "%s", "false", 1))
		m := connect(t, c)
		if _, err := m.Unit(t.Context(), "no-such-unit.service"); !errors.Is(err, manager.ErrNotFound) {
			t.Errorf("unit that does not exist: %v", err)
		}
		if _, err := m.MainPID(t.Context(), "no-such-unit.service"); !errors.Is(err, manager.ErrNotFound) {
			t.Errorf("main process of a unit that does not exist: %v", err)
		}
		if err := m.Start(t.Context(), "no-such-unit.service"); !errors.Is(err, manager.ErrNotFound) {
			t.Errorf("start of a unit that does not exist: %v", err)
		}
		if _, err := m.Unit(t.Context(), "no unit name"); err == nil {
			t.Error("a name that is none was taken")
		}
		if err := m.Start(t.Context(), "unmanaged.service"); err != nil {
			t.Fatal(err)
		}
		var job *manager.JobError
		if err := m.Reload(t.Context(), "unmanaged.service"); !errors.As(err, &job) || job.Result != "failed" || job.Verb != "reload" {
			t.Errorf("reload that fails: %v", err)
		}
		c.Systemctl("stop", "unmanaged.service")
	})
}

func TestManagerContext(t *testing.T) {
	c := rig.Shared(t, rig.Trixie)
	c.WriteUnit("slow.service", strings.Replace(plainUnit, "%s", "sleep infinity", 1))
	m := connect(t, c)
	if err := m.Start(t.Context(), "slow.service"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.Reload(ctx, "slow.service"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reload that does not end: %v", err)
	}
	// The job that nobody waits for must not hold up the next one.
	if err := m.Stop(t.Context(), "slow.service"); err != nil {
		t.Error(err)
	}
}
