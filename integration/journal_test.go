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

	for _, want := range []struct {
		id     string
		fields map[string]string
	}{
		{journald.IDExchanged, map[string]string{"EXTEXEC_GENERATION": "2", "EXTEXEC_EXTENSION": two, "PRIORITY": "6"}},
		{journald.IDRefused, map[string]string{
			"EXTEXEC_GENERATION": "2", "EXTEXEC_EXTENSION": three, "EXTEXEC_VERB": "reload", "EXTEXEC_STEP": "check", "PRIORITY": "3",
		}},
		{journald.IDRolledBack, map[string]string{"EXTEXEC_EXTENSION": one, "EXTEXEC_BACK_TO": "1", "PRIORITY": "6"}},
	} {
		want.fields["UNIT"], want.fields["EXTEXEC_NAME"], want.fields["SYSLOG_IDENTIFIER"] = unit, unit, "extexec"
		var entry map[string]any
		text := c.Must("journalctl", "-u", unit, "-o", "json", "-n", "1", "MESSAGE_ID="+want.id)
		if err := json.Unmarshal([]byte(text), &entry); err != nil {
			t.Fatalf("entry %s: %v: %s", want.id, err, text)
		}
		got := map[string]string{}
		for key := range want.fields {
			got[key] = fmt.Sprint(entry[key])
		}
		if d := cmp.Diff(want.fields, got); d != "" {
			t.Errorf("entry %s (-want +got):\n%s", want.id, d)
		}
	}

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
