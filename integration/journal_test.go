package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/internal/journald"
)

// TestJournalEntries reads the entries of a reload, a refusal and a rollback with their fields, and what the catalog
// says of them.
func TestJournalEntries(t *testing.T) {
	c := rig.Boot(t, rig.Forky, rig.Options{}) // alone: the catalog is the whole system's
	const unit = "journal-test.service"
	dir := c.TempDir()
	version := func(n, text string) string {
		c.WriteFile(dir+"/part/etc/extension-release.d/extension-release.web", "ID=_any\n", 0o644)
		c.WriteFile(dir+"/part/etc/web/conf", text, 0o644)
		c.Mkdir(dir + "/web.v")
		c.Rename(dir+"/part", dir+"/web.v/web_"+n)
		return dir + "/web.v/web_" + n
	}
	one := version("1", "good\n")
	c.WriteUnit(unit, fmt.Sprintf(`[Service]
Type=notify
ExecStart=!/usr/bin/extexec run -- /usr/bin/testservice -notify
ExecReload=+/usr/bin/extexec reload
[X-Extexec]
ExtensionDirectories=%s/web.v
ReloadCheck=/usr/bin/grep good /etc/web/conf
`, dir))
	c.Systemctl("start", unit)
	two := version("2", "good, too\n")
	c.Systemctl("reload", unit)
	three := version("3", "bad\n")
	if r := c.Exec(t.Context(), "systemctl", "reload", unit); r.Code == 0 {
		t.Error("the reload did not fail")
	}
	c.Must("extexec", "rollback", unit) // by hand

	wantEntry(t, c, unit, journald.IDExchanged, map[string]string{"EXTEXEC_GENERATION": "2", "EXTEXEC_EXTENSION": two, "PRIORITY": "6"})
	wantEntry(t, c, unit, journald.IDRefused, map[string]string{
		"EXTEXEC_GENERATION": "2", "EXTEXEC_EXTENSION": three, "EXTEXEC_VERB": "reload", "EXTEXEC_STEP": "check", "PRIORITY": "3",
	})
	wantEntry(t, c, unit, journald.IDRolledBack, map[string]string{"EXTEXEC_EXTENSION": one, "EXTEXEC_BACK_TO": "1", "PRIORITY": "6"})

	c.CopyIn("../share/extexec.catalog", "/usr/lib/systemd/catalog/extexec.catalog")
	c.Cleanup(func() {
		c.Remove("/usr/lib/systemd/catalog/extexec.catalog")
		c.Must("journalctl", "--update-catalog")
	})
	c.Must("journalctl", "--update-catalog")
	said := c.Must("journalctl", "-x", "-u", unit, "MESSAGE_ID="+journald.IDRefused)
	for _, part := range []string{"New extensions of " + unit + " were refused", "Nothing has changed: generation 2 is live"} {
		if !strings.Contains(said, part) {
			t.Errorf("journalctl -x does not say %q: %s", part, said)
		}
	}
}

// wantEntry looks at the last entry of a unit with a message id: it has these fields, and those that all have.
func wantEntry(t *testing.T, c *rig.Container, unit, id string, fields map[string]string) {
	t.Helper()
	fields["UNIT"], fields["EXTEXEC_NAME"], fields["SYSLOG_IDENTIFIER"] = unit, unit, "extexec"
	c.Must("journalctl", "--sync")
	var entry map[string]any
	text := c.Must("journalctl", "-u", unit, "-o", "json", "-n", "1", "MESSAGE_ID="+id)
	if err := json.Unmarshal([]byte(text), &entry); err != nil {
		t.Errorf("entry %s: %v: %s", id, err, text)
		return
	}
	got := map[string]string{}
	for key := range fields {
		got[key] = fmt.Sprint(entry[key])
	}
	if d := cmp.Diff(fields, got); d != "" {
		t.Errorf("entry %s (-want +got):\n%s", id, d)
	}
}

// TestJournalOfStarts reads the entries of a start that was refused, and of one with earlier extensions. A unit whose
// filter kills for a socket gets its lines, and its exit code.
func TestJournalOfStarts(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for name, filter := range map[string]string{
			"socket": "ProtectSystem=strict\nSystemCallFilter=@system-service @mount\n",
			"muted":  "SystemCallFilter=~@network-io\n",
		} {
			t.Run(name, func(t *testing.T) { journalOfStarts(t, c.For(t), "journal-start-"+name, filter, name == "muted") })
		}
	})
}

func journalOfStarts(t *testing.T, c *rig.Container, name, filter string, muted bool) {
	a := newAdoptee(t, c, name)
	c.WriteUnit(a.unit, strings.ReplaceAll(`[Service]
Type=exec
ExecStart=!/usr/bin/extexec run -- /usr/bin/sleep infinity
`+filter+`[X-Extexec]
ExtensionDirectories=%D/web.v
ReloadCheck=/usr/bin/grep good /etc/web/conf
`, "%D", a.dir))
	start := func(version int, text string, generations int) (path string) {
		t.Helper()
		path = fmt.Sprintf("web.v/web_%d", version)
		a.ship(path, files{"/etc/web/conf": text})
		c.Exec(t.Context(), "systemctl", "restart", a.unit) // under Type=exec it may have succeeded when the start fails
		eventually(t, fmt.Sprintf("%d generations were tried", generations), func() bool {
			return strings.Count(c.Exec(t.Context(), "extexec", "history", a.unit).Stdout, "\n") == generations+1
		})
		return a.dir + "/" + path
	}
	entry := func(id string, fields map[string]string) {
		t.Helper()
		if !muted {
			wantEntry(t, c, a.unit, id, fields)
		} else if text := c.Exec(t.Context(), "journalctl", "-o", "json", "_SYSTEMD_UNIT="+a.unit, "MESSAGE_ID="+id).Stdout; text != "" {
			t.Errorf("there is an entry: %s", text)
		}
		if log := c.Journal(a.unit); !strings.Contains(log, "ReloadCheck=/usr/bin/grep good") {
			t.Errorf("the journal does not say what failed: %s", log)
		}
	}
	bad := start(1, "bad\n", 1)
	eventually(t, "the start has failed", func() bool { return c.Show(a.unit, "ExecMainStatus") == "226" })
	entry(journald.IDStartRefused, map[string]string{
		"EXTEXEC_EXTENSION": bad, "EXTEXEC_VERB": "run", "EXTEXEC_STEP": "check", "PRIORITY": "3", "EXTEXEC_GENERATION": "<nil>",
	})
	good := start(2, "good\n", 2)
	start(3, "bad, too\n", 4)
	entry(journald.IDFellBack, map[string]string{
		"EXTEXEC_EXTENSION": good, "EXTEXEC_GENERATION": "4", "EXTEXEC_BACK_TO": "2", "PRIORITY": "4",
	})
}
