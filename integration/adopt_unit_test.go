package integration

import (
	"path"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestAdoptUnitChanges shows that a reload goes by what the unit says now: an extension is added, all are
// removed, and one comes back, without a restart.
func TestAdoptUnitChanges(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "changes")
		const first, second, base = "/usr/share/adopt-first", "/usr/share/adopt-second", "/usr/lib/os-release"
		a.ship("one", files{first: "one\n", base: "ID=never\n"})
		a.ship("two", files{second: "two\n", first: "two\n"})
		a.start("ExtensionDirectories=%D/one\n", base)
		a.systemdsOn("/usr")

		set := func(directories string) {
			c.WriteUnit(a.unit+".d/change.conf", "[Service]\nExtensionDirectories=\n"+strings.ReplaceAll(directories, "%D", a.dir))
			a.reload()
			a.unharmed()
			a.status()
		}
		inside := func(path string) string {
			r := c.Run(t.Context(), rig.Command{Argv: []string{"extexec", "exec", a.unit, "--", "/bin/cat", path}})
			return r.Stdout
		}
		set("ExtensionDirectories=%D/one %D/two\n")
		if got := inside(first) + inside(second); got != "two\ntwo\n" {
			t.Errorf("after an extension was added the files read %q", got)
		}
		set("")
		if s := a.sources("/usr"); len(s) != 0 {
			t.Errorf("after all extensions were removed /usr has the overlays %q", s)
		}
		if got := inside(first) + inside(second); got != "" {
			t.Errorf("after all extensions were removed the files read %q", got)
		}
		set("ExtensionDirectories=%D/one\n")
		a.oursOn("/usr")
		if got := inside(first); got != "one\n" {
			t.Errorf("after one came back its file reads %q", got)
		}
	})
}

// TestAdoptLastOneCarried removes the last extension of a hierarchy that has a mount below it: the mount stays,
// or, where only the extension has a place for it, nothing is changed.
func TestAdoptLastOneCarried(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const host, shipped = "/usr/share/adopt-last-host", "/usr/share/adopt-last-shipped"
		c.WriteFile(host, "host\n", 0o644)
		t.Cleanup(func() { c.Remove(host) })
		for _, at := range []string{host, shipped} {
			t.Run(path.Base(at), func(t *testing.T) {
				a := newAdoptee(t, c.For(t), path.Base(at))
				a.ship("tool", files{shipped: "shipped\n"})
				a.c.WriteFile(a.dir+"/bound", "bound\n", 0o644)
				a.start("ExtensionDirectories=-%D/tool\nBindReadOnlyPaths=%D/bound:"+at+"\n", at)
				a.c.Rename(a.dir+"/tool", a.dir+"/away")
				// By hand: for an ExecReload= line systemd would make the place on the host.
				r := a.c.Exec(t.Context(), "extexec", "reload", a.unit)
				switch {
				case at == shipped && (r.Code != 1 || !strings.Contains(r.Stderr, shipped) || !strings.Contains(r.Stderr, "nothing was changed")):
					t.Errorf("the mount has lost its place, want an error that says so: %s", r)
				case at == host && r.Code != 0:
					t.Errorf("reload: %s", r)
				case at == host:
					a.status()
				}
				a.sees(at, "bound\n")
				if f := a.ask("report").File(at); f.Failed > 0 || len(f.Contents) != 1 {
					t.Errorf("the mount was not there all the time: %+v", f)
				}
			})
		}
	})
}

// TestAdoptByHand reloads by the unit's name what no record knows yet: the manager is asked for the process.
func TestAdoptByHand(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const file = "/usr/share/adopt-hand"
		for _, name := range []string{"adopt-hand", "adopt-hand.service", "adopt-hand@some-one.service"} {
			t.Run(name, func(t *testing.T) {
				a := newAdoptee(t, c.For(t), strings.TrimSuffix(strings.TrimPrefix(name, "adopt-"), ".service"))
				a.ship("tool", files{file: "1\n"})
				a.startWith("ExtensionDirectories=%D/tool\n"+keepOffLine, file)
				a.c.Rename(a.dir+"/tool", a.dir+"/old")
				a.ship("tool", files{file: "2\n"})
				a.c.Must("extexec", "reload", name)
				a.sees(file, "2\n")
				a.unharmed()
				a.oursOn("/usr")
			})
		}
	})
}

// TestAdoptNotifyReload adopts a unit of the type that 262 signals after its ExecReload= line: the service is
// told once, and sees the new version by then.
func TestAdoptNotifyReload(t *testing.T) {
	t.Parallel()
	c := rig.Shared(t, rig.Forky)
	a := newAdoptee(t, c, "notifyreload")
	const file = "/etc/adopt-notifyreload"
	a.ship("conf.v/conf_1", files{file: "1\n"})
	a.start("Type=notify-reload\nExtensionDirectories=%D/conf.v\n", file)
	for i, version := range []string{"2", "3"} {
		a.ship("conf.v/conf_"+version, files{file: version + "\n"})
		a.reload()
		a.sees(file, version+"\n")
		if n := a.ask("report").Reloads; n != i+1 {
			t.Errorf("the service was told to reload %d times, want %d", n, i+1)
		}
		a.unharmed()
	}
	a.oursOn("/etc")
}
