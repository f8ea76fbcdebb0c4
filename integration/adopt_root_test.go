package integration

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestAdoptRoot adopts a service whose root is a tree or an image of its own: its os-release is what extensions
// are matched with, at the start and at every reload. systemd runs the ExecReload= line in that root too, so
// extexec is in it.
func TestAdoptRoot(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, root := range []string{"RootDirectory=%D/root\n", "RootImage=%D/root.raw\n"} {
			name, _, _ := strings.Cut(strings.ToLower(root), "=")
			t.Run(name, func(t *testing.T) { adoptRoot(t, c.For(t), name, root) })
		}
	})
}

func adoptRoot(t *testing.T, c *rig.Container, name, setting string) {
	a := newAdoptee(t, c, name)
	const release, foreign = "ID=rooted\nVERSION_ID=7\n", "ID=debian\n"
	root := a.makeRoot(release)
	if strings.HasPrefix(setting, "RootImage=") {
		a.image("root", "root.raw", squashfs)
		c.Remove(root)
	}
	const file = "/usr/share/adopt-root"
	a.shipFor(release, "tool", files{file: "1\n"})
	a.startWith(setting+"MountAPIVFS=yes\nExtensionDirectories=%D/tool\n"+keepOffLine+reloadLine+"[X-Extexec]\nExtensionDirectories=-%D/more\n", file)
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
	before := c.Journal(a.unit)
	if r := a.tryReload(); r.Code == 0 {
		t.Error("an extension for the host is not refused")
	}
	if log := strings.TrimPrefix(c.Journal(a.unit), before); !strings.Contains(log, "rooted") || !strings.Contains(log, a.dir+"/more") {
		t.Errorf("the refusal does not name the extension and the service root's ID:\n%s", log)
	}
	a.sees(file, "3\n")
	a.unharmed()
}

// makeRoot makes a root for the service, which has extexec in it, and gives its directory.
func (a *adoptee) makeRoot(release string) string {
	root := a.dir + "/root"
	// Under "+" there is no tmpfs on /run, where systemd could make a place for RuntimeDirectory= and its own.
	for _, d := range []string{"proc", "sys", "dev", "run/" + strings.TrimSuffix(a.unit, ".service"), "run/systemd/incoming", "tmp", "var/tmp", "opt", "etc"} {
		a.c.WriteFile(root+"/"+d+"/.keep", "", 0o644)
	}
	a.c.WriteFile(root+"/usr/lib/os-release", release, 0o644)
	a.c.Must("cp", "-a", "--parents", "-t", root, "/usr/bin/testservice", "/usr/bin/extexec")
	return root
}
