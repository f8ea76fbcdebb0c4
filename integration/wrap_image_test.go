package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestVerbsWithImage gives an image to a unit whose device policy keeps loop devices away, whose directory the
// image brings, and whose other commands read what is in it.
func TestVerbsWithImage(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, verb := range []string{"wrap", "adopt"} {
			t.Run(verb, func(t *testing.T) {
				c := c.For(t)
				dir, name := c.TempDir(), "image-"+verb
				ship := func(content string) {
					c.CopyIn(wrapImage(t, wrapSquashfs, "tool", content), dir+"/part")
					c.Rename(dir+"/part", dir+"/tool.raw")
				}
				ship("one\n")
				c.WriteUnit(name+".service", fmt.Sprintf(`[Service]
Type=notify
User=www-data
PrivateDevices=yes
WorkingDirectory=/usr/share/wrapped
RuntimeDirectory=%[1]s
RuntimeDirectoryPreserve=yes
ExecStart=@/usr/bin/testservice "web daemon" -notify -control /run/%[1]s/control -read %[2]s
ExecStartPost=/bin/sh -c 'cat tool; id -un' - ; /bin/sh -c 'cat tool > /run/%[1]s/post'
ExecStop=/bin/sh -c 'cat tool > /run/%[1]s/stop'
`, name, wrapTool))
				c.Cleanup(func() { c.Remove("/run/" + name) })
				p := &packaged{t: t, c: c, unit: name + ".service"}
				if r := p.verb(verb, "--extension-image", dir+"/tool.raw", name); r.Code != 0 {
					t.Fatalf("%s: %s", verb, r)
				}
				c.Cleanup(func() {
					if r := p.verb(verb, "--undo", name); r.Code != 0 {
						t.Errorf("undo: %s", r)
					}
				})
				c.Systemctl("start", p.unit)
				if post := c.ReadFile("/run/" + name + "/post"); post != "one\n" || !strings.Contains(c.Journal(p.unit), "one\nwww-data\n") {
					t.Errorf("ExecStartPost= read %q:\n%s", post, c.Journal(p.unit))
				}
				pid := c.MainPID(p.unit)
				if got := c.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid.Inside)); !strings.HasPrefix(got, "web daemon\x00-notify\x00") {
					t.Errorf("the service was called %q", got)
				}
				if got := c.Must("readlink", fmt.Sprintf("/proc/%d/cwd", pid.Inside)); got != "/usr/share/wrapped" {
					t.Errorf("its directory is %q", got)
				}
				ship("two\n")
				c.Systemctl("reload", p.unit)
				c.Systemctl("stop", p.unit)
				if stop := c.ReadFile("/run/" + name + "/stop"); stop != "two\n" || c.Show(p.unit, "Result") != "success" {
					t.Errorf("ExecStop= read %q:\n%s", stop, c.Journal(p.unit))
				}
			})
		}
	})
}
