package integration

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestBoot shows that the rig is what the other tests take it for: a booted Debian with its own systemd.
func TestBoot(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		t.Logf("%s runs systemd %d, state %s", c.Suite(), c.SystemdVersion(), c.State())
		if v := c.SystemdVersion(); v < c.Suite().Family || v > c.Suite().Family && !c.Suite().Moving {
			t.Errorf("%s runs systemd %d, want %d", c.Suite(), v, c.Suite().Family)
		}
		if c.State() != "running" {
			t.Errorf("system is %q; failed units:\n%s", c.State(), c.Systemctl("list-units", "--failed", "--plain", "--no-legend"))
		}
		if got := strings.TrimSpace(c.ReadFile("/proc/1/comm")); got != "systemd" {
			t.Errorf("process 1 is %q, want systemd", got)
		}
	})
}
