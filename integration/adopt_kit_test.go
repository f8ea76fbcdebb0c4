package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/integration/testclient"
	"github.com/extexec/extexec/reload/status"
)

// reloadLine is what an adopted unit has.
const reloadLine = "ExecReload=+/usr/bin/extexec reload\n"

// keepOffLine keeps systemd 260 and later from refreshing extensions itself; earlier ones ignore the line.
const keepOffLine = "RefreshOnReload=~extensions\n"

// An adoptee is a running test service whose extensions systemd has applied.
type adoptee struct {
	t    *testing.T
	c    *rig.Container
	dir  string // that its extensions lie in
	unit string
	// flags of the test service: by default it leaves the machine to others, too
	flags string
	pid   rig.PID
}

// newAdoptee makes a directory for the extensions of a unit that is started later.
func newAdoptee(t *testing.T, c *rig.Container, name string) *adoptee {
	t.Helper()
	a := &adoptee{t: t, c: c, dir: c.TempDir(), unit: "adopt-" + name + ".service", flags: "-pause 200us"}
	t.Cleanup(func() { // after the unit was stopped: clean-ups run in reverse
		c.Remove("/run/extexec/units/" + a.unit)
		c.Remove("/var/lib/extexec/units/" + a.unit)
	})
	return a
}

// files are what an extension ships, by path.
type files map[string]string

// ship puts an extension directory into place by rename, as a new version is installed: at is a path below
// a.dir, "conf.v/conf_2". The release file gets the name of the part before the "_". A file below /etc makes
// it a confext, any other a sysext.
func (a *adoptee) ship(at string, f files) {
	a.t.Helper()
	a.shipFor("ID=_any\n", at, f)
}

func (a *adoptee) shipFor(release, at string, f files) {
	a.t.Helper()
	made := a.dir + "/incoming"
	a.writeExtension(made, at, release, f)
	a.install(made, at)
}

// install renames what was made to at, below a.dir.
func (a *adoptee) install(made, at string) {
	a.t.Helper()
	to := a.dir + "/" + at
	if err := a.c.Inside(func() error { return os.MkdirAll(path.Dir(to), 0o755) }); err != nil {
		a.t.Fatal(err)
	}
	a.c.Rename(made, to)
}

func (a *adoptee) writeExtension(dir, at, release string, f files) {
	a.t.Helper()
	name, _, _ := strings.Cut(path.Base(at), "_")
	for p, text := range f {
		a.c.WriteFile(dir+p, text, 0o644)
		class := "/usr/lib"
		if strings.HasPrefix(p, "/etc/") {
			class = "/etc"
		}
		a.c.WriteFile(dir+class+"/extension-release.d/extension-release."+name, release, 0o644)
	}
}

// start writes the unit and starts it. %D in the settings is the directory of the extensions.
func (a *adoptee) start(settings string, reads ...string) {
	a.t.Helper()
	a.startWith(settings+keepOffLine+reloadLine, reads...)
}

// startWith is start without the lines that every adopted unit has.
func (a *adoptee) startWith(settings string, reads ...string) {
	a.t.Helper()
	a.c.WriteUnit(a.unit, a.text(settings, reads...))
	a.c.Systemctl("start", a.unit)
	a.pid = a.c.MainPID(a.unit)
}

// text is the unit's.
func (a *adoptee) text(settings string, reads ...string) string {
	name := strings.TrimSuffix(a.unit, ".service")
	exec := fmt.Sprintf("testservice -notify -control /run/%s/control %s", name, a.flags)
	for _, r := range reads {
		exec += " -read " + r
	}
	section := fmt.Sprintf("[Service]\nType=notify\nRuntimeDirectory=%s\nExecStart=%s\n", name, exec)
	return strings.ReplaceAll(section+settings, "%D", a.dir)
}

// reload has systemd reload the unit, and checks that it is the same process afterwards.
func (a *adoptee) reload() {
	a.t.Helper()
	a.c.Systemctl("reload", a.unit)
	if now := a.c.MainPID(a.unit); now != a.pid {
		a.t.Errorf("main process is %v after the reload, was %v", now, a.pid)
	}
}

// tryReload has systemd reload the unit, and says how that went.
func (a *adoptee) tryReload() rig.Result {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return a.c.Exec(ctx, "systemctl", "reload", a.unit)
}

func (a *adoptee) ask(word string) *testclient.Report {
	a.t.Helper()
	return a.c.AskService("/run/"+strings.TrimSuffix(a.unit, ".service")+"/control", word)
}

// sees waits until the running process reads the text from the file.
func (a *adoptee) sees(file, text string) {
	a.t.Helper()
	eventually(a.t, fmt.Sprintf("%s reads %q in %s", a.unit, text, file), func() bool {
		r := a.ask("report").File(file)
		return r != nil && r.Last == text
	})
}

// unharmed checks that no lookup of the service has failed since it was last called, and that it has looked.
func (a *adoptee) unharmed() {
	a.t.Helper()
	for _, f := range a.ask("forget").Files {
		if f.Failed != 0 || f.Lookups == 0 {
			a.t.Errorf("%s: %d of %d lookups of %s failed: %s", a.unit, f.Failed, f.Lookups, f.Path, f.FirstError)
		}
	}
}

// status is what extexec says of the unit; every hierarchy must be as it was recorded.
func (a *adoptee) status() *status.Status {
	a.t.Helper()
	var s status.Status
	if err := json.Unmarshal([]byte(a.c.Must("extexec", "status", "--json", a.unit)), &s); err != nil {
		a.t.Fatal(err)
	}
	if s.State != status.Live {
		a.t.Errorf("status says %q, want live", s.State)
	}
	for _, h := range s.Hierarchies {
		if h.State != status.AsRecorded && h.State != status.NoOverlay {
			a.t.Errorf("status says of %s: %s (top %q)", h.Path, h.State, h.Top)
		}
	}
	return &s
}

// generation is the number of the one that is live.
func (a *adoptee) generation() uint64 {
	a.t.Helper()
	return a.status().Generation.Number
}

// mounts is the mount table of the service.
func (a *adoptee) mounts() string {
	a.t.Helper()
	return a.c.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", a.pid.Inside))
}

// sources are what the mount table of the service has on the hierarchy, bottom to top, without the base.
func (a *adoptee) sources(hierarchy string) []string {
	a.t.Helper()
	var found []string
	for line := range strings.Lines(a.mounts()) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if ok && l[4] == hierarchy && r[0] == "overlay" {
			found = append(found, r[1])
		}
	}
	return found
}

// oursOn checks that the one overlay on the hierarchy is ours.
func (a *adoptee) oursOn(hierarchies ...string) {
	a.t.Helper()
	for _, h := range hierarchies {
		if s := a.sources(h); len(s) != 1 || !strings.HasPrefix(s[0], "extexec:") {
			a.t.Errorf("%s has the overlays %q on it, want one of ours alone", h, s)
		}
	}
}

// systemdsOn checks that the one overlay on the hierarchy is not ours.
func (a *adoptee) systemdsOn(hierarchies ...string) {
	a.t.Helper()
	for _, h := range hierarchies {
		if s := a.sources(h); len(s) != 1 || strings.HasPrefix(s[0], "extexec:") {
			a.t.Fatalf("%s has the overlays %q on it after the start, want one of systemd's alone", h, s)
		}
	}
}

// confexts says whether this systemd knows confexts and .v/ in units.
func confexts(c *rig.Container) bool { return c.SystemdVersion() >= 256 }
