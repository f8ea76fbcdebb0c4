package credential

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	passwdText = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
# comment:x:7:7::/:/bin/sh
+nis::::::
broken:x:notanumber:5::/:/bin/sh
web:x:1001:2001:Web,,,:/var/www//html/:/usr/bin/bash
bare:x:1002:1002::/:/bin/false
twin:x:1001:2001::/home/twin:/bin/sh
rootgroup:x:1003:0::/home/rg:/bin/sh
nobody:x:65534:1::/nonexistent:/bin/sh
minusone:x:4294967295:1::/:/bin/sh
`
	groupText = `root:x:0:
daemon:x:1:
adm:x:4:syslog,web
web:x:2001:
ssl-cert:x:110:web,bare,rootgroup
tty:x:5:
+:::
bad:x:x:web
`
)

func database(t *testing.T) Database {
	t.Helper()
	dir := t.TempDir()
	db := Database{
		Passwd: filepath.Join(dir, "passwd"),
		Group:  filepath.Join(dir, "group"),
		UserDB: filepath.Join(dir, "userdb"),
		Limit:  5 * time.Second,
	}
	for path, text := range map[string]string{db.Passwd: passwdText, db.Group: groupText} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(db.UserDB, 0o700); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestResolveFiles(t *testing.T) {
	db := database(t)
	web := User{
		Name: "web", Home: "/var/www/html", Shell: "/usr/bin/bash",
		UID: 1001, GID: 2001, SetUID: true, SetGID: true, Groups: []uint32{4, 110, 2001}, SetGroups: true,
	}
	for _, test := range []struct {
		name string
		spec Spec
		want User
		env  []string
	}{
		{"nothing", Spec{}, User{}, nil},
		{"name", Spec{User: "web"}, web, []string{"USER=web", "LOGNAME=web", "HOME=/var/www/html", "SHELL=/usr/bin/bash"}},
		{"number", Spec{User: "1001"}, web, nil},
		{
			"group by name", Spec{User: "bare", Group: "adm"},
			User{Name: "bare", UID: 1002, GID: 4, SetUID: true, SetGID: true, Groups: []uint32{4, 110}, SetGroups: true},
			[]string{"USER=bare", "LOGNAME=bare"},
		},
		{
			"supplementary", Spec{User: "bare", SupplementaryGroups: []string{"tty", "110", "daemon"}},
			User{Name: "bare", UID: 1002, GID: 1002, SetUID: true, SetGID: true, Groups: []uint32{1, 5, 110, 1002}, SetGroups: true}, nil,
		},
		{"group alone", Spec{Group: "5"}, User{GID: 5, SetGID: true}, nil},
		{
			"group and supplementary alone", Spec{Group: "tty", SupplementaryGroups: []string{"adm"}},
			User{GID: 5, SetGID: true, Groups: []uint32{4}, SetGroups: true}, nil,
		},
		{
			"root group asks for no memberships", Spec{User: "rootgroup"},
			User{Name: "rootgroup", Home: "/home/rg", Shell: "/bin/sh", UID: 1003, SetUID: true, SetGID: true}, nil,
		},
		{
			"root", Spec{User: "root"},
			User{Name: "root", Home: "/root", Shell: rootShell(), SetUID: true, SetGID: true}, nil,
		},
		{
			"nobody, whatever the file says", Spec{User: "nobody"},
			User{Name: "nobody", UID: 65534, GID: 65534, SetUID: true, SetGID: true, Groups: []uint32{65534}, SetGroups: true}, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Resolve(test.spec, db)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
			if test.env != nil && !cmp.Equal(test.env, got.Env()) {
				t.Errorf("environment %q, want %q", got.Env(), test.env)
			}
		})
	}
}

func TestResolveUnknown(t *testing.T) {
	db := database(t)
	for _, test := range []struct {
		spec       Spec
		kind, name string
	}{
		{Spec{User: "nobodyhere"}, "user", "nobodyhere"},
		{Spec{User: "4242"}, "user", "4242"},
		{Spec{User: "broken"}, "user", "broken"},
		{Spec{User: "minusone"}, "user", "minusone"},
		{Spec{User: "+nis"}, "user", "+nis"},
		{Spec{User: "web", Group: "nogroup"}, "group", "nogroup"},
		{Spec{User: "web", SupplementaryGroups: []string{"adm", "bad"}}, "group", "bad"},
		{Spec{DynamicUser: true, User: "app"}, "user", "app"},
	} {
		_, err := Resolve(test.spec, db)
		var u *UnknownError
		if !errors.As(err, &u) || u.Kind != test.kind || u.Name != test.name {
			t.Errorf("resolve %+v: %v, want an UnknownError for %s %q", test.spec, err, test.kind, test.name)
		}
	}
}

func TestResolveIsNotHeldUpByAFifo(t *testing.T) {
	db := database(t)
	db.Passwd = filepath.Dir(db.Passwd) // a directory
	if _, err := Resolve(Spec{User: "web"}, db); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("resolve with a directory for passwd: %v", err)
	}
}

// answer serves a varlink socket: each call gets the replies that answer makes.
func answer(t *testing.T, dir, service string, answer func(call) []string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, service))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			text, err := bufio.NewReader(conn).ReadBytes(0)
			var c call
			if err == nil && json.Unmarshal(text[:len(text)-1], &c) == nil {
				for _, r := range answer(c) {
					fmt.Fprintf(conn, "%s\x00", r)
				}
			}
			conn.Close()
		}
	}()
}

const noRecord = `{"error":"io.systemd.UserDatabase.NoRecordFound","parameters":{}}`

func TestResolveVarlink(t *testing.T) {
	db := database(t)
	answer(t, db.UserDB, dynamicUserService, func(c call) []string {
		p := c.Parameters
		switch {
		case p.Service != dynamicUserService:
			return []string{`{"error":"io.systemd.UserDatabase.BadService"}`}
		case strings.HasSuffix(c.Method, ".GetUserRecord") && p.UserName == "app":
			return []string{`{"parameters":{"record":{"userName":"app","uid":61234,"gid":61234,"homeDirectory":"/","shell":"/usr/sbin/nologin","disposition":"dynamic"},"incomplete":false}}`}
		case strings.HasSuffix(c.Method, ".GetGroupRecord") && p.GroupName == "appgroup":
			return []string{`{"parameters":{"record":{"groupName":"appgroup","gid":61300}}}`}
		}
		return []string{noRecord}
	})
	answer(t, db.UserDB, multiplexerService, func(c call) []string {
		p := c.Parameters
		switch {
		case strings.HasSuffix(c.Method, ".GetUserRecord") && (p.UserName == "ldap" || p.UID != nil && *p.UID == 70000):
			return []string{`{"parameters":{"record":{"userName":"ldap","uid":70000,"gid":70001,"homeDirectory":"/home/ldap","shell":"/bin/zsh"}}}`}
		case strings.HasSuffix(c.Method, ".GetGroupRecord") && p.GroupName == "staff":
			return []string{`{"parameters":{"record":{"groupName":"staff","gid":70002}}}`}
		case strings.HasSuffix(c.Method, ".GetMemberships") && p.UserName == "ldap" && c.More:
			return []string{
				`{"parameters":{"userName":"ldap","groupName":"staff"},"continues":true}`,
				`{"parameters":{"userName":"ldap","groupName":"tty"}}`,
			}
		case p.UserName == "hangup":
			return nil
		case p.UserName == "garbage":
			return []string{"{"}
		case p.UserName == "minusone":
			return []string{`{"parameters":{"record":{"userName":"minusone","uid":4294967295}}}`}
		}
		return []string{noRecord}
	})
	ldap := User{
		Name: "ldap", Home: "/home/ldap", Shell: "/bin/zsh",
		UID: 70000, GID: 70001, SetUID: true, SetGID: true, Groups: []uint32{5, 70001, 70002}, SetGroups: true,
	}
	for _, test := range []struct {
		name string
		spec Spec
		want User
	}{
		{
			"dynamic", Spec{DynamicUser: true, User: "app"},
			User{Name: "app", UID: 61234, GID: 61234, SetUID: true, SetGID: true, Groups: []uint32{61234}, SetGroups: true},
		},
		{
			"dynamic with its own group", Spec{DynamicUser: true, User: "app", Group: "appgroup", SupplementaryGroups: []string{"tty"}},
			User{Name: "app", UID: 61234, GID: 61300, SetUID: true, SetGID: true, Groups: []uint32{5, 61300}, SetGroups: true},
		},
		{"elsewhere", Spec{User: "ldap"}, ldap},
		{"elsewhere by number", Spec{User: "70000"}, ldap},
		{"dynamic asks elsewhere too", Spec{User: "ldap", DynamicUser: true}, ldap},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Resolve(test.spec, db)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := Resolve(Spec{User: "nobodyhere", DynamicUser: true}, Database{Passwd: db.Passwd, Group: db.Group, UserDB: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "has it: create it") {
		t.Errorf("resolve where no service is: %v", err)
	}
	for user, want := range map[string]string{"hangup": "hung up", "garbage": "parse reply", "minusone": "stands for none", "nobodyhere": "create it"} {
		if _, err := Resolve(Spec{User: user}, db); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("resolve %q: %v, want an error with %q", user, err, want)
		}
	}
}

func TestResolveVarlinkTimesOut(t *testing.T) {
	db := database(t)
	l, err := net.Listen("unix", filepath.Join(db.UserDB, multiplexerService))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts
	db.Limit = 20 * time.Millisecond
	_, err = Resolve(Spec{User: "ldap"}, db)
	var u *UnknownError
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("resolve with a mute service: %v", err)
	}
}

func TestUserCredential(t *testing.T) {
	root := Credential{Inheritable: 1 << 10, Permitted: 0xffff, Effective: 0xffff, Bounding: 0xffff, Ambient: 1 << 10, Groups: []uint32{0}}
	got := User{UID: 7, GID: 8, SetUID: true, SetGID: true, Groups: []uint32{8, 9}, SetGroups: true}.Credential(root)
	want := Credential{
		UID: 7, EUID: 7, SUID: 7, GID: 8, EGID: 8, SGID: 8, Groups: []uint32{8, 9},
		Inheritable: 1 << 10, Permitted: 1 << 10, Effective: 1 << 10, Bounding: 0xffff, Ambient: 1 << 10,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("credential (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(root, User{}.Credential(root)); diff != "" {
		t.Errorf("no user changed the credential:\n%s", diff)
	}
}

func FuzzParseAccount(f *testing.F) {
	for line := range strings.Lines(passwdText) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if a, ok := parseAccount(line); ok && (a.name == "" || !validID(a.uid) || !validID(a.gid)) {
			t.Errorf("parsed %q as %+v", line, a)
		}
		if g, ok := parseGroup(line); ok && (g.name == "" || !validID(g.gid)) {
			t.Errorf("parsed %q as %+v", line, g)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte(noRecord))
	f.Add([]byte(`{"parameters":{"record":{"userName":"ldap","uid":70000,"gid":70001}},"continues":true}`))
	f.Add([]byte(`{"parameters":{"record":{"groupName":"g","gid":1}}}`))
	f.Add([]byte(`{"parameters":[]}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		takeReply(message, func(parameters []byte) error {
			if a, err := parseUserRecord(parameters); err == nil && (a.name == "" || !validID(a.uid) || !validID(a.gid)) {
				t.Errorf("parsed %q as %+v", parameters, a)
			}
			_, err := parseGroupRecord(parameters)
			return err
		})
	})
}
