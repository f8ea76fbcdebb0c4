package service

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/service/credential"
	"github.com/google/go-cmp/cmp"
)

// These tests take systemd itself for the oracle: a service that it has started
// says what a command in its place, and a user that we derive, must be.

// units are sandboxes that change who a service is.
var units = map[string]string{
	"plain":   "",
	"user":    "User=daemon\nSupplementaryGroups=adm tty\nGroup=mail",
	"root":    "User=root",
	"numeric": "User=1",
	"hardened": `User=daemon
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
	"private users":         "PrivateUsers=yes\nUser=daemon\nSupplementaryGroups=adm\nPrivateTmp=yes",
	"private users as root": "PrivateUsers=yes\nCapabilityBoundingSet=CAP_CHOWN CAP_SETUID\nNoNewPrivileges=yes",
	"dynamic":               "DynamicUser=yes\nSupplementaryGroups=adm",
	"dynamic with a name":   "DynamicUser=yes\nUser=rigdynuser",
}

// startUnit starts a service with these settings and opens its main process.
func startUnit(t *testing.T, c *rig.Container, name, settings string) *Process {
	t.Helper()
	c.WriteUnit(name, "[Service]\nType=exec\nExecStart=sleep infinity\n"+settings+"\n")
	c.Systemctl("start", name)
	p, err := Open(c.MainPID(name).Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestRunInUnit(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for name, settings := range units {
			t.Run(name, func(t *testing.T) {
				c := c.For(t)
				p := startUnit(t, c, "rig-place.service", settings)
				in := Place{Process: p}
				// Both are seen by the same reader, in the same namespaces.
				want := parseStatus(t, runIn(t, in, "sh", "-c", "cat /proc/$MAINPID/status"))
				got := parseStatus(t, runIn(t, in, "cat", "/proc/self/status"))
				if diff := cmp.Diff(want.Credential, got.Credential); diff != "" {
					t.Errorf("credential (-service +command):\n%s", diff)
				}
				if want.Umask != got.Umask {
					t.Errorf("umask %#o, want %#o", got.Umask, want.Umask)
				}
				for _, kind := range []Kind{Mount, User, PID, Net, IPC, UTS, Cgroup} {
					want, err := p.readlink("ns/" + string(kind))
					if err != nil {
						t.Fatal(err)
					}
					if got := strings.TrimSpace(runIn(t, in, "readlink", "/proc/self/ns/"+string(kind))); got != want {
						t.Errorf("namespace %s, want %s", got, want)
					}
				}
				if got := runIn(t, in, "cat", "/proc/self/cgroup"); !strings.Contains(got, "/rig-place.service\n") {
					t.Errorf("the command is in %q", got)
				}
				var unit string
				err := c.Inside(func() (err error) { unit, err = p.Unit(); return err })
				if err != nil || unit != "rig-place.service" {
					t.Errorf("unit %q, %v", unit, err)
				}
			})
		}
	})
}

func parseStatus(t *testing.T, text string) credential.Status {
	t.Helper()
	s, err := credential.ParseStatus([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResolveAsSystemd(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, test := range []struct {
			unit string
			spec credential.Spec
		}{
			{"rig-user.service", credential.Spec{User: "daemon"}},
			{"rig-user.service", credential.Spec{User: "1", Group: "mail", SupplementaryGroups: []string{"adm", "5"}}},
			{"rig-user.service", credential.Spec{User: "root"}},
			{"rig-user.service", credential.Spec{User: "nobody"}},
			{"rig-user.service", credential.Spec{User: "backup"}}, // a home that is not /
			{"rig-dyn.service", credential.Spec{DynamicUser: true}},
			{"rig-dyn@x.service", credential.Spec{DynamicUser: true, SupplementaryGroups: []string{"adm"}}},
			{"rig.dyn.service", credential.Spec{DynamicUser: true}}, // no user name: hashed
			{"9rig-dyn-with-a-name-that-is-too-long.service", credential.Spec{DynamicUser: true}},
			{"rig-dyn.service", credential.Spec{DynamicUser: true, User: "rigdynuser"}},
			{"rig-dyn.service", credential.Spec{DynamicUser: true, User: "rigdynuser", Group: "rigdyngroup"}},
		} {
			t.Run(test.unit+" "+test.spec.User, func(t *testing.T) {
				c := c.For(t)
				p := startUnit(t, c, test.unit, settings(test.spec))
				test.spec.Unit = test.unit
				compareUser(t, p, resolveInside(t, c, test.spec))
			})
		}
	})
}

// resolveEnv makes the test binary resolve the spec that it has as JSON.
const resolveEnv = "EXTEXEC_TEST_RESOLVE"

func resolveAsked(text string) error {
	var spec credential.Spec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	user, err := credential.Resolve(spec, credential.Database{})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(user)
}

// resolveInside resolves in a process of the container: systemd does not answer
// one whose process id it cannot see.
func resolveInside(t *testing.T, c *rig.Container, spec credential.Spec) credential.User {
	t.Helper()
	program := c.TempDir() + "/resolve"
	c.CopyIn("/proc/self/exe", program)
	c.Must("chmod", "755", program)
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var user credential.User
	if err := json.Unmarshal([]byte(c.Must("env", resolveEnv+"="+string(text), program)), &user); err != nil {
		t.Fatal(err)
	}
	return user
}

func settings(s credential.Spec) string {
	text := fmt.Sprintf("User=%s\nGroup=%s\nSupplementaryGroups=%s\n", s.User, s.Group, strings.Join(s.SupplementaryGroups, " "))
	if s.DynamicUser {
		text += "DynamicUser=yes\n"
	}
	return text
}

// compareUser compares the user with the process that systemd made of it.
func compareUser(t *testing.T, p *Process, user credential.User) {
	t.Helper()
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if user.UID != status.UID || user.GID != status.GID {
		t.Errorf("resolved %d:%d, systemd %d:%d", user.UID, user.GID, status.UID, status.GID)
	}
	if user.SetGroups && !cmp.Equal(user.Groups, status.Groups) || !user.SetGroups && len(status.Groups) > 0 {
		t.Errorf("resolved groups %d, systemd %d", user.Groups, status.Groups)
	}
	env, err := p.Environ()
	if err != nil {
		t.Fatal(err)
	}
	env = slices.DeleteFunc(env, func(a string) bool {
		name, _, _ := strings.Cut(a, "=")
		return !slices.Contains([]string{"USER", "LOGNAME", "HOME", "SHELL"}, name)
	})
	got := user.Env()
	slices.Sort(env)
	slices.Sort(got)
	if diff := cmp.Diff(env, got); diff != "" {
		t.Errorf("environment (-systemd +resolved):\n%s", diff)
	}
}
