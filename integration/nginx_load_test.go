package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// nginxConf is a whole nginx.conf, which says its version in a header; the page lies beside it.
const nginxConf = `user www-data;
worker_processes 2;
pid /run/%[1]s.pid;
error_log /var/log/nginx/error.log;
events { worker_connections 256; }
http {
	access_log off;
	default_type text/plain;
	add_header X-Version %[2]d;
	keepalive_requests 100000;
	server { listen 127.0.0.1:%[3]d; root /etc/nginx/extexec-%[1]s; }
}
`

// TestNginxUnderLoad gives Debian's nginx a new page and a new nginx.conf, as versions of a confext, while
// clients ask for it without a pause: no request fails, and the master process stays.
func TestNginxUnderLoad(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		t.Run("wrapper", func(t *testing.T) {
			nginxUnderLoad(t, c.For(t), "load-wrapper", 8301, func(unit string) string {
				return strings.ReplaceAll(unit, "ExecStart=", "ExecStart=/usr/bin/extexec run -- ") + "[X-Extexec]\nExtensionDirectories=%D/nginx.v\n"
			})
		})
		if !confexts(c) {
			return
		}
		t.Run("adopt", func(t *testing.T) {
			nginxUnderLoad(t, c.For(t), "load-adopt", 8302, func(unit string) string {
				return unit + "ExtensionDirectories=%D/nginx.v\n" + keepOffLine + "[X-Extexec]\n"
			})
		})
	})
}

// nginxUnderLoad runs the unit that the package ships, with other names for what there can be one of only.
func nginxUnderLoad(t *testing.T, c *rig.Container, name string, port int, change func(unit string) string) {
	a := newAdoptee(t, c, name)
	a.unit = name + ".service"
	ship := func(version int) {
		a.ship(fmt.Sprintf("nginx.v/nginx_%d", version), files{
			"/etc/nginx/nginx.conf":                fmt.Sprintf(nginxConf, name, version, port),
			"/etc/nginx/extexec-" + name + "/page": fmt.Sprintf("page %d\n", version),
		})
	}
	shipped, _, _ := strings.Cut(c.ReadFile("/usr/lib/systemd/system/nginx.service"), "[Install]")
	shipped = strings.ReplaceAll(shipped, "/run/nginx.pid", "/run/"+name+".pid")
	unit := change(shipped+"ExecReload=\n"+reloadLine) + "ReloadSignal=HUP\n"
	ship(1)
	c.WriteUnit(a.unit, strings.ReplaceAll(unit, "%D", a.dir))
	c.Systemctl("start", a.unit)
	a.pid = c.MainPID(a.unit)

	load := startLoad(t, c, fmt.Sprintf("http://127.0.0.1:%d/page", port))
	for version := 2; version <= 4; version++ {
		load.await(version - 1)
		ship(version)
		a.reload()
		load.await(version)
	}
	load.stop()
	a.oursOn("/etc")
	a.status()
	t.Logf("%d requests", load.done.Load())
}

// load is a set of clients that ask for one page again and again.
type load struct {
	t       *testing.T
	stopped atomic.Bool
	clients sync.WaitGroup
	failed  atomic.Int64
	done    atomic.Int64
	seen    [8]atomic.Int64 // by version, answers that have page and header of it
}

// startLoad starts clients that keep their connection, and clients that make a new one for every request.
func startLoad(t *testing.T, c *rig.Container, url string) *load {
	l := &load{t: t}
	kept := c.HTTPClient()
	fresh := &http.Client{Transport: &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}, Timeout: kept.Timeout}
	for _, client := range []*http.Client{kept, kept, fresh, fresh} {
		l.clients.Go(func() {
			for !l.stopped.Load() {
				if err := l.ask(client, url); err != nil && l.failed.Add(1) <= 5 {
					t.Errorf("request %d failed: %v", l.done.Load(), err)
				}
				l.done.Add(1)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) ask(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var version int
	if _, err := fmt.Sscanf(string(body), "page %d\n", &version); err != nil || resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status + ": " + string(body))
	}
	// A worker of before the reload answers with the header of its configuration and the page of now.
	if resp.Header.Get("X-Version") == fmt.Sprint(version) {
		l.seen[version].Add(1)
	}
	return nil
}

// await waits until the version's page has been served, under its configuration, some more times.
func (l *load) await(version int) {
	l.t.Helper()
	want := l.seen[version].Load() + 100
	eventually(l.t, fmt.Sprintf("version %d is served", version), func() bool { return l.seen[version].Load() >= want })
}

// stop ends the clients. It may be called again.
func (l *load) stop() {
	l.stopped.Store(true)
	l.clients.Wait()
}
