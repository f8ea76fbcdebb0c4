package integration

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestAdoptRootDirectory adopts a service whose root is a tree of its own: its os-release is what extensions
// are matched with, at the start and at every reload. systemd runs the ExecReload= line in that root too, so
// extexec is bound into it.
func TestAdoptRootDirectory(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "root")
		const release, foreign = "ID=rooted\nVERSION_ID=7\n", "ID=debian\n"
		root := a.dir + "/root"
		for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "var/tmp", "opt", "etc"} {
			c.WriteFile(root+"/"+d+"/.keep", "", 0o644)
		}
		c.WriteFile(root+"/usr/lib/os-release", release, 0o644)
		c.Must("cp", "-a", "--parents", "-t", root, "/usr/bin/testservice", "/usr/bin/extexec")
		const file = "/usr/share/adopt-root"
		a.shipFor(release, "tool", files{file: "1\n"})
		a.startWith("RootDirectory=%D/root\nMountAPIVFS=yes\nExtensionDirectories=%D/tool\n"+keepOffLine+reloadLine+"[X-Extexec]\nExtensionDirectories=-%D/more\n", file)
		a.systemdsOn("/usr")
		for _, text := range []string{"2\n", "3\n"} {
			c.Rename(a.dir+"/tool", a.dir+"/old-"+strings.TrimSpace(text))
			a.shipFor(release, "tool", files{file: text})
			a.reload()
			a.sees(file, text)
			a.unharmed()
			a.oursOn("/usr")
			a.status()
		}
		a.shipFor(foreign, "more", files{"/usr/share/adopt-root-more": ""})
		if r := a.tryReload(); r.Code == 0 {
			t.Error("an extension for the host is not refused")
		}
		if log := lastLines(c.Journal(a.unit), 4); !strings.Contains(log, "rooted") || !strings.Contains(log, a.dir+"/more") {
			t.Errorf("the refusal does not name the extension and the service root's ID:\n%s", log)
		}
		a.sees(file, "3\n")
		a.unharmed()
	})
}
