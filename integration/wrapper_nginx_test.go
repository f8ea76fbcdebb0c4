package integration

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// wrapNginx is a drop-in for the unit as Debian ships it: Type=forking, with a PIDFile=.
const wrapNginx = `[Service]
ExecStart=
ExecStart=!/usr/bin/extexec run -- /usr/sbin/nginx -g 'daemon on; master_process on;'
ExecReload=
ExecReload=+/usr/bin/extexec reload

[X-Extexec]
ExtensionDirectories=%s/nginx.v
ReloadSignal=HUP
`

// TestWrapperNginx wraps nginx as shipped, and reloads it before and after nginx has replaced its own binary
// (USR2), which leaves it with another main process, and once by hand.
func TestWrapperNginx(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const unit = "nginx.service"
		dir := c.TempDir()
		install := func(version string) {
			part := dir + "/part"
			c.WriteFile(part+"/etc/extension-release.d/extension-release.nginx", "ID=_any\n", 0o644)
			c.WriteFile(part+"/etc/nginx/conf.d/wrap.conf", "server { listen 127.0.0.1:8411; root /etc/nginx/wrap; add_header X-Version "+version+"; }\n", 0o644)
			c.WriteFile(part+"/etc/nginx/wrap/page", "page "+version+"\n", 0o644)
			c.Mkdir(dir + "/nginx.v")
			c.Rename(part, dir+"/nginx.v/nginx_"+version)
		}
		// The page is there at once; the workers that know the new configuration a moment later.
		serves := func(version string) {
			t.Helper()
			eventually(t, "nginx serves version "+version, func() bool {
				resp, err := c.HTTPClient().Get("http://127.0.0.1:8411/page")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				page, err := io.ReadAll(resp.Body)
				return err == nil && string(page) == "page "+version+"\n" && resp.Header.Get("X-Version") == version
			})
		}
		install("1")
		c.WriteUnit(unit+".d/50-extexec.conf", fmt.Sprintf(wrapNginx, dir))
		c.Systemctl("start", unit)
		serves("1")
		first := c.MainPID(unit)
		if file := strings.TrimSpace(c.ReadFile("/run/nginx.pid")); file != fmt.Sprint(first.Inside) {
			t.Errorf("main process %v, and nginx says %s", first, file)
		}

		install("2")
		c.Systemctl("reload", unit)
		serves("2")
		if now := c.MainPID(unit); now != first {
			t.Errorf("main process %v after the reload, was %v", now, first)
		}

		second := upgradeNginx(t, c, unit, first)
		install("3")
		c.Must("extexec", "reload", unit) // the recorded process is gone: another one must be found
		serves("3")
		install("4")
		c.Systemctl("reload", unit)
		serves("4")
		if now := c.MainPID(unit); now != second {
			t.Errorf("main process %v after the reloads, was %v", now, second)
		}
	})
}

// upgradeNginx has nginx execute its binary anew and ends the old one, as nginx's documentation describes. It
// returns the new main process.
func upgradeNginx(t *testing.T, c *rig.Container, unit string, old rig.PID) rig.PID {
	t.Helper()
	c.Must("kill", "-USR2", fmt.Sprint(old.Inside))
	eventually(t, "the new master writes its pid", func() bool { return c.Exists("/run/nginx.pid.oldbin") && c.Exists("/run/nginx.pid") })
	c.Must("kill", "-QUIT", fmt.Sprint(old.Inside))
	eventually(t, "systemd knows the new main process", func() bool {
		pid := c.Show(unit, "MainPID")
		return pid != fmt.Sprint(old.Inside) && pid != "0"
	})
	return c.MainPID(unit)
}
