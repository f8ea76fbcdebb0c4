package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/procstate"
	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/integration/testclient"
)

// TestService shows that the test service tells the truth: other tests rely on its counts.
func TestService(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		dir := c.TempDir()
		file := dir + "/conf"
		c.WriteFile(file, "one\n", 0o644)
		c.WriteUnit("rig-probe.service", fmt.Sprintf(`[Service]
Type=notify
DynamicUser=yes
RuntimeDirectory=rig-probe
WatchdogSec=1
Restart=no
ExecStart=testservice -notify -control /run/rig-probe/control -state /run/rig-probe/state.json -read %[1]s/conf -read-at %[1]s:conf -children 2
ExecReload=kill -HUP $MAINPID
`, dir))
		c.Systemctl("start", "rig-probe.service")
		const socket = "/run/rig-probe/control"
		pid := c.MainPID("rig-probe.service")

		r := c.AskService(socket, "report")
		if r.PID != pid.Inside {
			t.Errorf("the service says pid %d, systemd %d", r.PID, pid.Inside)
		}
		c.WriteFile(file+".new", "two\n", 0o644)
		c.Rename(file+".new", file)
		eventually(t, "the new content is read", func() bool { return c.AskService(socket, "report").File(file).Last == "two\n" })
		if f := c.AskService(socket, "forget").File(file); f.Failed != 0 || f.Contents["one\n"] == 0 || f.Lookups == 0 {
			t.Errorf("want reads of both contents and no failure: %+v", f)
		}
		c.Remove(file)
		eventually(t, "lookups fail, through the directory too", func() bool {
			r := c.AskService(socket, "report")
			return r.File(file).Failed > 0 && r.File(dir+"/conf@").FirstError != ""
		})

		c.Systemctl("reload", "rig-probe.service")
		eventually(t, "the reload arrives", func() bool { return c.AskService(socket, "report").Reloads == 1 })
		eventually(t, "the watchdog is pinged", func() bool { return c.AskService(socket, "report").Pings > 2 })
		c.Systemctl("kill", "--signal=USR2", "--kill-whom=main", "rig-probe.service")
		eventually(t, "it execs itself", func() bool {
			r, err := testclient.Ask(c.Path(socket), "report")
			return err == nil && r.Execs == 1
		})
		if again := c.MainPID("rig-probe.service"); again != pid {
			t.Errorf("pid %v after exec, want %v", again, pid)
		}
		checkState(t, c, pid)
	})
}

// checkState compares what the process says of itself with what is seen from outside.
func checkState(t *testing.T, c *rig.Container, pid rig.PID) {
	t.Helper()
	s, err := procstate.Read(pid.Host)
	if err != nil {
		t.Fatal(err)
	}
	if s.UID[0] < 61184 || s.Env["RUNTIME_DIRECTORY"] != "/run/rig-probe" || s.Argv[1] != "-notify" || s.CWD != "/" {
		t.Errorf("unexpected state: %+v", s)
	}
	if s.Limits["Max open files"] == "" || s.Signals["SigIgn"] == "" || s.Caps["CapBnd"] == "" {
		t.Errorf("state is not complete: %+v", s)
	}
	if !c.Exists("/run/rig-probe/state.json") {
		t.Error("the service wrote no state")
	}
}

// TestNotifyReload shows that the service talks the protocol of Type=notify-reload, which 252 does not know.
func TestNotifyReload(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		if c.SystemdVersion() < 253 {
			t.Logf("systemd %d has no Type=notify-reload", c.SystemdVersion())
			return
		}
		c.WriteUnit("rig-reload.service", `[Service]
Type=notify-reload
RuntimeDirectory=rig-reload
ExecStart=testservice -notify -control /run/rig-reload/control
`)
		c.Systemctl("start", "rig-reload.service")
		for i := range 3 {
			c.Systemctl("reload", "rig-reload.service")
			if got := c.AskService("/run/rig-reload/control", "report").Reloads; got != i+1 {
				t.Fatalf("%d reloads after %d", got, i+1)
			}
		}
	})
}

// TestSocketActivation shows that the service accepts on what systemd listened on.
func TestSocketActivation(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		c.WriteFile("/srv/rig-page", "page\n", 0o644)
		defer c.Remove("/srv/rig-page")
		c.WriteUnit("rig-socket.service", "[Service]\nExecStart=testservice -serve /srv/rig-page\n")
		c.WriteUnit("rig-socket.socket", "[Socket]\nListenStream=127.0.0.1:8100\n")
		c.Systemctl("start", "rig-socket.socket")
		if got := c.Get("127.0.0.1:8100"); got != "page\n" {
			t.Errorf("the service sent %q", got)
		}
	})
}

// eventually waits for what another process does in its own time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}
