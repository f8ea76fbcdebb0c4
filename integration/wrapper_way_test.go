package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestWrapperSocket starts a service by a connection, and reloads it.
func TestWrapperSocket(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const unit, address = "wrap-socket.service", "127.0.0.1:8412"
		e := newWrapExts(t, c, wrapDirs)
		c.WriteUnit(unit, "[Service]\nDynamicUser=yes\n"+wrapRun+"/usr/bin/testservice -serve "+wrapConf+"\nExecReload=+/usr/bin/extexec reload\n"+e.section())
		c.WriteUnit("wrap-socket.socket", "[Socket]\nListenStream="+address+"\n")
		c.Systemctl("start", "wrap-socket.socket")
		if got := c.Get(address); got != "one\n" {
			t.Errorf("sent %q before the reload", got)
		}
		pid := c.MainPID(unit)
		e.install(t, 2, "two\n")
		c.Systemctl("reload", unit)
		if got := c.Get(address); got != "two\n" || c.MainPID(unit) != pid {
			t.Errorf("sent %q after the reload; main process %v, was %v", got, c.MainPID(unit), pid)
		}
	})
}

// TestWrapperInetd starts an instance for every connection, which is its standard input and output.
func TestWrapperInetd(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const address = "127.0.0.1:8413"
		e := newWrapExts(t, c, wrapDirs)
		c.WriteUnit("wrap-inetd@.service", "[Service]\nUser=www-data\nStandardInput=socket\n"+wrapRun+"/bin/cat "+wrapConf+" "+wrapTool+"\n"+e.section())
		c.WriteUnit("wrap-inetd.socket", "[Socket]\nListenStream="+address+"\nAccept=yes\n")
		c.Systemctl("start", "wrap-inetd.socket")
		for version, want := range []string{"one\none\n", "two\ntwo\n"} {
			if version == 1 {
				e.install(t, 2, "two\n")
			}
			if got := c.Get(address); got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
		}
	})
}

// TestWrapperTemplate starts two instances of one template, whose extensions have the instance's name.
func TestWrapperTemplate(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		c.WriteUnit("wrap-template@.service", "[Service]\nType=exec\nDynamicUser=yes\n"+wrapRun+"/bin/sleep infinity\nExecReload=+/usr/bin/extexec reload\n"+
			"[X-Extexec]\nExtensionDirectories="+e.dir+"/%i.v\n")
		units := []string{"wrap-template@conf.service", "wrap-template@tool.service"}
		c.Systemctl("start", units[0], units[1])
		sees := func(unit, path, want string) {
			t.Helper()
			eventually(t, unit+" executes the command", func() bool {
				return strings.TrimSpace(c.ReadFile(fmt.Sprintf("/proc/%d/comm", c.MainPID(unit).Inside))) == "sleep"
			})
			if got := (&wrapped{c: c, unit: unit}).inside(t, "cat "+path); got != want {
				t.Errorf("%s sees %q in %s, want %q", unit, got, path, want)
			}
		}
		sees(units[0], wrapConf, "one\n")
		sees(units[1], wrapTool, "one\n")
		e.install(t, 2, "two\n")
		c.Systemctl("reload", units[0])
		sees(units[0], wrapConf, "two\n")
		sees(units[1], wrapTool, "one\n")
	})
}

// TestWrapperDirectory has a working directory that an extension brings.
func TestWrapperDirectory(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const unit, dir = "wrap-directory.service", "/usr/share/wrapped"
		e := newWrapExts(t, c, wrapSquashfs)
		// Without the "-" systemd ends the start: the directory is not there yet.
		c.WriteUnit(unit, "[Service]\nType=exec\nUser=www-data\nWorkingDirectory=-"+dir+"\n"+wrapRun+"/bin/sleep infinity\n"+e.section())
		c.Systemctl("start", unit)
		pid := c.MainPID(unit)
		eventually(t, "it executes the command", func() bool { return strings.TrimSpace(c.ReadFile(fmt.Sprintf("/proc/%d/comm", pid.Inside))) == "sleep" })
		if cwd := c.Must("readlink", fmt.Sprintf("/proc/%d/cwd", pid.Inside)); cwd != dir {
			t.Errorf("the service is in %q", cwd)
		}
	})
}

// TestWrapperRestart restarts a service with systemctl, and has systemd restart it after it was killed: both
// times it has the newest version, and can be reloaded.
func TestWrapperRestart(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		w := startWrapped(t, c, e, "restart", "Type=notify\nUser=www-data\nRestart=always\nRestartSec=0", "-notify")
		w.reads(t, "one\n")
		e.install(t, 2, "two\n")
		c.Systemctl("restart", w.unit)
		w.reads(t, "two\n")
		before := c.MainPID(w.unit)
		c.Systemctl("kill", "--signal=KILL", w.unit)
		eventually(t, "systemd starts it again", func() bool {
			now := showAll(c, map[string]bool{w.unit: true}, "ActiveState", "MainPID")[w.unit]
			return now["ActiveState"] == "active" && now["MainPID"] != fmt.Sprint(before.Inside)
		})
		w.reads(t, "two\n")
		e.install(t, 3, "three\n")
		c.Systemctl("reload", w.unit)
		w.reads(t, "three\n")
		if said := extexecSaid(t, c, w.unit); len(said) != 1 || !strings.Contains(said[0], "generation 4 is live") {
			t.Errorf("extexec said %q, want a fourth generation and nothing else", said)
		}
	})
}

// TestWrapperNoPrefix forgets the "!": systemd has changed the user, and nothing can be mounted.
func TestWrapperNoPrefix(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		const unit = "wrap-noprefix.service"
		startAll(t, c, map[string]string{unit: "[Service]\nType=oneshot\nUser=www-data\nExecStart=/usr/bin/extexec run -- /bin/true\n" + e.section()})
		said := extexecSaid(t, c, unit)
		if c.Show(unit, "ExecMainStatus") != "226" || len(said) != 1 || !strings.Contains(said[0], "ExecStart=!") {
			t.Errorf("exit status %s, said %q", c.Show(unit, "ExecMainStatus"), said)
		}
	})
}
