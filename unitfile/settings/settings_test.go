package settings

import (
	"errors"
	"maps"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/extexec/extexec/unitfile"
	"github.com/google/go-cmp/cmp"
)

const unitPath = "/etc/systemd/system/web.service"

// load reads the settings of a web.service with the given text.
func load(t *testing.T, text string) (Settings, error) {
	t.Helper()
	return Load("web.service", LoadOptions{Root: fstest.MapFS{
		"etc/systemd/system/web.service": {Data: []byte(text)},
		"etc/machine-id":                 {Data: []byte("0123456789abcdef0123456789abcdef\n")},
		"usr/lib/os-release":             {Data: []byte("ID=debian\nVERSION_ID=\"13\"\n")},
		"proc/sys/kernel/hostname":       {Data: []byte("box.example\n")},
	}})
}

func mustLoad(t *testing.T, text string) Settings {
	t.Helper()
	s, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refs is the refs of settings as they would be written.
func refs(s Settings) []string {
	var list []string
	for _, r := range s.Refs {
		list = append(list, r.String())
	}
	return list
}

func TestServiceRefs(t *testing.T) {
	for _, c := range []struct {
		name     string
		lines    string
		want     []string
		warnings []string
	}{
		{"order", "ExtensionDirectories=/d1 /d2\nExtensionImages=/i1\nExtensionImages=/i2 -/i3", []string{"/i1", "/i2", "-/i3", "/d1", "/d2"}, nil},
		{"reset", "ExtensionDirectories=/d1\nExtensionDirectories=\nExtensionDirectories=/d2", []string{"/d2"}, nil},
		{"same twice", "ExtensionDirectories=/d /d", []string{"/d", "/d"}, nil},
		{"quotes", `ExtensionImages="/a b.raw":root:ro '/c d.raw'` + "\n" + `ExtensionDirectories="/e f" -"/g"`, []string{"/a b.raw:root:ro", "/c d.raw", "/e f", "-/g"}, nil},
		{"directory prefixes", "ExtensionDirectories=-/a -+/b +/c '-+/q//z/./'", []string{"-/a", "-/b", "/c", "-/q/z"}, nil},
		{"prefixes the wrong way round", "ExtensionDirectories=+-/a /b", []string{"/b"}, []string{`:2: ExtensionDirectories=: "+-/a": the path "-/a" is not absolute`}},
		{"backslash in a directory", `ExtensionDirectories=/srv\x20c`, []string{"/srvx20c"}, nil},
		{"colon", `ExtensionImages=/x\:y.raw:nosuid`, []string{`/x\:y.raw:root:nosuid`}, nil},
		{"escapes", `ExtensionImages=/x\x20\u20ac.raw`, []string{"/x €.raw"}, nil},
		{"leading colon", "ExtensionImages=:/a.raw", []string{"/a.raw"}, nil},
		{"empty options", "ExtensionImages=/a.raw:root:", []string{"/a.raw:root:root"}, nil},
		{"left over replaces root", "ExtensionImages=/a.raw:root:ro:nosuid", []string{"/a.raw:root:nosuid"}, nil},
		{"last designator wins", "ExtensionImages=/a.raw:usr:ro:usr:noatime", []string{"/a.raw:usr:noatime"}, nil},
		{"unknown partition", "ExtensionImages=/a.raw:foo:ro:usr:nodev", []string{"/a.raw:usr:nodev"}, []string{`unknown partition "foo"`}},
		{"plus is for directories", "ExtensionImages=+/a.raw", nil, []string{`"+/a.raw" is not absolute`}},
		{"relative, dotdot, api", "ExtensionImages=rel /a/../b /dev/sda /proc /ok", []string{"/ok"}, []string{"not absolute", `".."`, "below /proc", "below /proc"}},
		{"api path for a directory", "ExtensionDirectories=/dev/shm/x", []string{"/dev/shm/x"}, nil},
		{"unknown specifier", "ExtensionImages=/z%Z.raw /ok", []string{"/ok"}, []string{`unknown specifier "%Z"`}},
		{"specifiers", "ExtensionDirectories=%S/x/%p-%o-%l", []string{"/var/lib/x/web-debian-box"}, nil},
		{"specifier in options", "ExtensionImages=/a:root:%p", []string{"/a:root:web"}, nil},
		{"bad escape ends the line", `ExtensionImages=/a /b\q /c` + "\nExtensionImages=/d", []string{"/a", "/d"}, []string{`"/b\\q": unknown escape sequence "\\q"`}},
		{"bad quotes end the line", `ExtensionImages=/a "/b /c` + "\nExtensionImages=/d", []string{"/a", "/d"}, []string{"unbalanced quotes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustLoad(t, "[Service]\n"+c.lines)
			if d := cmp.Diff(c.want, refs(s)); d != "" {
				t.Errorf("refs (-want +got):\n%s", d)
			}
			if len(s.Warnings) != len(c.warnings) {
				t.Fatalf("warnings %q, want %q", s.Warnings, c.warnings)
			}
			for i, w := range c.warnings {
				if !strings.Contains(s.Warnings[i], w) || !strings.HasPrefix(s.Warnings[i], unitPath+":") {
					t.Errorf("warning %q, want %q with file and line", s.Warnings[i], w)
				}
			}
		})
	}
}

func TestLayerOrder(t *testing.T) {
	s := mustLoad(t, `
[X-Extexec]
ExtensionDirectories=/xd
ExtensionImages=/xi
[Service]
ExtensionDirectories=/sd
ExtensionImages=/si
`)
	s, err := s.WithFlags([]string{"/fi1", "/fi2:nosuid"}, []string{"/fd1", "-/fd2"}, []string{"/etc/", "/etc"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/si", "/sd", "/xi", "/xd", "/fi1", "/fi2:root:nosuid", "/fd1", "-/fd2"}
	if d := cmp.Diff(want, refs(s)); d != "" {
		t.Errorf("refs (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"/etc"}, s.Hierarchies); d != "" {
		t.Errorf("hierarchies (-want +got):\n%s", d)
	}
	var origins []Origin
	for _, r := range s.Refs {
		origins = append(origins, r.Origin)
	}
	if d := cmp.Diff([]Origin{1, 1, 2, 2, 3, 3, 3, 3}, origins); d != "" {
		t.Errorf("origins (-want +got):\n%s", d)
	}
	if r := s.Refs[2]; r.File != unitPath || r.Line != 4 {
		t.Errorf("place of %s: %s:%d", r, r.File, r.Line)
	}
}

func TestWithFlagsLeavesOriginalAlone(t *testing.T) {
	s := Default()
	s.Refs = append(make([]Ref, 0, 8), Ref{Kind: Image, Path: "/a"})
	one, err := s.WithFlags(nil, []string{"/one"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WithFlags(nil, []string{"/two"}, nil); err != nil {
		t.Fatal(err)
	}
	if one.Refs[1].Path != "/one" {
		t.Error("two WithFlags share their refs")
	}
}

func TestWithFlagsRefuses(t *testing.T) {
	for _, c := range []struct{ images, directories, hierarchies, want string }{
		{directories: "rel/dir", want: `extension directory "rel/dir": the path "rel/dir" is not absolute`},
		{images: "rel.raw", want: "not absolute"},
		{images: "/a:foo:ro", want: `unknown partition "foo"`},
		{images: "", directories: "-", want: "the path is empty"},
		{hierarchies: "etc", want: `hierarchy "etc": the path "etc" is not absolute`},
		{hierarchies: "/srv", want: "/usr, /opt and /etc only"},
		{hierarchies: "/", want: "/usr, /opt and /etc only"},
		{hierarchies: "/usr /usr/local", want: "one is below the other"},
	} {
		_, err := Default().WithFlags(strings.Fields(c.images), strings.Fields(c.directories), strings.Fields(c.hierarchies))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestExtexecSection(t *testing.T) {
	s := mustLoad(t, `
[Service]
ExtensionImagePolicy=root=signed
[X-Extexec]
Hierarchies=/etc
Hierarchies=/opt "/usr"
OnBadExtension=skip
RequireSignature=yes
VerifiedCopyMax=1.5G
NoExec=on
NoSuid=1
ReloadCheck=/usr/sbin/nginx -t -c "/etc/nginx dir/n.conf" %n \
# a comment
  $FOO
ReloadCheck=-/bin/a ; /bin/b
ReloadCommand=/bin/c %%
ReloadVerify=curl --fail ${URL}
ReloadSignal=RTMIN+2
ReloadTimeoutSec=2min 5s
Namespaces=unit
KeepGenerations=3
CountTries=yes
[X-Other]
Anything=goes
`)
	want := Default()
	want.Unit, want.Fragment = "web.service", unitPath
	want.Policy = s.Policy
	want.Hierarchies = []string{"/etc", "/opt", "/usr"}
	want.SkipBad, want.RequireSignature, want.NoExec, want.NoSuid = true, true, true, true
	want.VerifiedCopyMax = 3 << 29
	want.ReloadCheck = []Command{
		{Argv: []string{"/usr/sbin/nginx", "-t", "-c", "/etc/nginx dir/n.conf", "web.service", "$FOO"}, File: unitPath, Line: 12},
		{IgnoreFailure: true, Argv: []string{"/bin/a"}, File: unitPath, Line: 15},
		{Argv: []string{"/bin/b"}, File: unitPath, Line: 15},
	}
	want.ReloadCommand = []Command{{Argv: []string{"/bin/c", "%"}, File: unitPath, Line: 16}}
	want.ReloadVerify = []Command{{Argv: []string{"curl", "--fail", "${URL}"}, File: unitPath, Line: 17}}
	want.ReloadSignal = 36
	want.ReloadTimeout = 125 * time.Second
	want.AllNamespaces, want.KeepGenerations, want.CountTries = true, 3, true
	want.Service.Type, want.Service.CapabilityBoundingSet = "oneshot", AllCapabilities
	compare(t, want, s)
	if got := s.Policy.String(); !strings.Contains(got, "root=signed") {
		t.Errorf("policy %q", got)
	}
}

// compare leaves the policy out: it has unexported fields, and its callers look at it.
func compare(t *testing.T, want, got Settings) {
	t.Helper()
	isPolicy := func(p cmp.Path) bool { return p.Last().String() == ".Policy" }
	if d := cmp.Diff(want, got, cmp.FilterPath(isPolicy, cmp.Ignore())); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
}

func TestExtexecResets(t *testing.T) {
	s := mustLoad(t, `
[Service]
ExtensionImagePolicy=root=signed
[X-Extexec]
ExtensionImages=/a
ExtensionImages=
ExtensionDirectories=/a
ExtensionDirectories=
ExtensionImagePolicy=*
ExtensionImagePolicy=
Hierarchies=/etc
Hierarchies=
OnBadExtension=skip
OnBadExtension=
RequireSignature=yes
RequireSignature=
VerifiedCopyMax=1
VerifiedCopyMax=
NoExec=yes
NoExec=
NoSuid=yes
NoSuid=
ReloadCheck=/bin/a
ReloadCheck=
ReloadCommand=/bin/a
ReloadCommand=
ReloadVerify=/bin/a
ReloadVerify=
ReloadSignal=HUP
ReloadSignal=
ReloadTimeoutSec=1
ReloadTimeoutSec=
Namespaces=unit
Namespaces=
KeepGenerations=1
KeepGenerations=
CountTries=yes
CountTries=
`)
	want := Default()
	want.Unit, want.Fragment = "web.service", unitPath
	want.Service.Type, want.Service.CapabilityBoundingSet = "oneshot", AllCapabilities
	compare(t, want, s)
	if !strings.Contains(s.Policy.String(), "root=signed") {
		t.Errorf("the policy of [Service] is lost: %s", s.Policy)
	}
}

func TestExtexecErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"ReloadChek=/bin/true", `unknown key "ReloadChek" in [X-Extexec]: did you mean ReloadCheck=?`},
		{"reloadtimeout=5", "did you mean ReloadTimeoutSec=?"},
		{"RELOAD_VERIFY=x", "did you mean ReloadVerify=?"},
		{"ExtensionImage=/x", "did you mean ExtensionImages=?"},
		{"CheckReload=/x", "write one of ExtensionImages=, ExtensionDirectories=, "},
		{"ExecReload=/x", `unknown key "ExecReload" in [X-Extexec]: it is one of [Service]: write it there`},
		{"execstartpre=/x", "it is one of [Service]"},
		{"PrivateTmp=yes", "it is one of [Service]"},
		{"After=x.service", "it is one of [Unit]"},
		{"WantedBy=x", "it is one of [Install]"},
		{"Mutable=yes", "Mutable= is reserved"},
		{"X-Mine=1", `unknown key "X-Mine" in [X-Extexec]: write one of ExtensionImages=, `},
		{"ReloadCheck /bin/true", `missing "="`},
		{"=x", "missing key name"},
		{"OnBadExtension=maybe", `"maybe" is neither fail nor skip`},
		{"Namespaces=all", "neither main nor unit"},
		{"NoExec=perhaps", "no boolean"},
		{"VerifiedCopyMax=lots", "no size"},
		{"ReloadTimeoutSec=-1", "negative"},
		{"ReloadTimeoutSec=5 parsecs", "no time span"},
		{"KeepGenerations=0", "between 1 and"},
		{"KeepGenerations=ten", "between 1 and"},
		{"ReloadSignal=HUPP", "no signal"},
		{"ReloadSignal=KILL", "cannot be caught"},
		{"Hierarchies=/srv", "/usr, /opt and /etc only"},
		{"Hierarchies=etc", "not absolute"},
		{"Hierarchies=/usr /usr/local", "below the other"},
		{"Hierarchies='/etc", "unbalanced quotes"},
		{"ExtensionImagePolicy=root=grbl", "grbl"},
		{"ExtensionImages=rel.raw", "not absolute"},
		{"ExtensionImages=/a:foo:ro", `unknown partition "foo"`},
		{`ExtensionImages=/a\q`, "unknown escape"},
		{`ExtensionImages="/a`, "unbalanced quotes"},
		{"ExtensionImages=/a%Z", `unknown specifier "%Z"`},
		{"ExtensionImages=/a:root:%Z", `unknown specifier "%Z"`},
		{"ExtensionImages=/a:root:%v", "kernel release is not known"},
		{"ExtensionDirectories=/a/../b", `".."`},
		{"ExtensionDirectories=-", "path is empty"},
		{"ReloadCheck=+/bin/true", `the prefix "+" of "/bin/true" is not possible here`},
		{"ReloadCheck=-!/bin/true", `the prefix "!"`},
		{"ReloadCheck=@/bin/true x", `the prefix "@"`},
		{"ReloadCheck=:/bin/true", `the prefix ":"`},
		{"ReloadCheck=|/bin/true", `the prefix "|"`},
		{"ReloadCheck=/bin/true ; !/bin/false", `the prefix "!" of "/bin/false"`},
		{"ReloadCommand=./script", "neither an absolute path nor a plain name"},
		{"ReloadCommand=/bin/", "is a directory"},
		{"ReloadCommand=-", "no program"},
		{"ReloadCommand=;", "no command"},
		{`ReloadVerify=/bin/true "x`, "unbalanced quotes"},
		{"ReloadVerify=/bin/true %Z", `unknown specifier "%Z"`},
	} {
		// An earlier bad value is an error even where a later one replaces it.
		text := "[Service]\nJunk\n[X-Extexec]\n" + c.line + "\nNoExec=no\n"
		_, err := load(t, text)
		var syntax *unitfile.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%s: %v is no SyntaxError", c.line, err)
			continue
		}
		if syntax.File != unitPath || syntax.Line != 4 || !strings.Contains(syntax.Msg, c.want) {
			t.Errorf("%s: got %v, want line 4 and %q", c.line, syntax, c.want)
		}
	}
}

func TestSectionNameTypo(t *testing.T) {
	for name, want := range map[string]bool{"X-ExtExec": true, "Extexec": true, "X-Extexc": true, "X-Executor": false, "X-Other": false} {
		s := mustLoad(t, "["+name+"]\nReloadCheck=/bin/x\n")
		if got := len(s.Warnings) == 1 && strings.Contains(s.Warnings[0], "did you mean [X-Extexec]?"); got != want {
			t.Errorf("[%s]: warnings %q", name, s.Warnings)
		}
	}
}

func TestServiceStruct(t *testing.T) {
	s := mustLoad(t, `
[Service]
Type=notify
Type=bogus
ExecStart=/bin/x
User=web-%p
Group=www
SupplementaryGroups=a b
SupplementaryGroups=c
DynamicUser=no
WorkingDirectory=-%S/web/
RootDirectory=/
MountFlags=slave
AmbientCapabilities=CAP_NET_BIND_SERVICE cap_chown
CapabilityBoundingSet=~CAP_SYS_ADMIN
NoNewPrivileges=yes
IgnoreSIGPIPE=no
SetLoginEnvironment=no
UnsetEnvironment=GONE
UnsetEnvironment=
UnsetEnvironment=HOME "SHELL=/bin/%p"
`)
	want := Service{
		Type: "notify", User: "web-web", Group: "www", SupplementaryGroups: []string{"a", "b", "c"},
		WorkingDirectory: "/var/lib/web", WorkingDirectoryMissingOK: true, MountFlags: "slave",
		AmbientCapabilities: 1<<10 | 1<<0, CapabilityBoundingSet: ^Capabilities(1 << 21), NoNewPrivileges: true,
		NoLoginEnvironment: true, UnsetEnvironment: []string{"HOME", "SHELL=/bin/web"},
	}
	s.Service.Sandbox = nil
	if d := cmp.Diff(want, s.Service); d != "" {
		t.Errorf("service (-want +got):\n%s", d)
	}
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], `unknown type "bogus"`) {
		t.Errorf("warnings %q", s.Warnings)
	}
}

func TestServiceTypeDefault(t *testing.T) {
	for text, want := range map[string]string{
		"ExecStart=/bin/x": "simple", "": "oneshot", "BusName=a.b": "dbus", "Type=notify-reload": "notify-reload",
	} {
		if got := mustLoad(t, "[Service]\n"+text).Service.Type; got != want {
			t.Errorf("%q: type %s, want %s", text, got, want)
		}
	}
}

func TestServiceErrors(t *testing.T) {
	for line, want := range map[string]string{
		"User=a:b": "no name of a user", "User=%i": "no name of a user", "SupplementaryGroups=ok a/b": "no name of a group", "User=%Z": "unknown specifier",
		"WorkingDirectory=rel": "not absolute", "WorkingDirectory=-": "no path", "RootDirectory=rel": "not absolute",
	} {
		_, err := load(t, "[Service]\n"+line)
		var syntax *unitfile.SyntaxError
		if !errors.As(err, &syntax) || syntax.Line != 2 || !strings.Contains(syntax.Msg, want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestDynamicUserName(t *testing.T) {
	// SipHash-2-4 of the reference implementation's first vectors.
	var key [16]byte
	var data []byte
	for i := range key {
		key[i] = byte(i)
	}
	for i := range 15 {
		data = append(data, byte(i))
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		if got := sipHash24(key, data[:n]); got != want {
			t.Errorf("siphash24 of %d bytes: %#x, want %#x", n, got, want)
		}
	}
	for prefix, want := range map[string]string{
		"web": "web", "my_app-2": "my_app-2", "web.api": "_du", `a\x2db`: "_du", "9lives": "_du",
		"a234567890123456789012345678901": "a234567890123456789012345678901", "a2345678901234567890123456789012": "_du",
	} {
		got := dynamicUserName(prefix)
		if want == "_du" && (!strings.HasPrefix(got, "_du") || len(got) != 19) || want != "_du" && got != want {
			t.Errorf("dynamic user of %q: %q, want %q", prefix, got, want)
		}
	}
	s := mustLoad(t, "[Service]\nDynamicUser=yes\n")
	if s.Service.User != "web" || s.Service.Group != "web" {
		t.Errorf("user %q group %q", s.Service.User, s.Service.Group)
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"HUP": 1, "SIGHUP": 1, "1": 1, "SIGUSR2": 12, "RTMIN": 34, "SIGRTMIN+2": 36, "RTMIN+2": 36, "RTMAX": 64, "RTMAX-1": 63, "64": 64,
	} {
		if got, err := ParseSignal(in); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "65", "hup", "SIG", "RTMIN-1", "RTMIN+31", "RTMIN+", "-1", "9", "SIGSTOP", "HUP "} {
		if got, err := ParseSignal(in); err == nil {
			t.Errorf("%q: %d, want an error", in, got)
		}
	}
}

func TestRefRelax(t *testing.T) {
	r, err := ParseRef(Image, "/a:usr:ro,"+RelaxOption)
	if err != nil || !r.Relax {
		t.Errorf("%+v, %v", r, err)
	}
	r = Ref{Kind: Image, Path: "/a", Relax: true}
	if got := r.String(); got != "/a:root:"+RelaxOption {
		t.Errorf("%s", got)
	}
	if r.Options != nil {
		t.Error("String changed the ref")
	}
}

func TestLoadFile(t *testing.T) {
	root := fstest.MapFS{
		"srv/web@.service":                 {Data: []byte("[Service]\nExecStart=/bin/x\n[X-Extexec]\nExtensionDirectories=/srv/%i\n")},
		"srv/web@.service.d/a.conf":        {Data: []byte("[X-Extexec]\nReloadSignal=HUP\n")},
		"etc/systemd/system/web@.service":  {Data: []byte("[X-Extexec]\nReloadSignal=INT\n")},
		"etc/systemd/system/other.service": {Data: []byte("")},
	}
	s, err := Load("/srv/web@blue.service", LoadOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if s.Unit != "web@blue.service" || s.Fragment != "/srv/web@.service" || s.ReloadSignal != 1 || s.Refs[0].Path != "/srv/blue" {
		t.Errorf("%+v", s)
	}
	for unit, want := range map[string]string{
		"nosuch.service": `unit "nosuch.service" not found`, "/srv/no.service": `unit file "/srv/no.service" not found`,
		"other.service": "is masked by /etc/systemd/system/other.service", "srv/web@.service": "not absolute", "web": "no type",
	} {
		if _, err := Load(unit, LoadOptions{Root: root}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", unit, err)
		}
	}
}

func TestCommandExpand(t *testing.T) {
	c := Command{Argv: []string{"/bin/$A", "$A", "${A}", "$$A", "$NONE"}}
	env := map[string]string{"A": "x 'y z'"}
	got := c.Expand(func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	if d := cmp.Diff([]string{"/bin/$A", "x", "y z", "x 'y z'", "$A"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzRef(f *testing.F) {
	for _, s := range []string{"/a", "-/a b", `-/x\:y:root:ro,nosuid:usr:rw`, `/\x41\u20ac`, "/a:ro", "/a:root:", "+/b", "-+/c//d/./", "/dev/x", ":", ""} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, image bool, s string) {
		kind := Directory
		if image {
			kind = Image
		}
		r, err := ParseRef(kind, s)
		if err != nil {
			return
		}
		again, err := ParseRef(kind, r.String())
		if err != nil {
			t.Fatalf("%q -> %q: %v", s, r.String(), err)
		}
		if !r.Equal(again) || !maps.Equal(r.Options, again.Options) {
			t.Errorf("%q -> %+v -> %q -> %+v", s, r, r.String(), again)
		}
	})
}

func FuzzFromUnit(f *testing.F) {
	f.Add("[Service]\nExtensionImages=/a:root:ro -/b\nCapabilityBoundingSet=~CAP_SYS_ADMIN\nSystemCallFilter=@system-service\n[X-Extexec]\nReloadCheck=-/bin/x $A ; /bin/y\nHierarchies=/etc\nReloadTimeoutSec=1h\n")
	f.Add("[X-Extexec]\nMutable=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := unitfile.Parse("/x/web.service", []byte(text))
		if err != nil {
			return
		}
		name, err := unitfile.ParseName("web.service")
		if err != nil {
			t.Fatal(err)
		}
		s, err := FromUnit(&unitfile.Unit{Name: name, Assignments: file.Assignments, Warnings: file.Warnings}, unitfile.Facts{})
		if err != nil {
			if !errors.As(err, new(*unitfile.SyntaxError)) {
				t.Errorf("%v is no SyntaxError", err)
			}
			return
		}
		Forbids(s)
	})
}
