package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestRepairUnit enables the unit that is shipped: a service that keeps what was
// there before the host's merge gets it once systemd-confext.service has run.
func TestRepairUnit(t *testing.T) {
	t.Parallel()
	c := rig.Boot(t, rig.Forky, rig.Options{}) // alone: what the host merges, all services see
	text, err := os.ReadFile("../units/extexec-repair.service")
	if err != nil {
		t.Fatal(err)
	}
	c.WriteUnit("extexec-repair.service", string(text))
	c.WriteUnit("repair-unit.service", "[Service]\nExecStart=sleep infinity\nInaccessiblePaths=/etc/shadow\n")
	c.Systemctl("start", "repair-unit.service")
	pid := c.MainPID("repair-unit.service")
	c.Systemctl("enable", "extexec-repair.service")
	t.Cleanup(func() { c.Systemctl("disable", "extexec-repair.service") })

	m := hostMerges[1]
	if !c.Exists(m.dir) {
		c.Mkdir(m.dir)
		t.Cleanup(func() { c.Remove(m.dir) })
	}
	m.install(c, "1")
	t.Cleanup(func() { c.Systemctl("stop", "systemd-confext.service") })
	c.Systemctl("start", "systemd-confext.service")
	eventually(t, "the service shows what the host has merged", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", pid.Host, m.file))
		return err == nil && string(b) == "1\n"
	})
}
