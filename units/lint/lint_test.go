package lint

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/unitfile"
)

const fragment = "/u/web.service"

func parse(t testing.TB, text string) *unitfile.Unit {
	t.Helper()
	n, err := unitfile.ParseName("web.service")
	if err != nil {
		t.Fatal(err)
	}
	u, err := (&unitfile.Unit{Name: n, Fragment: fragment}).With(fragment, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u.DropIns = nil
	return u
}

// of gives what is found, one line each: severity, line, and the text with its remedy.
func of(r Report) (list []string) {
	for _, f := range r.Findings {
		list = append(list, fmt.Sprintf("%s %d %s | %s", f.Severity, f.Line, f.Text, f.Remedy))
	}
	return list
}

// Units in which nothing is wrong, for the tests to put one thing in.
const (
	wrapped = "[X-Extexec]\nExtensionDirectories=/e/app.v\nReloadSignal=HUP\n[Service]\nExecStart=!/usr/bin/extexec run -- /bin/a\nExecReload=+/usr/bin/extexec reload\n"
	adopted = "[X-Extexec]\nReloadSignal=HUP\n[Service]\nExtensionDirectories=/e/app.v\nRefreshOnReload=~extensions\nExecStart=/bin/a\nExecReload=+/usr/bin/extexec reload\n"
)

var both = map[string]Source{"/e/app.v": {Classes: []string{"sysext", "confext"}}}

func TestNothingWrong(t *testing.T) {
	for way, text := range map[Way]string{Wrapper: wrapped, Adopt: adopted} {
		r := Check(parse(t, text), Facts{Systemd: 262, Sources: both})
		if r.Way != way || len(r.Findings) > 0 || r.Failed() {
			t.Errorf("%+v, want %s and no findings", r, way)
		}
	}
}

func TestFindings(t *testing.T) {
	facts := Facts{Systemd: 257, Sources: both, Missing: map[string]bool{"/opt/web": true}}
	on := func(v int) Facts { f := facts; f.Systemd = v; return f }
	source := func(s Source) Facts { f := facts; f.Sources = map[string]Source{"/e/app.v": s}; return f }
	for _, c := range []struct {
		text, lines string
		facts       Facts
		want        string // the one finding
	}{
		// What the settings refuse, all of it.
		{wrapped, "[X-Extexec]\nReloadChek=/bin/x", facts, `error 8 unknown key "ReloadChek" in [X-Extexec]: did you mean ReloadCheck=?`},
		{wrapped, "[X-Extexec]\nNoExec=perhaps", facts, `error 8 NoExec=: "perhaps" is no boolean`},
		{wrapped, "[X-Extexec]\nnonsense", facts, `error 8 in [X-Extexec]:`},
		{wrapped, "ReloadCheck=/bin/x", facts, `warning 7 ReloadCheck=: it is a key of [X-Extexec], and ignored here: write it there`},
		{wrapped, "[X-Extexe]\na=b", facts, `warning 7 section [X-Extexe] is ignored: did you mean [X-Extexec]?`},
		{wrapped, "MountFlags=sideways", facts, `warning 7 MountFlags=: unknown propagation`},

		// What the refs lead to.
		{wrapped, "", source(Source{Missing: true, Why: "nothing there"}), `error 2 nothing there`},
		{wrapped, "[X-Extexec]\nOnBadExtension=skip", source(Source{Missing: true, Why: "nothing there"}), `warning 2 nothing there`},
		{wrapped, "", source(Source{Why: "does not fit"}), `error 2 does not fit | install another version`},
		{wrapped, "", source(Source{Untrusted: "/e is mallory's"}), `error 2 who else can change "/e/app.v" decides what root mounts: /e is mallory's`},
		{wrapped, "ExecStart=\nExecStart=!/usr/bin/extexec run --allow-untrusted-path -- /bin/a", source(Source{Untrusted: "/e is mallory's"}), `warning 2 who else can change`},
		{wrapped, "[X-Extexec]\nExtensionDirectories=\nExtensionDirectories=-/e/app.v", source(Source{Missing: true, Why: "nothing there"}), `note 9 nothing there, which "-" lets pass`},
		{wrapped, "[X-Extexec]\nExtensionImages=/i.raw\nRequireSignature=yes\nExtensionDirectories=/d", facts, `warning 9 directories have no signature`},
		{wrapped, "[X-Extexec]\nExtensionImages=/i.raw\nExtensionImagePolicy=root=encrypted", facts, `error 9 the policy "root=encrypted" lets no image in that extexec can use`},
		{wrapped, "[X-Extexec]\nExtensionImages=/i.raw\nExtensionImagePolicy=root=verity+signed", facts, `warning 9 the policy looks stricter than it is: it is a set of what is allowed, and lets "verity" in for root, too`},
		{wrapped, "[X-Extexec]\nExtensionImages=/i.raw\nExtensionImagePolicy=root=signed+unprotected+absent:usr=unprotected+absent:=unused+absent", facts, `warning 9 the policy looks stricter than it is: it is a set of what is allowed, and lets "unprotected" in for root, too`},
		{wrapped, "[X-Extexec]\nCountTries=yes", facts, `note 8 each start takes a try of a version that counts them`},
		{wrapped, "ExecStartPost=+/usr/bin/extexec reload --if-changed\n[X-Extexec]\nCountTries=yes", facts, ""},
		{adopted, "[X-Extexec]\nCountTries=yes", facts, ""},

		// ExecReload=.
		{wrapped, "ExecReload=", facts, "warning 0 no ExecReload= runs extexec"},
		{adopted, "ExecReload=\nExecReload=/bin/kill -HUP $MAINPID", facts, "warning 0 no ExecReload= runs extexec"},
		{wrapped, "ExecReload=\nExecReload=/usr/bin/extexec reload", facts, `error 8 without the prefix "+" the reload runs inside`},
		{wrapped, "ExecReload=\nExecReload=-+/usr/bin/extexec reload", facts, `warning 8 with the prefix "-" a reload that failed counts as done`},
		{wrapped, "ExecReload=/bin/x y", facts, `warning 7 "/bin/x y" runs after the reload has been committed`},
		{wrapped, "ExecReload=\nExecReload=/bin/x y\nExecReload=+/usr/bin/extexec reload", facts, `warning 8 "/bin/x y" runs before the exchange`},
		{wrapped, "[X-Extexec]\nReloadSignal=", facts, "note 0 nothing tells the service after an exchange"},

		// Timeouts.
		{wrapped, "TimeoutStartSec=60", facts, "warning 7 systemd kills a reload after TimeoutStartSec= (1m0s), and ReloadTimeoutSec= (1m0s) is not below"},
		{wrapped, "TimeoutSec=10\n[X-Extexec]\nReloadTimeoutSec=20", facts, "warning 9 systemd kills a reload after TimeoutStartSec= (10s), and ReloadTimeoutSec= (20s)"},
		{wrapped, "[X-Extexec]\nReloadTimeoutSec=infinity", facts, "warning 8 systemd kills a reload after TimeoutStartSec= (1m30s), and ReloadTimeoutSec= (no limit)"},
		{wrapped, "TimeoutStartSec=0\n[X-Extexec]\nReloadTimeoutSec=0", facts, ""},
		{wrapped, "TimeoutStartSec=10\nTimeoutSec=infinity", facts, ""},

		// What the host has.
		{wrapped, "EnvironmentFile=-/etc/default/web", facts, "note 7 EnvironmentFile= reads the host's file"},
		{wrapped, "EnvironmentFile=/srv/web.env", facts, ""},
		{wrapped, "[Unit]\nConditionPathExists=|!/usr/bin/x", facts, "note 8 ConditionPathExists= looks at the host's file"},
		{wrapped, "[Unit]\nConditionPathExists=/run/x\nConditionHost=/etc/x", facts, ""},
		{wrapped, "ReadWritePaths=/var/lib/web -/etc/web", facts, "warning 7 /etc/web is the host's, writable: below /etc it hides"},
		{adopted, "ReadWriteDirectories=/etc/web", facts, "warning 8 /etc/web lies below /etc, which is read-only"},
		{wrapped, "ReadWritePaths=/etc\n", facts, ""},
		{wrapped, "ExecStart=\nExecStart=!/usr/bin/extexec run -- /usr/sbin/sshd -D", facts, "warning 8 what sshd starts sees a read-only /etc"},
		{wrapped, "ExecStart=\nExecStart=!/usr/bin/extexec run -- /usr/sbin/sshd -D\n[X-Extexec]\nHierarchies=/etc/ssh", facts, ""},
		{wrapped, "ExecStart=\nExecStart=!/usr/bin/extexec run -- /usr/sbin/sshd -D", source(Source{Classes: []string{"sysext"}}), ""},
		{wrapped, "ExecStart=\nExecStart=/srv/extexec run -- /bin/a", Facts{Sources: both, Missing: map[string]bool{"/srv/extexec": true}}, `error 8 "/srv/extexec" is not there | install extexec there`},
		{"[Service]\nExecReload=+/usr/bin/extexec reload\nExecStart=/usr/bin/extexec run --hierarchy /etc/a --extension-image=/i --extension-directory /d/%p -- /bin/a --extension-image /no\n", "[X-Extexec]\nReloadSignal=1",
			Facts{Sources: map[string]Source{"/i": {}, "/d/web": {Missing: true, Why: "not there"}}}, "error 3 not there"},
		{wrapped, "ExecStart=\nExecStart=/usr/bin/extexec run --hierarchy /var -- /bin/a", facts, `error 8 hierarchy "/var": extensions have files for`},

		// The wrapper.
		{wrapped, "PrivateUsers=yes", facts, "error 7 PrivateUsers= forbids the wrapper"},
		{wrapped, "User=www\nExecStart=\nExecStart=/usr/bin/extexec run -- /bin/a", facts, `error 9 without the prefix "!" extexec is started as User=`},
		{wrapped, "ExecStart=\nExecStart=/usr/bin/extexec run -- /bin/a", facts, ""},
		{wrapped, "ExecStart=\nExecStart=+/usr/bin/extexec run -- /bin/a", facts, `error 8 with the prefix "+"`},
		{wrapped, "Type=exec", facts, "note 7 under Type=exec"},
		{wrapped, "WorkingDirectory=/opt/web", facts, `error 7 "/opt/web" is not there before the extensions are`},
		{wrapped, "WorkingDirectory=-/opt/web", facts, ""},
		{wrapped, "PrivateDevices=yes\n[X-Extexec]\nExtensionImages=/i.raw", facts, "warning 9 the unit's device policy keeps loop devices away"},
		{wrapped, "PrivateDevices=yes\nDeviceAllow=block-loop rwm\n[X-Extexec]\nExtensionImages=/i.raw", facts, ""},
		{wrapped, "ExecStartPre=-/bin/b c", facts, "note 7 ExecStartPre= sees the host's files, not the extensions: /bin/b c"},
		{wrapped, "Type=notify\nExecStop=/bin/b c", facts, "note 8 ExecStop= sees the host's files, not the extensions: /bin/b c | where it matters, write ExecStop=+/usr/bin/extexec exec %n -- /bin/b c"},
		{wrapped, "ExecStop=+/usr/bin/extexec exec %n -- /bin/b c", facts, ""},
		{wrapped, "Type=notify-reload", facts, "warning 7 systemd 257 signals a notify-reload service while"},
		{wrapped, "Type=notify-reload", on(262), ""},

		// Adopt, and what this systemd applies.
		{adopted, "", on(252), "error 4 systemd 252 does not apply a versioned directory (.v/) for a unit, 256 does"},
		{adopted, "", on(259), "error 0 systemd 259 refreshes confexts itself"},
		{adopted, "RefreshOnReload=", on(262), "warning 4 systemd 262 refreshes confexts itself before ExecReload="},
		{adopted, "RefreshOnReload=credentials", on(262), ""},
		{adopted, "RefreshOnReload=yes", on(262), "warning 4 systemd 262 refreshes"},
		{adopted, "RootDirectory=/r", facts, "warning 8 systemd runs ExecReload= in the root that RootDirectory= names"},
		{"[X-Extexec]\nExtensionDirectories=/e/app.v\n[Service]\nExecStart=/bin/a\n", "", facts, "warning 2 nothing applies the extensions of [X-Extexec]"},
		{"[Service]\nExecStart=/bin/a\n", "", facts, "note 0 the unit has no extensions"},
	} {
		r := Check(parse(t, c.text+c.lines+"\n"), c.facts)
		found := of(r)
		ok := len(found) == 1 && c.want != "" && strings.HasPrefix(found[0], c.want) || len(found) == 0 && c.want == ""
		if !ok {
			t.Errorf("%q on %d:\n%s\nwant %q alone", c.lines, c.facts.Systemd, strings.Join(found, "\n"), c.want)
		}
		if r.Failed() != strings.HasPrefix(c.want, "error") {
			t.Errorf("%q: failed is %v", c.lines, r.Failed())
		}
	}
}

// TestManyAtOnce: one mistake does not hide the next, and all stand in the order of
// the text.
func TestManyAtOnce(t *testing.T) {
	text := "[X-Extexec]\nA=1\nNoExec=x\nHierarchies=/var\nReloadCheck=\"\n[Service]\nUser=a:b\nExecStart=!/usr/bin/extexec run -- /bin/a\nPrivateUsers=yes\nPAMName=x\n"
	r := Check(parse(t, text), Facts{})
	var lines []int
	for _, f := range r.Findings {
		if f.Severity == Error {
			lines = append(lines, f.Line)
		}
	}
	if got := fmt.Sprint(lines); got != "[2 3 4 5 7 9 10]" {
		t.Errorf("errors in lines %s:\n%s", got, strings.Join(of(r), "\n"))
	}
}

func TestVersioned(t *testing.T) {
	for p, want := range map[string]bool{"/a/b.v": true, "/a/b.raw.v": true, "/a.v/b___.raw": true, "/a.v/b": false, "/a/b": false, "/a/b___c": false} {
		if versioned(p) != want {
			t.Errorf("%s: %v", p, !want)
		}
	}
}

// FuzzCheck: whatever a unit says, judging it ends.
func FuzzCheck(f *testing.F) {
	f.Add(wrapped)
	f.Add(adopted)
	f.Add("[X-Extexec]\nA=\n[X-Extexec\n=\nReloadCheck=;;\n[Service]\nExecStart=@\nExecReload=-@/a\nTimeoutSec=x")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := (&unitfile.Unit{Fragment: fragment}).With(fragment, []byte(text))
		if err != nil {
			return
		}
		u.Name, _ = unitfile.ParseName("web.service")
		for _, found := range Check(u, Facts{Systemd: 262}).Findings {
			if found.Text == "" {
				t.Errorf("a finding without a text: %+v", found)
			}
		}
	})
}
