package rig

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/extexec/extexec/integration/testclient"
)

// unitDir is where tests put their units, as an administrator would.
const unitDir = "/etc/systemd/system"

// Systemctl runs systemctl, which has to succeed, and returns what it says.
func (c *Container) Systemctl(args ...string) string {
	c.t.Helper()
	return c.Must(append([]string{"systemctl"}, args...)...)
}

// Show returns one property of a unit.
func (c *Container) Show(unit, property string) string {
	c.t.Helper()
	return c.Systemctl("show", "--property="+property, "--value", "--", unit)
}

// WriteUnit writes a unit or a drop-in ("web.service.d/50-x.conf") and makes systemd read it. At the end of
// the test the unit is stopped and its file removed; if the test has failed, what systemd knows of the unit
// is logged first.
func (c *Container) WriteUnit(name, text string) {
	c.t.Helper()
	c.t.Cleanup(func() { c.Systemctl("daemon-reload") }) // clean-ups run in reverse
	c.putUnit(name, text)
	c.UseUnit(unitOf(name))
	c.Systemctl("daemon-reload")
}

// WriteShipped writes units as they are shipped, of the folder units of the source tree.
func (c *Container) WriteShipped(names ...string) {
	c.t.Helper()
	root, err := moduleRoot()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, "units", name))
		if err != nil {
			c.t.Fatal(err)
		}
		c.WriteUnit(name, string(text))
	}
}

// WriteGenerator has systemd call the generator that the source tree ships, until the end of the test.
func (c *Container) WriteGenerator(name string) {
	c.t.Helper()
	root, err := moduleRoot()
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "units", name))
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join("/run/systemd/system-generators", name)
	c.WriteFile(path, string(text), 0o755)
	c.t.Cleanup(func() { c.Remove(path) })
}

// WriteUnits writes many units and drop-ins at once, for tests that load them only: they are not stopped.
func (c *Container) WriteUnits(units map[string]string) {
	c.t.Helper()
	c.t.Cleanup(func() { c.Systemctl("daemon-reload") })
	for _, name := range slices.Sorted(maps.Keys(units)) {
		c.putUnit(name, units[name])
	}
	c.Systemctl("daemon-reload")
}

// putUnit writes the file and removes it at the end of the test.
func (c *Container) putUnit(name, text string) {
	c.t.Helper()
	path := filepath.Join(unitDir, name)
	c.WriteFile(path, text, 0o644)
	c.t.Cleanup(func() {
		c.Remove(path)
		if dir := filepath.Dir(path); dir != unitDir {
			c.must(func() error {
				_ = os.Remove(dir) // goes with the last drop-in; until then it is not empty
				return nil
			})
		}
	})
}

// unitOf is the unit that a drop-in is for, or the unit itself.
func unitOf(name string) string {
	unit, _, _ := strings.Cut(name, ".d/")
	return unit
}

// UseUnit is for a unit of a package: at the end of the test it is stopped, and reported if the test has failed.
func (c *Container) UseUnit(unit string) {
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Log(c.Report(unit))
		}
		c.dropUnit(unit)
	})
}

// Forget removes what extexec keeps of a name, a unit's or that of "run --name", at the end of the test. For units
// that were given to [Container.WriteUnit] or [Container.UseUnit] it is done already.
func (c *Container) Forget(name string) {
	c.t.Cleanup(func() { c.forget(name) })
}

// forget removes the record and the memory of a stopped service, as the next boot or an administrator would.
func (c *Container) forget(name string) {
	c.t.Helper()
	c.must(func() error {
		for _, units := range []string{"/run/extexec/units", "/var/lib/extexec/units"} {
			kept, err := filepath.Glob(filepath.Join(units, name))
			if err != nil {
				return err
			}
			for _, dir := range kept {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// dropUnit stops the unit and forgets its failures and records. A template or a unit that is not loaded has none.
func (c *Container) dropUnit(unit string) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	unit = strings.Replace(unit, "@.", "@*.", 1) // all instances
	for _, verb := range []string{"stop", "reset-failed"} {
		c.Exec(ctx, "systemctl", verb, "--", unit)
	}
	c.forget(unit)
}

// Report is what systemd and its journal know of the unit, for the log of a failed test.
func (c *Container) Report(unit string) string {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	status := c.Exec(ctx, "systemctl", "status", "--full", "--lines=0", "--", unit)
	return fmt.Sprintf("systemctl status in %s:\n%s\njournal:\n%s", c.m.id, status.Stdout, tail([]byte(c.Journal(unit)), 60))
}

// Journal is what the unit's processes, and systemd of the unit, have logged since the boot: messages alone.
func (c *Container) Journal(unit string) string {
	c.t.Helper()
	c.Must("journalctl", "--sync")
	return c.Must("journalctl", "--no-pager", "--output=cat", "--unit="+unit)
}

// AskService asks a test service, by the path of its control socket, "report", "forget" or "reload".
func (c *Container) AskService(socket, word string) *testclient.Report {
	c.t.Helper()
	r, err := testclient.Ask(c.Path(socket), word)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// A PID is one process, as the container and as the host number it.
type PID struct{ Inside, Host int }

// MainPID is the main process of a unit, which must have one.
func (c *Container) MainPID(unit string) PID {
	c.t.Helper()
	inside, err := strconv.Atoi(c.Show(unit, "MainPID"))
	if err != nil || inside == 0 {
		c.t.Fatalf("%s has no main process\n%s", unit, c.Report(unit))
	}
	return PID{Inside: inside, Host: c.HostPID(inside)}
}

// HostPID translates a pid of the container.
func (c *Container) HostPID(inside int) int {
	c.t.Helper()
	all, err := c.m.processes()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range all {
		if p.Inside == inside {
			return p.Host
		}
	}
	c.t.Fatalf("process %d of %s is not there", inside, c.m.id)
	return 0
}

// processes lists every process of the container.
func (m *machine) processes() ([]PID, error) {
	groups, err := m.cgroup.groups()
	if err != nil {
		return nil, err
	}
	var all []PID
	for _, g := range groups {
		pids, err := g.pids()
		if err != nil {
			return nil, err
		}
		for _, host := range pids {
			if inside, ok := pidInside(host); ok {
				all = append(all, PID{Inside: inside, Host: host})
			}
		}
	}
	return all, nil
}

// pidInside is how the container numbers the process: the second number of NSpid (proc_pid_status(5)),
// unless this process is in a pid namespace itself.
func pidInside(host int) (int, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", host))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(numbers)
			if len(f) < 2 {
				return 0, false
			}
			pid, err := strconv.Atoi(f[1])
			return pid, err == nil
		}
	}
	return 0, false
}
