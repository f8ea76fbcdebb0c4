package integration

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestTries counts tries in the names of versions under systemd, as wrapper and as
// adopt, where what has none left is what systemd passes over, too.
func TestTries(t *testing.T) {
	for _, s := range []rig.Suite{rig.Bookworm, rig.Forky} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Shared(t, s)
			t.Run("wrapper", func(t *testing.T) { triesWrapped(t, c.For(t)) })
			t.Run("told by the start", func(t *testing.T) { triesToldByStart(t, c.For(t)) })
			if c.SystemdVersion() >= 256 { // this one applies a .v/ directory
				t.Run("adopt", func(t *testing.T) { triesAdopted(t, c.For(t)) })
			}
		})
	}
}

// installCounted installs version 2 of both extensions with a counter.
func (e wrapExts) installCounted(t *testing.T, counter, content string) {
	t.Helper()
	for _, name := range []string{"conf", "tool"} {
		e.c.CopyIn(wrapImage(t, e.kind, name, content), e.dir+"/part")
		e.c.Rename(e.dir+"/part", e.ref(name)+"/"+name+"_2"+counter+".raw")
	}
}

func wantEntries(t *testing.T, c *rig.Container, dir, want string) {
	t.Helper()
	if got := strings.Join(strings.Fields(c.Must("ls", "--ignore=README", dir)), " "); got != want {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

func triesWrapped(t *testing.T, c *rig.Container) {
	e := newWrapExts(t, c, wrapSquashfs)
	e.more = "CountTries=yes\n"
	w := startWrapped(t, c, e, "tries", "User=www-data", "")
	w.reads(t, "one\n")
	e.installCounted(t, "+3", "two\n")
	c.Systemctl("restart", w.unit)
	w.start(t)
	w.reads(t, "two\n")
	wantEntries(t, c, e.ref("conf"), "conf_1.raw conf_2+2-1.raw")
	c.Systemctl("reload", w.unit)
	wantEntries(t, c, e.ref("conf"), "conf_1.raw conf_2.raw")
	wantEntries(t, c, e.ref("tool"), "tool_1.raw tool_2.raw")
	w.reads(t, "two\n")
	c.Must("extexec", "reload", "--if-changed", w.unit)
	wantGenerations(t, c, w.unit, "1 run, 2 run")
	c.Must("extexec", "rollback", w.unit)
	w.reads(t, "one\n")
	c.Must("extexec", "rollback", w.unit, "2") // which had it by another name
	w.reads(t, "two\n")
}

// triesToldByStart has systemd tell when a start went well.
func triesToldByStart(t *testing.T, c *rig.Container) {
	e := newWrapExts(t, c, wrapSquashfs)
	e.more = "CountTries=yes\n"
	e.installCounted(t, "+1", "two\n")
	w := startWrapped(t, c, e, "tries-told", "Type=notify\nNotifyAccess=all\nExecStartPost=+/usr/bin/extexec reload --if-changed", "-notify")
	w.reads(t, "two\n")
	wantEntries(t, c, e.ref("conf"), "conf_1.raw conf_2.raw")
	c.Systemctl("restart", w.unit)
	w.start(t)
	w.reads(t, "two\n")
}

// triesAdopted: a version that failed as often as it may is not what the next start
// by systemd runs with.
func triesAdopted(t *testing.T, c *rig.Container) {
	a := newAdoptee(t, c, "tries")
	const file = "/etc/adopt-tries"
	a.ship("conf.v/conf_1", files{file: "one\n"})
	a.start("ExtensionDirectories=%D/conf.v\n[X-Extexec]\nCountTries=yes\nReloadVerify=/bin/sh -c 'read v <"+file+"; test $$v != bad'\n[Service]\n", file)
	a.reload()
	a.ship("conf.v/conf_2+2", files{file: "bad\n"})
	for _, name := range []string{"conf_2+1-1", "conf_2+0-2"} {
		if r := a.tryReload(); r.Code == 0 {
			t.Errorf("the reload to a bad version did not fail: %v", r)
		}
		a.sees(file, "one\n")
		wantEntries(t, c, a.dir+"/conf.v", "conf_1 "+name)
	}
	a.reload()
	a.sees(file, "one\n")
	c.Systemctl("restart", a.unit)
	a.pid = c.MainPID(a.unit)
	a.sees(file, "one\n")
	a.ship("conf.v/conf_3+2", files{file: "three\n"})
	a.reload()
	a.sees(file, "three\n")
	wantEntries(t, c, a.dir+"/conf.v", "conf_1 conf_2+0-2 conf_3")
}
