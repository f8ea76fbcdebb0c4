package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/reload"
)

// A hostMerge is one of systemd's two tools that merge extensions on the host.
type hostMerge struct {
	tool, dir, release, file string
	hidden                   string // from the service that keeps an old merge
}

var hostMerges = []hostMerge{
	{"systemd-sysext", "/var/lib/extensions", "/usr/lib/extension-release.d/extension-release.", "/usr/share/repair-version", "/usr/share/dpkg"},
	{"systemd-confext", "/var/lib/confexts", "/etc/extension-release.d/extension-release.", "/etc/repair-version", "/etc/shadow"},
}

// install makes an extension that ships the version; of several, the one that is last by name counts.
func (m hostMerge) install(c *rig.Container, version string) {
	name := "repair" + version
	c.Cleanup(func() { c.Remove(m.dir + "/" + name) })
	c.WriteFile(m.dir+"/"+name+m.release+name, "ID=_any\n", 0o644)
	c.WriteFile(m.dir+"/"+name+m.file, version+"\n", 0o644)
}

// TestRepairHostMerge: services whose own mounts keep an older merge of the host's, or none, in their namespaces
// are named by a dry run, and get the host's tree: the same process goes on, and no lookup fails.
func TestRepairHostMerge(t *testing.T) {
	for _, s := range rig.Suites() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Boot(t, s, rig.Options{}) // alone: what the host merges, all services see
			for _, m := range hostMerges {
				if m.tool == "systemd-confext" && c.SystemdVersion() < 254 {
					continue
				}
				t.Run(m.tool, func(t *testing.T) { repairHostMerge(t, c.For(t), m) })
			}
		})
	}
}

func repairHostMerge(t *testing.T, c *rig.Container, m hostMerge) {
	if !c.Exists(m.dir) {
		c.Cleanup(func() { c.Remove(m.dir) })
	}
	// A mount below the hierarchy keeps an old merge in a namespace; MountFlags=private lets none in.
	never := m.unit(t, c, "never", "MountFlags=private\n")
	older := m.unit(t, c, "older", "ProtectSystem=full\nInaccessiblePaths="+m.hidden+"\n")
	follows := m.unit(t, c, "follows", "ProtectSystem=full\n")
	ours := m.wrapped(t, c)
	c.Cleanup(func() { c.Must(m.tool, "unmerge") }) // or the units could not be removed from /etc
	never.run()
	m.install(c, "1")
	c.Must(m.tool, "merge")
	older.run()
	follows.run()
	ours.run()
	older.sees(m.file, "1\n")
	ours.sees(m.file, "1\n")
	ours.sees(m.hierarchy()+"/repair-ours", "ours\n")
	m.install(c, "2")
	c.Must(m.tool, "refresh")
	follows.sees(m.file, "2\n")
	older.sees(m.file, "1\n")

	stale := staleNow(t, c, "--dry-run")
	for _, want := range []string{
		never.unit + " " + m.hierarchy() + ": no merge\n",
		older.unit + " " + m.hierarchy() + ": an older merge\n",
		ours.unit + " " + m.hierarchy() + ": generation 1 over an older merge\n",
	} {
		if !strings.Contains(stale, want) {
			t.Errorf("the dry run does not name %q:\n%s", want, stale)
		}
	}
	if strings.Contains(stale, follows.unit) {
		t.Errorf("the dry run names what follows:\n%s", stale)
	}
	older.sees(m.file, "1\n") // nothing was changed
	older.ask("forget")
	never.ask("forget")
	ours.ask("forget")
	t.Logf("%s", c.Must("extexec", "repair"))
	if again := c.Must("extexec", "repair"); again != "Nothing to repair." {
		t.Errorf("a second repair:\n%s", again)
	}
	for _, a := range []*adoptee{never, older, ours} {
		a.sees(m.file, "2\n")
		if now := c.MainPID(a.unit); now != a.pid {
			t.Errorf("main process of %s is %v, was %v", a.unit, now, a.pid)
		}
	}
	older.unharmed()
	ours.unharmed()
	ours.sees(m.hierarchy()+"/repair-ours", "ours\n")
	if now := ours.sources(m.hierarchy()); strings.Count(strings.Join(now, " "), "extexec:1.2:") != 1 || !strings.HasPrefix(now[len(now)-1], "extexec:") {
		t.Errorf("%s has the overlays %q on it", m.hierarchy(), now)
	}
	if f := never.ask("forget").File("/etc/os-release"); f.Failed != 0 || f.Lookups == 0 {
		t.Errorf("%s: %d of %d lookups failed", never.unit, f.Failed, f.Lookups)
	}
	inside := fmt.Sprintf("/proc/%d/root", older.pid.Inside)
	if mode := c.Must("stat", "-c", "%a", inside+m.hidden); mode != "0" {
		t.Errorf("what InaccessiblePaths= hides has mode %q", mode)
	}
	if r := c.Exec(t.Context(), "touch", inside+m.hierarchy()+"/written"); !strings.Contains(r.Stderr, "Read-only") {
		t.Errorf("what ProtectSystem= protects can be written to: %v", r)
	}
}

// unit writes a unit that reads the file, and can be started once.
func (m hostMerge) unit(t *testing.T, c *rig.Container, name, settings string) *adoptee {
	t.Helper()
	a := newAdoptee(t, c, strings.TrimPrefix(m.tool, "systemd-")+"-"+name)
	c.WriteUnit(a.unit, a.text("PrivateTmp=yes\n"+settings, m.file, "/etc/os-release"))
	return a
}

// wrapped is a unit with an extension of its own in the same hierarchy.
func (m hostMerge) wrapped(t *testing.T, c *rig.Container) *adoptee {
	t.Helper()
	a := newAdoptee(t, c, strings.TrimPrefix(m.tool, "systemd-")+"-ours")
	file := m.hierarchy() + "/repair-ours"
	a.ship("own.v/own_1", files{file: "ours\n"})
	text := a.text("ProtectSystem=full\nInaccessiblePaths="+m.hidden+"\n[X-Extexec]\nExtensionDirectories=%D/own.v\n", m.file, file)
	c.WriteUnit(a.unit, strings.Replace(text, "ExecStart=", "ExecStart=!/usr/bin/extexec run -- /usr/bin/", 1))
	return a
}

func (m hostMerge) hierarchy() string { return "/" + strings.Split(m.file, "/")[1] }

func (a *adoptee) run() {
	a.t.Helper()
	a.c.Systemctl("start", a.unit)
	a.pid = a.c.MainPID(a.unit)
}

// staleNow is what a repair says, a line for each hierarchy.
func staleNow(t *testing.T, c *rig.Container, flags ...string) string {
	t.Helper()
	var found struct{ Services []reload.Repaired }
	out := c.Must(append([]string{"extexec", "repair", "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	var text strings.Builder
	for _, s := range found.Services {
		for _, h := range s.Stale {
			fmt.Fprintf(&text, "%s %s: %s\n", s.Name, h.Path, h.Shows)
		}
	}
	return text.String()
}
