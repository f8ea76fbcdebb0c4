package integration

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestOverlayRoot has a root that is an overlay, as in a container or a live system, so that ours is the second level,
// which is all that the kernel stacks. Both ways work. When the host merges its own sysexts into /usr, nothing fits on
// that: a start and a reload say so, and change nothing. When they are gone, it goes on.
func TestOverlayRoot(t *testing.T) {
	for _, suite := range []rig.Suite{rig.Bookworm, rig.Forky} {
		t.Run(suite.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Boot(t, suite, rig.Options{OverlayRoot: true})
			if fs := c.Must("stat", "-f", "-c", "%T", "/"); fs != "overlayfs" {
				t.Fatalf("/ is %s", fs)
			}
			const file, merged = "/usr/share/overlay-root", "two at most: merge fewer levels on the host"
			both := []*adoptee{newAdoptee(t, c, "overlaid"), newAdoptee(t, c, "overlaid-run")}
			ship := func(version string) {
				for _, a := range both {
					if c.Exists(a.dir + "/tool") {
						c.Rename(a.dir+"/tool", a.dir+"/before-"+version)
					}
					a.ship("tool", files{file: version + "\n"})
				}
			}
			want := func(version string) {
				t.Helper()
				for _, a := range both {
					a.sees(file, version+"\n")
					a.unharmed()
				}
			}
			ship("1")
			both[0].start("ExtensionDirectories=%D/tool\n", file)
			both[0].systemdsOn("/usr")
			wrapped := strings.Replace(both[1].text(reloadLine+"[X-Extexec]\nExtensionDirectories=%D/tool\n", file),
				"ExecStart=", "ExecStart=!/usr/bin/extexec run -- /usr/bin/", 1)
			c.WriteUnit(both[1].unit, wrapped)
			c.Systemctl("start", both[1].unit)
			both[1].pid = c.MainPID(both[1].unit)
			want("1")
			for _, version := range []string{"2", "3"} {
				ship(version)
				for _, a := range both {
					a.reload()
					a.oursOn("/usr")
				}
				want(version)
			}

			c.WriteFile("/var/lib/extensions/host/usr/lib/extension-release.d/extension-release.host", "ID=_any\n", 0o644)
			c.WriteFile("/var/lib/extensions/host/usr/share/overlay-root-host", "merged\n", 0o644)
			t.Cleanup(func() { c.Remove("/var/lib/extensions") })
			c.Must("systemd-sysext", "merge")
			ship("4")
			for _, a := range both {
				// By hand: under adopt, systemd cannot set up an ExecReload= line then, for the same reason.
				if r := c.Exec(t.Context(), "extexec", "reload", a.unit); r.Code != 1 || !strings.Contains(r.Stderr, merged) || !strings.Contains(r.Stderr, "nothing was changed") {
					t.Errorf("a reload over a merged /usr: %s", r)
				}
			}
			want("3")
			third := "adopt-overlaid-third.service"
			c.WriteUnit(third, strings.ReplaceAll(wrapped, strings.TrimSuffix(both[1].unit, ".service"), "adopt-overlaid-third"))
			if r := c.Exec(t.Context(), "systemctl", "start", third); r.Code == 0 || !strings.Contains(c.Journal(third), merged) {
				t.Errorf("a start over a merged /usr: %s\n%s", r, c.Journal(third))
			}
			c.Systemctl("reset-failed", third)
			c.Must("systemd-sysext", "unmerge")
			for _, a := range both {
				a.reload()
				a.oursOn("/usr")
			}
			want("4")
		})
	}
}
