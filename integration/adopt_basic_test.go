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
		a.flags = "" // as fast as it can
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

// TestAdoptRefused shows that a new version that cannot be had changes nothing, and is named. What stands in
// [Service] systemd itself opens once more for the ExecReload= line, so there it may be the one to refuse.
func TestAdoptRefused(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "refused")
		const service, ours = "/usr/share/adopt-refused", "/usr/share/adopt-refused-ours"
		a.ship("tool", files{service: "good\n"})
		a.ship("more", files{ours: "good\n"})
		a.startWith("ExtensionDirectories=%D/tool\n"+keepOffLine+reloadLine+"[X-Extexec]\nExtensionDirectories=%D/more\n", service)
		a.reload()
		a.oursOn("/usr")
		wrong := map[string]string{"ID=other\n": "ID", "ID=_any\nARCHITECTURE=pdp11\n": "ARCHITECTURE", "": "ID"}
		for _, name := range []string{"tool", "more"} {
			for release, field := range wrong {
				c.Rename(a.dir+"/"+name, a.dir+"/good")
				a.shipFor(release, name, files{service: "bad\n", ours: "bad\n"})
				before := c.Journal(a.unit)
				if r := a.tryReload(); r.Code == 0 {
					t.Errorf("a release file of %q is not refused", release)
				}
				log := strings.TrimPrefix(c.Journal(a.unit), before) // any daemon-reload has lines in it, too
				if name == "more" && !(strings.Contains(log, "nothing was changed") && strings.Contains(log, a.dir+"/more") && strings.Contains(log, field)) {
					t.Errorf("the refusal of %q does not name extension, field and outcome:\n%s", release, log)
				}
				c.Remove(a.dir + "/" + name)
				c.Rename(a.dir+"/good", a.dir+"/"+name)
				a.sees(service, "good\n")
				a.unharmed()
				if g := a.generation(); g != 1 {
					t.Errorf("generation %d is live after a refusal", g)
				}
			}
		}
	})
}

// TestAdoptDelegated has a mount namespace that belongs to the service's own user namespace: all of it is locked in a
// copy made from outside, so the bases are found another way. A mount of the unit's comes along, a check runs, and what
// it refuses changes nothing.
func TestAdoptDelegated(t *testing.T) {
	t.Parallel()
	c := rig.Shared(t, rig.Forky)
	a := newAdoptee(t, c, "delegated")
	const file, bound = "/usr/share/adopt-delegated", "/etc/adopt-delegated/bound"
	c.WriteFile(a.dir+"/bound", "bound\n", 0o644)
	ship := func(version string) {
		a.ship("tool.v/tool_"+version, files{file: version + "\n"})
		a.ship("conf.v/conf_"+version, files{bound: "shipped\n", "/etc/adopt-delegated/version": version + "\n"})
	}
	ship("1")
	a.start("ExtensionDirectories=%D/tool.v %D/conf.v\nBindReadOnlyPaths=%D/bound:"+bound+"\nPrivateUsers=yes\nDelegateNamespaces=mnt\n"+
		"[X-Extexec]\nReloadCheck=/usr/bin/grep -qv 3 "+file+"\n[Service]\n", file, bound, "/etc/adopt-delegated/version")
	for _, version := range []string{"2", "3", "4", "5"} {
		ship(version)
		want := version
		if r := a.tryReload(); version == "3" {
			want = "2"
			if r.Code == 0 {
				t.Error("the check refuses version 3, and the reload succeeds")
			}
		} else if r.Code != 0 {
			t.Fatalf("reload to %s: %s\n%s", version, r, c.Journal(a.unit))
		}
		a.sees(file, want+"\n")
		a.sees("/etc/adopt-delegated/version", want+"\n")
		a.sees(bound, "bound\n")
		a.unharmed()
	}
	if g := a.generation(); g != 4 { // the refused one has a number, too
		t.Errorf("generation %d is live, want 4", g)
	}
	if now := c.MainPID(a.unit); now != a.pid {
		t.Errorf("main process %v, was %v", now, a.pid)
	}
}
