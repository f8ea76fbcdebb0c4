package integration

import (
	"os"
	"strconv"
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

// TestNativeExtension shows that systemd's own extensions work in the rig: what extexec adopts.
func TestNativeExtension(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		dir := c.TempDir()
		c.WriteFile(dir+"/tool/usr/lib/extension-release.d/extension-release.tool", "ID=_any\n", 0o644)
		c.WriteFile(dir+"/tool/usr/share/tool/hello", "from the extension\n", 0o644)
		c.WriteUnit("rig-native.service", `[Service]
Type=exec
ExtensionDirectories=`+dir+`/tool
ExecStart=sleep infinity
ExecReload=cat /usr/share/tool/hello
`)
		c.Systemctl("start", "rig-native.service")
		pid := c.MainPID("rig-native.service")
		if got := c.Must("cat", "/proc/"+strconv.Itoa(pid.Inside)+"/root/usr/share/tool/hello"); got != "from the extension" {
			t.Errorf("the service sees %q", got)
		}
		c.Systemctl("reload", "rig-native.service")
		if log := c.Journal("rig-native.service"); !strings.Contains(log, "from the extension") {
			t.Errorf("the journal has no output of the reload:\n%s", log)
		}
		if comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid.Host) + "/comm"); err != nil || string(comm) != "sleep\n" {
			t.Errorf("host pid %d is %q (%v), want the service", pid.Host, comm, err)
		}
	})
}
