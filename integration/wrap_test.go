package integration

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

// A packaged is a unit that Debian ships, which is given extensions by a verb.
type packaged struct {
	t    *testing.T
	c    *rig.Container
	unit string
	// file is where a version's files go, and text what is in it.
	file string
	text func(version int) string
	// sees waits for what the service says of itself to be of that version.
	sees func(version int)
	// shared is a file below /usr that a version also has, "" for none.
	shared string
	// unwrapped are the settings of the package that forbid the wrapper.
	unwrapped []string
}

const wrapVerbDropIn = "/50-extexec.conf"

func (p *packaged) name() string { return strings.TrimSuffix(p.unit, ".service") }

func (p *packaged) dropIn() string { return "/etc/systemd/system/" + p.unit + ".d" + wrapVerbDropIn }

// ref is the versioned directory of the unit's confext.
func (p *packaged) ref() string { return "/srv/units/" + p.name() + ".v" }

// install makes a version appear by rename.
func (p *packaged) install(version int) {
	p.t.Helper()
	made := "/srv/units/incoming-" + p.name()
	p.c.WriteFile(made+"/etc/extension-release.d/extension-release."+p.name(), "ID=_any\n", 0o644)
	p.c.WriteFile(made+p.file, p.text(version), 0o644)
	if p.shared != "" {
		p.c.WriteFile(made+"/usr/lib/extension-release.d/extension-release."+p.name(), "ID=_any\n", 0o644)
		p.c.WriteFile(made+p.shared, fmt.Sprintf("shared %d\n", version), 0o644)
	}
	p.c.Mkdir(p.ref())
	p.c.Rename(made, fmt.Sprintf("%s/%s_%d", p.ref(), p.name(), version))
}

// verb runs extexec and returns what it came to.
func (p *packaged) verb(args ...string) rig.Result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return p.c.Exec(ctx, append([]string{"extexec"}, args...)...)
}

// whole adopts or wraps the unit by the verb, reloads it, and takes it back.
func (p *packaged) whole(verb string) {
	p.t.Helper()
	t, c := p.t, p.c
	p.install(1)
	c.Cleanup(func() {
		p.verb(verb, "--undo", p.name()) // where the test has ended early
		c.Remove("/srv/units")
	})
	dry := p.verb(verb, "--dry-run", "--extension-directory", p.ref(), p.name())
	if dry.Code != 0 || c.Exists(p.dropIn()) {
		t.Fatalf("%s --dry-run: %s", verb, dry)
	}
	if done := p.verb(verb, "--extension-directory", p.ref(), p.name()); done.Code != 0 || done.Stdout != dry.Stdout || c.ReadFile(p.dropIn()) != dry.Stdout {
		t.Fatalf("%s: %s\nwas to write\n%s", verb, done, dry.Stdout)
	}
	if lint := p.verb("lint", p.unit); lint.Code != 0 || strings.Contains(lint.Stdout, "error:") {
		t.Errorf("lint: %s", lint)
	}
	c.Systemctl("restart", p.unit)
	p.sees(1)
	pid := c.MainPID(p.unit)
	for version := 2; version <= 3; version++ {
		p.install(version)
		c.Systemctl("reload", p.unit)
		p.sees(version)
	}
	if now := c.MainPID(p.unit); now != pid {
		t.Errorf("main process %v, was %v", now, pid)
	}
	if s := c.Must("extexec", "status", p.name()); !strings.Contains(s, "as recorded") {
		t.Errorf("status: %s", s)
	}

	// The unit changes, the drop-in is made anew with the same extensions, and then
	// taken back: exactly what was written goes.
	c.WriteUnit(p.unit+".d/10-other.conf", "[Service]\nExecReload=\nExecReload=-/bin/true of the unit\n")
	if again := p.verb(verb, p.name()); again.Code != 0 || !strings.Contains(c.ReadFile(p.dropIn()), "ReloadCommand=-/bin/true of the unit\n") || !strings.Contains(c.ReadFile(p.dropIn()), "ExtensionDirectories="+p.ref()+"\n") {
		t.Errorf("%s again: %s", verb, again)
	}
	c.Systemctl("restart", p.unit)
	p.sees(3) // ready: under Type=simple a reload would end it before
	c.Systemctl("reload", p.unit)
	p.sees(3)
	c.Systemctl("stop", p.unit)
	if r := c.Show(p.unit, "Result"); r != "success" {
		t.Errorf("after the stop the result is %q:\n%s", r, c.Journal(p.unit))
	}
	other := map[string]string{"wrap": "adopt", "adopt": "wrap"}[verb]
	if wrong := p.verb(other, "--undo", p.name()); wrong.Code != 1 || !strings.Contains(wrong.Stderr, "extexec "+verb+" --undo") {
		t.Errorf("%s --undo: %s", other, wrong)
	}
	if undone := p.verb(verb, "--undo", p.name()); undone.Code != 0 || c.Exists(p.dropIn()) || !c.Exists("/etc/systemd/system/"+p.unit+".d/10-other.conf") {
		t.Errorf("%s --undo: %s", verb, undone)
	}
	if again := p.verb(verb, "--undo", p.name()); again.Code != 0 {
		t.Errorf("%s --undo, a second time: %s", verb, again)
	}
	if d := c.Show(p.unit, "DropInPaths"); strings.Contains(d, "extexec") {
		t.Errorf("systemd still has %s", d)
	}
	c.Systemctl("restart", p.unit) // as it is shipped
	if s := c.Show(p.unit, "ExecStart"); strings.Contains(s, "extexec") {
		t.Errorf("ExecStart is %s", s)
	}
	c.Systemctl("stop", p.unit)
}

