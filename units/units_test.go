package units

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/units/lint"
)

var update = flag.Bool("update", false, "write the golden files anew")

const unitDir = "/usr/lib/systemd/system/"

// unit is a unit made of a text.
func unit(t testing.TB, name, text string) *unitfile.Unit {
	t.Helper()
	n, err := unitfile.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	fragment := unitDir + name
	if n.IsInstance() {
		fragment = unitDir + n.Template()
	}
	u, err := (&unitfile.Unit{Name: n, Fragment: fragment}).With(fragment, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u.DropIns = nil
	return u
}

var confext = map[string]lint.Source{"/srv/conf/app.v": {Classes: []string{"confext"}}}

// outcome is what a verb would say: the drop-in and the notes, or the refusal.
func outcome(k Kind, in Input) string {
	make := map[Kind]func(Input) (DropIn, error){Adopt: ForAdopt, Wrap: ForWrap}[k]
	d, err := make(in)
	if err != nil {
		return err.Error() + "\n"
	}
	text := "==> " + d.Path + "\n" + d.Text + "==> notes\n" + strings.Join(d.Notes, "\n") + "\n==> lint\n"
	for _, f := range d.Report.Findings {
		text += f.String() + "\n"
	}
	return text
}

// TestPackagedUnits is what both verbs make of the units that Debian's packages have.
func TestPackagedUnits(t *testing.T) {
	for _, name := range []string{"nginx", "ssh", "postgresql@15-main", "redis-server", "haproxy", "unbound", "prometheus"} {
		file := name
		if i := strings.IndexByte(name, '@'); i > 0 {
			file = name[:i+1]
		}
		text, err := os.ReadFile("testdata/" + file + ".service")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			kind    Kind
			systemd int
		}{{Adopt, 262}, {Wrap, 252}} {
			in := Input{Unit: unit(t, name+".service", string(text)), Directories: []string{"/srv/conf/app.v"},
				Facts: lint.Facts{Systemd: c.systemd, Sources: confext}}
			golden(t, filepath.Join("testdata", file+"."+string(c.kind)), outcome(c.kind, in))
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func TestWrapText(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"argv0 and prefixes", "ExecStart=-@:/usr/bin/webd \"web d\" -x '$A'", `ExecStart=-:!/usr/bin/extexec run --unit %n --argv0 "web d" -- /usr/bin/webd -x '$A'`},
		{"double exclamation mark", "ExecStart=!!webd", "ExecStart=!/usr/bin/extexec run --unit %n -- webd"},
		{"commands of a running service", "Type=notify\nWorkingDirectory=/srv\nExecStart=/bin/a\nExecStartPost=/bin/p\nExecStartPost=+/bin/q\nExecStop=-:/bin/s $X",
			"ExecStartPost=\nExecStartPost=+/usr/bin/extexec exec --working-directory /srv %n -- /bin/p\nExecStartPost=+/bin/q\nExecStop=\nExecStop=-:+/usr/bin/extexec exec --working-directory /srv %n -- /bin/s $X"},
		{"not started yet", "Type=simple\nExecStart=/bin/a\nExecStartPost=/bin/p", "ExecReload=+/usr/bin/extexec reload\n\n[X-"},
		{"of an extension", "WorkingDirectory=/opt/app/%p\nExecStart=/bin/a", "WorkingDirectory=-/opt/app/%p"},
		{"kept", "ExecStart=/bin/a\nExecReload=-/bin/x 'b c' ; /bin/y\nExecReload=:/bin/z\nExecReload=+/usr/bin/extexec reload", "ReloadCommand=-/bin/x 'b c'\nReloadCommand=/bin/y\nReloadCommand=/bin/z\n"},
		{"a signal", "ExecStart=/bin/a\nExecReload=!/usr/bin/kill -s USR1 ${MAINPID}", "ReloadSignal=USR1"},
		{"notify-reload", "Type=notify-reload\nReloadSignal=USR2\nExecStart=/bin/a", "Type=notify\n"},
		{"notify-reload's signal", "Type=notify-reload\nReloadSignal=USR2\nExecStart=/bin/a", "\nReloadSignal=USR2\n"},
		{"moved", "ExecStart=/bin/a\nExtensionDirectories=\"/a b\" -/c%%d\n[X-Extexec]\nExtensionDirectories=/e",
			"[X-Extexec]\nExtensionDirectories=\nExtensionDirectories=\"/a b\"\nExtensionDirectories=-/c%%d\nExtensionDirectories=/e\nExtensionDirectories=/srv/conf/app.v\n"},
		{"mounts", "ExecStart=/bin/a\nExtensionDirectories=\"/a b\" -/c%%d", "RequiresMountsFor=\"/a b\" /srv/conf/app.v\n"},
	} {
		in := Input{Unit: unit(t, "web.service", "[Service]\n"+c.lines+"\n"), Directories: []string{"/srv/conf/app.v"},
			Facts: lint.Facts{Systemd: 257, Missing: map[string]bool{"/opt/app/web": true}}}
		d, err := ForWrap(in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.Contains(d.Text, c.want) {
			t.Errorf("%s: %q is not in\n%s", c.name, c.want, d.Text)
		}
	}
}

func TestDevices(t *testing.T) {
	for lines, want := range map[string]bool{
		"":                         false,
		"PrivateDevices=yes":       true,
		"DevicePolicy=closed":      true,
		"DevicePolicy=auto":        false,
		"DeviceAllow=/dev/null rw": true,
		"DevicePolicy=strict\nDeviceAllow=block-loop rwm": false,
	} {
		in := Input{Unit: unit(t, "web.service", "[Service]\nExecStart=/bin/a\n"+lines+"\n"), Images: []string{"/srv/a.raw"}, Facts: lint.Facts{Systemd: 257}}
		for _, k := range []Kind{Wrap, Adopt} {
			got := outcome(k, in)
			if all := strings.Contains(got, "Wants=modprobe@loop.service") && strings.Count(got, "\nDeviceAllow=") == 5; all != want || !want && strings.Contains(got, "\nDeviceAllow=") {
				t.Errorf("%s, %q: devices are let through: %v, want %v\n%s", k, lines, all, want, got)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	const start = "ExecStart=/bin/a\n"
	for _, c := range []struct {
		kind    Kind
		systemd int
		lines   string
		add     []string // directories
		want    string
		other   Kind
	}{
		{Adopt, 252, start, []string{"/srv/conf/app.v"}, "systemd 252 does not apply a versioned directory (.v/) for a unit, 256 does", Wrap},
		{Adopt, 252, start, []string{"/srv/conf/app.v"}, "systemd 252 does not apply a confext for a unit, 254 does", Wrap},
		{Adopt, 258, start, []string{"/a"}, "systemd 258 refreshes confexts itself", Wrap},
		{Adopt, 259, start + "PrivateUsers=yes\n", []string{"/a"}, "systemd 259 refreshes confexts itself", ""},
		{Adopt, 262, start, nil, "[Service] lists no extensions: name them with --extension-directory", ""},
		{Adopt, 262, start + "ExecReload=+/bin/x\n", []string{"/a"}, `/web.service:3: not possible: the prefix "+" of "+/bin/x" cannot be kept`, ""},
		{Adopt, 262, start + "ExecReload=@/bin/x y\n", []string{"/a"}, `the prefix "@" of "@/bin/x y" cannot be kept`, ""},
		{Adopt, 262, start + "ExecReload=:/bin/x $A\n", []string{"/a"}, `the prefix ":" of`, ""},
		{Adopt, 262, start + "ExecReload=+/bin/kill -HUP $MAINPID\nExecReload=/bin/x\n", []string{"/a"}, `the prefix "+" of`, ""},
		{Adopt, 262, "ExecStart=!/usr/bin/extexec run -- /bin/a\n", []string{"/a"}, "the unit is wrapped", ""},
		{Wrap, 262, start, nil, "the unit has no extensions", ""},
		{Wrap, 262, "Type=oneshot\n" + start + "ExecStart=/bin/b x\n", []string{"/a"}, "web.service:4: not possible: a second ExecStart= (/bin/b x)", Adopt},
		{Wrap, 262, "ExecStart=!/usr/bin/extexec run -- /bin/a\n", []string{"/a"}, "it is wrapped already", ""},
		{Wrap, 262, "ExecStart=+/bin/a\n", []string{"/a"}, `the prefix "+" of "+/bin/a" cannot be had under the wrapper`, Adopt},
		{Wrap, 262, start + "PrivateUsers=yes\n", []string{"/a"}, "PrivateUsers= forbids the wrapper", Adopt},
		{Wrap, 252, start + "PrivateUsers=yes\n", []string{"/srv/conf/app.v"}, "PrivateUsers= forbids the wrapper", ""},
		{Wrap, 262, start + "ExtensionDirectories=/d\n[X-Extexec]\nExtensionImages=/i\n", nil, "the order cannot be kept", Adopt},
		{Wrap, 262, start + "ExecReload=+/bin/kill -HUP $MAINPID\n[X-Extexec]\nReloadSignal=USR1\n", []string{"/a"}, "sends a signal too", Adopt},
	} {
		in := Input{Unit: unit(t, "web.service", "[Service]\n"+c.lines), Directories: c.add, Facts: lint.Facts{Systemd: c.systemd, Sources: confext}}
		make := map[Kind]func(Input) (DropIn, error){Adopt: ForAdopt, Wrap: ForWrap}[c.kind]
		_, err := make(in)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || refused.Other != c.other {
			t.Errorf("%s on %d, %q: %v\nwant %q and as the other way %q", c.kind, c.systemd, c.lines, err, c.want, c.other)
		}
	}
}

// TestLaterDropIn: what would be overruled is not written.
func TestLaterDropIn(t *testing.T) {
	u := unit(t, "web.service", "[Service]\nExecStart=/bin/a\n")
	for name, ok := range map[string]bool{"40-x.conf": true, "60-x.conf": false} {
		with, err := u.With("/etc/systemd/system/web.service.d/"+name, []byte("[Service]\nExecReload=\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = ForWrap(Input{Unit: with, Directories: []string{"/a"}, Facts: lint.Facts{Systemd: 262}})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), name+":2: not possible: ExecReload= here comes after 50-extexec.conf") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOwner(t *testing.T) {
	d, err := ForWrap(Input{Unit: unit(t, "web.service", "[Service]\nExecStart=/bin/a\n"), Directories: []string{"/a"}, Facts: lint.Facts{Systemd: 262}})
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := Owner(d.Text); !ok || k != Wrap {
		t.Errorf("%q %v", k, ok)
	}
	for _, text := range []string{"", "[Service]\n", "# Written by extexec somebody", "# Written by hand\n"} {
		if k, ok := Owner(text); ok {
			t.Errorf("%q is taken for %s's", text, k)
		}
	}
	if _, err := ForWrap(Input{Unit: unit(t, "web.service", "[Service]\nExecStart=/bin/a\n"), Directories: []string{`/a"b`}, Facts: lint.Facts{Systemd: 262}}); err == nil || !strings.Contains(err.Error(), "cannot be written into a unit") {
		t.Errorf("a quote in a path: %v", err)
	}
}

// FuzzCutWord: what is cut off and what is left make up the command line.
func FuzzCutWord(f *testing.F) {
	for _, s := range []string{"/bin/a b c", `"a b" c`, `\x20a b`, `'a`, "a\tb", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		word, rest := cutWord(s)
		if before, ok := strings.CutSuffix(s, rest); !ok || strings.Trim(before, " \t\n\r") != word && before != word {
			t.Errorf("%q is cut into %q and %q", s, word, rest)
		}
	})
}
