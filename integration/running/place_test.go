package running

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/service/credential"
	"github.com/google/go-cmp/cmp"
)

// units are sandboxes that change who a service is.
var units = map[string]string{
	"rig-plain.service":   "",
	"rig-user.service":    "User=daemon\nSupplementaryGroups=adm tty\nGroup=mail",
	"rig-root.service":    "User=root",
	"rig-numeric.service": "User=1",
	"rig-hardened.service": `User=daemon
SupplementaryGroups=adm
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_CHOWN
AmbientCapabilities=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectProc=invisible
ProcSubset=pid
PrivateNetwork=yes
ProtectHostname=yes
UMask=0027`,
	"rig-private.service":      "PrivateUsers=yes\nUser=daemon\nSupplementaryGroups=adm\nPrivateTmp=yes",
	"rig-private-root.service": "PrivateUsers=yes\nCapabilityBoundingSet=CAP_CHOWN CAP_SETUID\nNoNewPrivileges=yes",
	"rig-dynamic.service":      "DynamicUser=yes\nSupplementaryGroups=adm",
	"rig-named.service":        "DynamicUser=yes\nUser=rigdynuser",
}

// startUnits starts services with these settings, by unit name, and opens their
// main processes.
func startUnits(t *testing.T, c *rig.Container, settings map[string]string) map[string]*service.Process {
	t.Helper()
	texts := map[string]string{}
	for name, s := range settings {
		texts[name] = "[Service]\nType=exec\nExecStart=sleep infinity\n" + s + "\n"
	}
	c.WriteUnits(texts)
	names := slices.Sorted(maps.Keys(settings))
	t.Cleanup(func() { c.Systemctl(append([]string{"stop"}, names...)...) })
	c.Systemctl(append([]string{"start"}, names...)...)
	processes := map[string]*service.Process{}
	for _, name := range names {
		p, err := service.Open(c.MainPID(name).Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		processes[name] = p
	}
	return processes
}

func TestRunInUnit(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for unit, p := range startUnits(t, c, units) {
			t.Run(unit, func(t *testing.T) { runInUnit(t, c.For(t), unit, p) })
		}
	})
}

func runInUnit(t *testing.T, c *rig.Container, unit string, p *service.Process) {
	in := service.Place{Process: p}
	// Both are seen by the same reader, in the same namespaces.
	want := parseStatus(t, runIn(t, in, "sh", "-c", "cat /proc/$MAINPID/status"))
	got := parseStatus(t, runIn(t, in, "cat", "/proc/self/status"))
	if diff := cmp.Diff(want.Credential, got.Credential); diff != "" {
		t.Errorf("credential (-service +command):\n%s", diff)
	}
	if want.Umask != got.Umask {
		t.Errorf("umask %#o, want %#o", got.Umask, want.Umask)
	}
	for _, kind := range []string{"mnt", "user", "pid", "net", "ipc", "uts", "cgroup"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID(), kind))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(runIn(t, in, "readlink", "/proc/self/ns/"+kind)); got != want {
			t.Errorf("namespace %s, want %s", got, want)
		}
	}
	if got := runIn(t, in, "cat", "/proc/self/cgroup"); !strings.Contains(got, "/"+unit+"\n") {
		t.Errorf("the command is in %q", got)
	}
	var name string
	err := c.Inside(func() (err error) { name, err = p.Unit(); return err })
	if err != nil || name != unit {
		t.Errorf("unit %q, %v", name, err)
	}
}

func parseStatus(t *testing.T, text string) credential.Status {
	t.Helper()
	s, err := credential.ParseStatus([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runIn runs a command in a place and fails the test if it fails.
func runIn(t *testing.T, in service.Place, argv ...string) string {
	t.Helper()
	r, err := service.Run(t.Context(), in, service.Command{Argv: argv})
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Output)
	}
	return string(r.Output)
}
