package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestAdopt shows the main job on what systemd has applied itself: new versions of directories are seen by
// the running process, through three reloads, and again after a restart. 252 knows plain sysext directories
// only; there a new one takes the place of the old by rename.
func TestAdopt(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "basic")
		tool, reads, hierarchies := "tool.v/tool_%d", []string{"/usr/share/adopt-basic", "/opt/adopt-basic"}, []string{"/usr", "/opt"}
		settings := "ExtensionDirectories=%D/tool.v\n"
		if confexts(c) {
			reads, hierarchies = append(reads, "/etc/adopt-basic"), append(hierarchies, "/etc")
			settings += "ExtensionDirectories=%D/conf.v\n"
		} else {
			tool, settings = "tool", "ExtensionDirectories=%D/tool\n"
		}
		version := 0
		next := func() {
			version++
			text := fmt.Sprintf("version %d\n", version)
			at := tool
			if confexts(c) {
				a.ship(fmt.Sprintf("conf.v/conf_%d", version), files{"/etc/adopt-basic": text})
				at = fmt.Sprintf(tool, version)
			} else if version > 1 {
				c.Rename(a.dir+"/tool", fmt.Sprintf("%s/old-%d", a.dir, version))
			}
			a.ship(at, files{"/usr/share/adopt-basic": text, "/opt/adopt-basic": text})
		}
		check := func(generation uint64) {
			t.Helper()
			for _, r := range reads {
				a.sees(r, fmt.Sprintf("version %d\n", version))
			}
			a.unharmed()
			a.oursOn(hierarchies...)
			if g := a.generation(); g != generation {
				t.Errorf("generation %d is live, want %d", g, generation)
			}
		}

		next()
		a.start(settings, reads...)
		a.systemdsOn(hierarchies...)
		for i := range 3 {
			next()
			a.reload()
			check(uint64(i + 1))
		}
		a.reload()
		check(3) // nothing new: the same generation
		c.Systemctl("restart", a.unit)
		a.pid = c.MainPID(a.unit)
		a.systemdsOn(hierarchies...)
		a.reload() // the record is of another process: exchanged although nothing is new
		check(4)
		next()
		a.reload()
		check(5)
	})
}

// TestAdoptOrder shows that of two extensions with the same file the one listed last wins, at the start and
// after every reload, and that directories lie above images.
func TestAdoptOrder(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "order")
		for i, name := range []string{"zlow", "amid", "htop"} {
			f := files{"/usr/share/adopt-order-all": name + "\n", "/usr/share/adopt-order-" + name: name + "\n"}
			if i < 2 {
				f["/usr/share/adopt-order-two"] = name + "\n"
			}
			a.ship(name, f)
		}
		a.ship("raw", files{"/usr/share/adopt-order-all": "raw\n", "/usr/share/adopt-order-raw": "raw\n"})
		a.image("raw", "raw.raw", squashfs)
		reads := []string{"/usr/share/adopt-order-all", "/usr/share/adopt-order-two", "/usr/share/adopt-order-raw"}
		check := func() {
			t.Helper()
			a.sees(reads[0], "htop\n")
			a.sees(reads[1], "amid\n")
			a.sees(reads[2], "raw\n")
		}
		a.start("ExtensionDirectories=%D/zlow %D/amid\nExtensionImages=%D/raw.raw\nExtensionDirectories=%D/htop\n", reads...)
		check()
		for range 3 {
			c.WriteFile(a.dir+"/amid/usr/share/adopt-order-new", "x", 0o644) // an edit in place: all is exchanged
			a.reload()
			c.Remove(a.dir + "/amid/usr/share/adopt-order-new")
			a.oursOn("/usr")
			a.unharmed() // forgets what was read before
			check()
			if r := a.ask("report").File(reads[0]); len(r.Contents) != 1 {
				t.Errorf("the top layer changed: %v", r.Contents)
			}
		}
	})
}

// TestAdoptRefused shows that a new version that cannot be had changes nothing, and is named.
func TestAdoptRefused(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "refused")
		const file = "/usr/share/adopt-refused"
		a.ship("tool", files{file: "good\n"})
		a.start("ExtensionDirectories=%D/tool\n", file)
		for i, release := range []string{"ID=other\n", "ID=_any\nARCHITECTURE=pdp11\n", ""} {
			c.Rename(a.dir+"/tool", fmt.Sprintf("%s/good", a.dir))
			a.shipFor(release, "tool", files{file: "bad\n"})
			if r := a.tryReload(); r.Code == 0 {
				t.Errorf("a release file of %q is not refused", release)
			}
			if log := c.Journal(a.unit); strings.Count(log, "nothing was changed") != i+1 || !strings.Contains(log, a.dir+"/tool") {
				t.Errorf("the refusal does not name the extension and what was changed:\n%s", log)
			}
			c.Remove(a.dir + "/tool")
			c.Rename(a.dir+"/good", a.dir+"/tool")
			a.systemdsOn("/usr")
			a.sees(file, "good\n")
			a.unharmed()
		}
		a.reload()
		a.oursOn("/usr")
		a.unharmed()
	})
}
