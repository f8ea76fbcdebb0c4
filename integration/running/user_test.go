package running

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/service/credential"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/google/go-cmp/cmp"
)

// users are the ways to say who a service is, by unit name: a dynamic user has
// its name from there.
var users = map[string]credential.Spec{
	"rig-name.service":    {User: "daemon"},
	"rig-number.service":  {User: "1", Group: "mail", SupplementaryGroups: []string{"adm", "5"}},
	"rig-root.service":    {User: "root"},
	"rig-nobody.service":  {User: "nobody"},
	"rig-home.service":    {User: "backup"}, // a home that is not /
	"rig-dyn.service":     {DynamicUser: true},
	"rig-dynat@x.service": {DynamicUser: true, SupplementaryGroups: []string{"adm"}},
	"rig.dyn.service":     {DynamicUser: true}, // no user name: hashed
	"9rig-dyn-with-a-name-that-is-too-long.service": {DynamicUser: true},
	"rig-named.service":                             {DynamicUser: true, User: "rigdynuser"},
	"rig-grouped.service":                           {DynamicUser: true, User: "rigdynother", Group: "rigdyngroup"},
}

func TestResolveAsSystemd(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		program := c.TempDir() + "/resolve"
		c.CopyIn("/proc/self/exe", program)
		c.Must("chmod", "755", program)
		texts := map[string]string{}
		for unit, spec := range users {
			texts[unit] = lines(spec)
		}
		for unit, p := range startUnits(t, c, texts) {
			t.Run(unit, func(t *testing.T) {
				spec := users[unit]
				if spec.DynamicUser {
					spec.User = userOf(t, unit, texts[unit])
				}
				compareUser(t, p, resolveInside(t, c.For(t), program, spec))
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
func resolveInside(t *testing.T, c *rig.Container, program string, spec credential.Spec) credential.User {
	t.Helper()
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

// userOf is the name that the unit's settings give a dynamic user.
func userOf(t *testing.T, unit, lines string) string {
	t.Helper()
	file := t.TempDir() + "/" + unit
	if err := os.WriteFile(file, []byte("[Service]\n"+lines), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := settings.Load(file, settings.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return set.Service.User
}

func lines(s credential.Spec) string {
	text := fmt.Sprintf("User=%s\nGroup=%s\nSupplementaryGroups=%s\n", s.User, s.Group, strings.Join(s.SupplementaryGroups, " "))
	if s.DynamicUser {
		text += "DynamicUser=yes\n"
	}
	return text
}

// compareUser compares the user with the process that systemd made of it.
func compareUser(t *testing.T, p *service.Process, user credential.User) {
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
