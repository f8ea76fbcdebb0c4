package integration

import (
	"fmt"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestManyUnits has fifty units with the same extensions, and reloads all of them at once, by systemd. Each ends
// with the last version; the rig sees that nothing is left.
func TestManyUnits(t *testing.T) {
	const units = 50
	c := rig.Shared(t, rig.Forky)
	dir := c.TempDir()
	install := func(version int) {
		root := dir + "/.new"
		c.WriteFile(root+"/etc/extension-release.d/extension-release.many", "ID=_any\n", 0o644)
		c.WriteFile(root+"/etc/many-test", fmt.Sprint(version), 0o644)
		c.Rename(root, fmt.Sprintf("%s/many.v/many_%d", dir, version))
	}
	c.Mkdir(dir + "/many.v")
	install(1)
	c.WriteUnit("many-test@.service", `[Service]
Type=notify
ExecStart=!/usr/bin/extexec run -- /usr/bin/testservice -notify
ExecReload=+/usr/bin/extexec reload
[X-Extexec]
ExtensionDirectories=`+dir+`/many.v
`)
	var names []string
	for i := range units {
		name := fmt.Sprintf("many-test@%d.service", i)
		names = append(names, name)
		c.Cleanup(func() {
			c.Remove("/run/extexec/units/" + name)
			c.Remove("/var/lib/extexec/units/" + name)
		})
	}
	c.Systemctl(append([]string{"start"}, names...)...)
	c.Cleanup(func() { c.Systemctl(append([]string{"stop"}, names...)...) })
	install(2)
	install(3)
	c.Systemctl(append([]string{"reload"}, names...)...)
	for _, name := range names {
		if got := c.ReadFile(fmt.Sprintf("/proc/%d/root/etc/many-test", c.MainPID(name).Inside)); got != "3" {
			t.Errorf("%s reads version %q", name, got)
		}
	}
}