func packagedNginx(t *testing.T, c *rig.Container) *packaged {
	c.UseUnit("nginx.service")
	return &packaged{t: t, c: c, unit: "nginx.service", file: "/etc/nginx/conf.d/page.conf",
		text: func(version int) string {
			return fmt.Sprintf("server { listen 127.0.0.1:8085; location / { return 200 \"page %d\"; } }\n", version)
		},
		sees: serves(t, c, "http://127.0.0.1:8085/", "page %d")}
}

func packagedSSH(t *testing.T, c *rig.Container) *packaged {
	c.UseUnit("ssh.service")
	return &packaged{t: t, c: c, unit: "ssh.service", file: "/etc/ssh/sshd_config.d/version.conf",
		text: func(version int) string { return fmt.Sprintf("VersionAddendum version-%d\n", version) },
		sees: func(version int) {
			t.Helper()
			eventually(t, fmt.Sprintf("sshd is version %d", version), func() bool {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				conn, err := c.Dial(ctx, "tcp", "127.0.0.1:22")
				if err != nil {
					return false
				}
				defer conn.Close()
				banner, err := bufio.NewReader(conn).ReadString('\n')
				return err == nil && strings.HasSuffix(strings.TrimSpace(banner), fmt.Sprintf(" version-%d", version))
			})
		}}
}

// TestWrapAndAdoptPackages gives Debian's nginx and ssh a confext by the verbs alone, as their packages have
// them, reloads new versions, and takes all of it back.
func TestWrapAndAdoptPackages(t *testing.T) {
	for _, suite := range []rig.Suite{rig.Bookworm, rig.Forky} {
		t.Run(suite.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Boot(t, suite, rig.Options{}) // alone: the units are others' too
			for name, unit := range map[string]func(*testing.T, *rig.Container) *packaged{"nginx": packagedNginx, "ssh": packagedSSH} {
				t.Run(name, func(t *testing.T) {
					t.Run("wrap", func(t *testing.T) { unit(t, c.For(t)).whole("wrap") })
					t.Run("adopt", func(t *testing.T) {
						p := unit(t, c.For(t))
						if c.SystemdVersion() >= 256 {
							p.whole("adopt")
							return
						}
						p.install(1)
						p.c.Cleanup(func() { p.c.Remove("/srv/units") })
						r := p.verb("adopt", "--extension-directory", p.ref(), p.name())
						if r.Code != 1 || p.c.Exists(p.dropIn()) || !strings.Contains(r.Stderr, "does not apply a confext for a unit, 254 does") || !strings.Contains(r.Stderr, "extexec wrap "+p.unit) {
							t.Errorf("adopt: %s", r)
						}
					})
				})
			}
		})
	}
}
