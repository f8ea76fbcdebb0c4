package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

// shipped are services of Debian's, of which the verbs get to see nothing but the package. Each of them says itself
// which version of its configuration it has; redis has no reload, so its files are looked at in its place.
var shipped = []func(t *testing.T, c *rig.Container) *packaged{
	packagedNginx, packagedSSH,
	func(t *testing.T, c *rig.Container) *packaged {
		return &packaged{t: t, c: c, unit: "postgresql@17-main.service", file: "/etc/postgresql/17/main/conf.d/version.conf",
			text: func(version int) string { return fmt.Sprintf("extexec.version = '%d'\n", version) },
			sees: says(t, c, "setpriv --reuid=postgres --regid=postgres --clear-groups psql -Atc 'show extexec.version'", "%d")}
	},
	func(t *testing.T, c *rig.Container) *packaged {
		// With NoExecPaths= and ExecPaths= the package mounts below /usr.
		return &packaged{t: t, c: c, unit: "redis-server.service", file: "/etc/redis/version", shared: "/usr/share/extexec-redis", unwrapped: []string{"CapabilityBoundingSet", "PrivateUsers", "RestrictNamespaces", "SystemCallFilter"},
			text: func(version int) string { return fmt.Sprintf("version %d\n", version) },
			sees: says(t, c, "redis-cli ping; cat /proc/$(systemctl show -P MainPID redis-server)/root/{etc/redis/version,usr/share/extexec-redis}", "PONG\nversion %[1]d\nshared %[1]d")}
	},
	func(t *testing.T, c *rig.Container) *packaged {
		return &packaged{t: t, c: c, unit: "haproxy.service", file: "/etc/haproxy/haproxy.cfg",
			text: func(version int) string {
				return fmt.Sprintf(`global
	chroot /var/lib/haproxy
	stats socket /run/haproxy/admin.sock mode 660 level admin
	user haproxy
	group haproxy
defaults
	mode http
	timeout connect 5000
	timeout client 50000
	timeout server 50000
frontend page
	bind 127.0.0.1:8086
	http-request return status 200 content-type text/plain string "proxy %d"
`, version)
			},
			sees: serves(t, c, "http://127.0.0.1:8086/", "proxy %d")}
	},
	func(t *testing.T, c *rig.Container) *packaged {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.Dial(ctx, network, "127.0.0.1:53")
		}}
		return &packaged{t: t, c: c, unit: "unbound.service", file: "/etc/unbound/unbound.conf.d/version.conf",
			text: func(version int) string {
				return fmt.Sprintf("server:\n  local-zone: \"extexec.test.\" static\n  local-data: 'version.extexec.test. TXT \"zone %d\"'\n", version)
			},
			sees: func(version int) {
				t.Helper()
				eventually(t, fmt.Sprintf("unbound has zone %d", version), func() bool {
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					defer cancel()
					texts, err := resolver.LookupTXT(ctx, "version.extexec.test.")
					return err == nil && len(texts) == 1 && texts[0] == fmt.Sprintf("zone %d", version)
				})
			}}
	},
	func(t *testing.T, c *rig.Container) *packaged {
		return &packaged{t: t, c: c, unit: "prometheus.service", file: "/etc/prometheus/prometheus.yml", unwrapped: []string{"CapabilityBoundingSet", "PrivateUsers", "RestrictNamespaces"},
			text: func(version int) string {
				return fmt.Sprintf("global:\n  external_labels:\n    version: label-%d\n", version)
			},
			sees: serves(t, c, "http://127.0.0.1:9090/api/v1/status/config", "version: label-%d")}
	},
}

// says waits until what a shell prints is the text with the version in it.
func says(t *testing.T, c *rig.Container, script, text string) func(version int) {
	return func(version int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%q says %q", script, fmt.Sprintf(text, version)), func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			return strings.TrimSpace(c.Exec(ctx, "bash", "-c", script).Stdout) == fmt.Sprintf(text, version)
		})
	}
}

// serves waits until a page has the text with the version in it.
func serves(t *testing.T, c *rig.Container, url, text string) func(version int) {
	client := c.HTTPClient()
	return func(version int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s has %q", url, fmt.Sprintf(text, version)), func() bool {
			client.CloseIdleConnections() // what was there before keeps its connections
			resp, err := client.Get(url)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			page, err := io.ReadAll(resp.Body)
			return err == nil && strings.Contains(string(page), fmt.Sprintf(text, version))
		})
	}
}

// TestShippedServices gives the services their configuration as a confext by each verb alone, reloads new versions,
// and takes all of it back. Where a setting of the package forbids the wrapper, the verb names it, and adopt does it.
func TestShippedServices(t *testing.T) {
	t.Parallel()
	c := rig.Boot(t, rig.TrixieServices, rig.Options{})
	for _, make := range shipped {
		name := make(t, c).name()
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"wrap", "adopt"} {
				t.Run(verb, func(t *testing.T) {
					p := make(t, c.For(t))
					p.c.UseUnit(p.unit)
					if verb == "wrap" && p.unwrapped != nil {
						p.refused()
						return
					}
					p.whole(verb)
				})
			}
		})
	}
}

// refused checks that wrap names what forbids it, offers the other way, and writes nothing.
func (p *packaged) refused() {
	p.t.Helper()
	p.install(1)
	p.c.Cleanup(func() { p.c.Remove("/srv/units") })
	r := p.verb("wrap", "--extension-directory", p.ref(), p.name())
	if r.Code != 1 || p.c.Exists(p.dropIn()) || !strings.Contains(r.Stderr, "the other way would do: extexec adopt "+p.unit) {
		p.t.Errorf("wrap: %s", r)
	}
	for _, setting := range p.unwrapped {
		if !strings.Contains(r.Stderr, "/usr/lib/systemd/system/"+p.unit+":") || !strings.Contains(r.Stderr, setting+"=") {
			p.t.Errorf("wrap does not name %s=: %s", setting, r)
		}
	}
}
