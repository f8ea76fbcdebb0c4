package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/rig"
)

// TestSystemdTakesTheDropIns has both verbs write the drop-ins of units as Debian ships them, and asks systemd
// what it made of them: every unit loads, calls extexec, and is as before after the undo.
func TestSystemdTakesTheDropIns(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../units/testdata/*.service")
	if err != nil || len(files) != 7 {
		t.Fatalf("units: %q, %v", files, err)
	}
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		dir := c.TempDir()
		c.WriteFile(dir+"/app/usr/lib/extension-release.d/extension-release.app", "ID=_any\n", 0o644)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := "dropin-" + filepath.Base(file)
			c.WriteUnit(name, string(text))
			name = strings.Replace(name, "@", "@15-main", 1)
			before := loaded(c, name)
			for _, verb := range []string{"adopt", "wrap"} {
				p := &packaged{t: t, c: c, unit: name}
				r := p.verb(verb, "--extension-directory", dir+"/app", name)
				if verb == "wrap" && strings.Contains(string(text), "PrivateUsers=true") {
					if r.Code != 1 || !strings.Contains(r.Stderr, "PrivateUsers= forbids the wrapper") || !strings.Contains(r.Stderr, "the other way would do: extexec adopt "+name) {
						t.Errorf("%s %s: %s", verb, name, r)
					}
					continue
				}
				if r.Code != 0 {
					t.Errorf("%s %s: %s", verb, name, r)
					continue
				}
				checkLoaded(t, c, verb, name)
				if r := p.verb(verb, "--undo", name); r.Code != 0 || c.Exists("/etc/systemd/system/"+name+".d") {
					t.Errorf("undo %s of %s: %s", verb, name, r)
				}
				if d := cmp.Diff(before, loaded(c, name)); d != "" {
					t.Errorf("%s: after the undo of %s (-before +after):\n%s", name, verb, d)
				}
			}
		}
	})
}

// loaded is what systemd has of a unit.
func loaded(c *rig.Container, name string) map[string]string {
	properties := map[string]string{}
	for line := range strings.Lines(c.Systemctl("show", name, "--property=LoadState,ExecStart,ExecReload,ExecStop,ExtensionDirectories,Type,DropInPaths")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		properties[key] += value
	}
	return properties
}

// checkLoaded looks at what systemd has of a unit that one of the verbs has changed.
func checkLoaded(t *testing.T, c *rig.Container, verb, name string) {
	t.Helper()
	is := loaded(c, name)
	if s := is["LoadState"]; s != "loaded" {
		t.Errorf("%s %s: the unit is %s", verb, name, s)
	}
	if s := is["ExecReload"]; strings.Count(s, "path=") != 1 || !strings.Contains(s, "argv[]=/usr/bin/extexec reload ;") {
		t.Errorf("%s %s: ExecReload is %s", verb, name, s)
	}
	if s := is["ExecStart"]; strings.Contains(s, "argv[]=/usr/bin/extexec run --unit "+name+" -- /") != (verb == "wrap") || strings.Count(s, "path=") != 1 {
		t.Errorf("%s %s: ExecStart is %s", verb, name, s)
	}
	if s := is["ExecStop"]; strings.Contains(s, "path=") && strings.Contains(s, "argv[]=/usr/bin/extexec exec "+name+" -- /") != (verb == "wrap") {
		t.Errorf("%s %s: ExecStop is %s", verb, name, s)
	}
	if s := is["ExtensionDirectories"]; verb == "adopt" && !strings.HasSuffix(s, "/app") {
		t.Errorf("adopt %s: ExtensionDirectories is %s", name, s)
	}
	if log := c.Journal(name); strings.Contains(log, "50-extexec.conf") {
		t.Errorf("%s %s: systemd complains:\n%s", verb, name, log)
	}
}
