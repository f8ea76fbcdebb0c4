package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// A refusal is a start that must fail, with exit status 226.
type refusal struct {
	lines   string // of [Service]
	section string // of [X-Extexec]; %D is the directory of the extensions
	run     string // flags of extexec run
	says    []string
}

// forbidden are the settings under which the wrapper cannot be, each with what the message must name.
var forbiddenCases = map[string]refusal{
	"bounding":        {lines: "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", says: []string{"CapabilityBoundingSet=", "CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE"}},
	"bounding-ptrace": {lines: "CapabilityBoundingSet=~CAP_SYS_PTRACE", says: []string{"CapabilityBoundingSet=", "CAP_SYS_PTRACE"}},
	"bounding-chroot": {lines: "CapabilityBoundingSet=~CAP_SYS_CHROOT", says: []string{"CapabilityBoundingSet=", "CAP_SYS_CHROOT"}},
	"bounding-setuid": {lines: "User=www-data\nCapabilityBoundingSet=~CAP_SETUID CAP_SETGID", says: []string{"CapabilityBoundingSet=", "CAP_SETUID, CAP_SETGID"}},
	"syscalls":        {lines: "SystemCallFilter=@system-service", says: []string{"SystemCallFilter=", "@mount"}},
	"syscalls-mount":  {lines: "SystemCallFilter=~@mount", says: []string{"SystemCallFilter=", "@mount"}},
	"syscalls-priv":   {lines: "User=www-data\nSystemCallFilter=@system-service @mount\nSystemCallFilter=~@privileged", says: []string{"SystemCallFilter=", "setresuid"}},
	"syscalls-setuid": {lines: "User=www-data\nSystemCallFilter=~@setuid", says: []string{"SystemCallFilter=", "@setuid"}},
	"syscalls-errno":  {lines: "SystemCallErrorNumber=EPERM\nSystemCallFilter=~@mount @setuid", says: []string{"SystemCallFilter=", "@mount"}},
	"namespaces":      {lines: "RestrictNamespaces=yes", says: []string{"RestrictNamespaces=", "mount namespace"}},
	"namespaces-mnt":  {lines: "RestrictNamespaces=~mnt", says: []string{"RestrictNamespaces=", "mount namespace"}},
	"file-systems":    {lines: "RestrictFileSystems=ext4 tmpfs", says: []string{"RestrictFileSystems="}},
	"users":           {lines: "PrivateUsers=yes", says: []string{"PrivateUsers="}},
	"pids":            {lines: "PrivatePIDs=yes", says: []string{"PrivatePIDs="}},
	"root":            {lines: "RootDirectory=%D/root\nMountAPIVFS=yes", says: []string{"RootDirectory="}},
	"root-image":      {lines: "RootImage=%D/root.raw\nMountAPIVFS=yes", says: []string{"RootImage="}},
	"apparmor":        {lines: "AppArmorProfile=-web", says: []string{"AppArmorProfile="}},
	"selinux":         {lines: "SELinuxContext=-system_u:system_r:web_t:s0", says: []string{"SELinuxContext="}},
	"securebits":      {lines: "SecureBits=noroot", says: []string{"SecureBits="}},
	"pam":             {lines: "PAMName=login", says: []string{"PAMName="}},
	"several":         {lines: "PrivateUsers=yes\nRestrictNamespaces=yes\nPAMName=login", says: []string{"PrivateUsers=", "RestrictNamespaces=", "PAMName="}},
}

// TestWrapperForbidden starts a unit with every setting that forbids the wrapper: each is told by its name, and
// that there is another way.
func TestWrapperForbidden(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		c.Script(fmt.Sprintf("mkdir -p %[1]s/root/usr/bin %[1]s/root/proc %[1]s/root/sys %[1]s/root/dev %[1]s/root/run && cp /usr/bin/extexec %[1]s/root/usr/bin/", e.dir))
		c.CopyIn(wrapRoot(t, c), e.dir+"/root.raw")
		cases := map[string]refusal{}
		for name, r := range forbiddenCases {
			r.section = "ExtensionDirectories=%D/conf.v"
			r.says = append(slices.Clone(r.says), "forbids the wrapper", "adopt it")
			cases[name] = r
		}
		refuse(t, e, "forbidden", cases)
	})
}

// refuse starts a unit a case and checks how each fails.
func refuse(t *testing.T, e wrapExts, prefix string, cases map[string]refusal) {
	t.Helper()
	c := e.c
	units := map[string]string{}
	for name, r := range cases {
		units["wrap-"+prefix+"-"+name+".service"] = strings.ReplaceAll(fmt.Sprintf(
			"[Service]\nType=oneshot\n%s\nExecStart=!/usr/bin/extexec run %s -- /bin/true\n[X-Extexec]\n%s\n", r.lines, r.run, r.section), "%D", e.dir)
	}
	startAll(t, c, units)
	shown, all := showAll(c, units, "ExecMainStatus"), extexecSaidAll(t, c)
	for name, r := range cases {
		unit := "wrap-" + prefix + "-" + name + ".service"
		if got := shown[unit]["ExecMainStatus"]; got != "226" {
			t.Errorf("%s: exit status %s, want 226\n%s", name, got, c.Journal(unit))
			continue
		}
		said := all[unit]
		if len(said) != 1 {
			t.Errorf("%s: want one line, got %q", name, said)
			continue
		}
		for _, want := range r.says {
			if want = strings.ReplaceAll(want, "%D", e.dir); !strings.Contains(said[0], want) {
				t.Errorf("%s: %q does not say %q", name, said[0], want)
			}
		}
		if testing.Verbose() {
			t.Logf("%s: %s", name, said[0])
		}
	}
}

// startAll writes and starts units, whether that succeeds or not.
func startAll(t *testing.T, c *rig.Container, units map[string]string) {
	t.Helper()
	c.WriteUnits(units)
	var names []string
	for unit := range units {
		names = append(names, unit)
		c.Forget(unit)
	}
	slices.Sort(names)
	c.Cleanup(func() {
		c.Script("systemctl stop " + quoteAll(names) + "; systemctl reset-failed " + quoteAll(names) + "; true")
	})
	c.Exec(t.Context(), append([]string{"systemctl", "start"}, names...)...)
}

// showAll asks for properties of many units at once.
func showAll[T any](c *rig.Container, units map[string]T, properties ...string) map[string]map[string]string {
	args := append([]string{"show", "--property=Id," + strings.Join(properties, ","), "--"}, slices.Sorted(maps.Keys(units))...)
	shown := map[string]map[string]string{}
	for block := range strings.SplitSeq(c.Systemctl(args...), "\n\n") {
		values := map[string]string{}
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			values[name] = value
		}
		shown[values["Id"]] = values
	}
	return shown
}

// extexecSaid are the lines that extexec wrote to the journal for the unit.
func extexecSaid(t *testing.T, c *rig.Container, unit string) []string {
	t.Helper()
	return extexecSaidAll(t, c)[unit]
}

// extexecSaidAll are the lines that extexec wrote to the journal, by unit.
func extexecSaidAll(t *testing.T, c *rig.Container) map[string][]string {
	t.Helper()
	c.Must("journalctl", "--sync")
	said := map[string][]string{}
	for line := range strings.Lines(c.Must("journalctl", "--no-pager", "--output=json", "--quiet", "--identifier=extexec")) {
		var entry struct {
			Message string `json:"MESSAGE"`
			By      string `json:"_SYSTEMD_UNIT"` // empty where the process was gone when journald looked
			About   string `json:"UNIT"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		unit := cmp.Or(entry.About, entry.By)
		said[unit] = append(said[unit], entry.Message)
	}
	return said
}

// badStarts are units that ask for what cannot be had.
var badStarts = map[string]refusal{
	"missing":       {section: "ExtensionDirectories=%D/nothing", says: []string{`"%D/nothing"`, "no such file"}},
	"missing-image": {section: "ExtensionImages=%D/nothing.raw", says: []string{`"%D/nothing.raw"`, "no such file"}},
	"empty-v":       {section: "ExtensionDirectories=%D/empty.v", says: []string{"%D/empty.v"}},
	"image-is-dir":  {section: "ExtensionImages=%D/conf.v/conf_1", says: []string{"%D/conf.v/conf_1"}},
	"dir-is-file":   {section: "ExtensionDirectories=%D/file", says: []string{"%D/file"}},
	"image-empty":   {section: "ExtensionImages=%D/file.raw", says: []string{"%D/file.raw"}},
	"image-garbage": {section: "ExtensionImages=%D/garbage.raw", says: []string{"%D/garbage.raw"}},
	"no-release":    {section: "ExtensionDirectories=%D/conf.v %D/plain", says: []string{"%D/plain", "extension-release.plain"}},
	"other-name":    {section: "ExtensionDirectories=%D/renamed", says: []string{"%D/renamed", "extension-release.renamed"}},
	"other-id":      {section: "ExtensionDirectories=%D/otherid", says: []string{"otherid", "ID", "plan9", "debian"}},
	"other-version": {section: "ExtensionDirectories=%D/otherversion", says: []string{"otherversion", "VERSION_ID", "0.1"}},
	"other-arch":    {section: "ExtensionDirectories=%D/otherarch", says: []string{"otherarch", "ARCHITECTURE", "s390x"}},
	"no-hierarchy":  {section: "ExtensionDirectories=%D/srvtree\nHierarchies=/usr/nowhere", says: []string{"/usr/nowhere", "mkdir"}},
	"unknown-key":   {section: "ExtensionDirectorys=%D/conf.v", says: []string{"wrap-bad-unknown-key.service:6", "ExtensionDirectorys", "ExtensionDirectories"}},
	"bad-value":     {section: "OnBadExtension=perhaps", says: []string{"wrap-bad-bad-value.service:6", "OnBadExtension", "perhaps"}},
	"no-equals":     {section: "ExtensionDirectories %D/conf.v", says: []string{"wrap-bad-no-equals.service:6"}},
	"relative":      {section: "ExtensionDirectories=conf.v", says: []string{"wrap-bad-relative.service:6", "absolute"}},
	"masked-unit":   {run: "--unit wrap-bad-masked.service", says: []string{"wrap-bad-masked.service", "masked"}},
	"unknown-unit":  {run: "--unit wrap-bad-none.service", says: []string{"wrap-bad-none.service"}},
	"devices":       {lines: "PrivateDevices=yes", section: "ExtensionImages=%D/conf.raw", says: []string{"DeviceAllow=/dev/loop-control", "DeviceAllow=block-loop", "PrivateDevices="}},
	"device-policy": {lines: "DevicePolicy=closed", section: "ExtensionImages=%D/conf.raw", says: []string{"DeviceAllow=/dev/loop-control", "DevicePolicy="}},
}

// badTrees makes what badStarts name.
const badTrees = `cd %s
mkdir -p empty.v plain/etc renamed/etc/extension-release.d srvtree/usr/nowhere
echo ID=_any >renamed/etc/extension-release.d/extension-release.other
: >file; : >file.raw; head -c 100000 /dev/urandom >garbage.raw
release() { mkdir -p $1/etc/extension-release.d; printf "$2" >$1/etc/extension-release.d/extension-release.$1; }
release otherid 'ID=plan9\n'
release otherversion 'ID=debian\nVERSION_ID=0.1\n'
release otherarch 'ID=_any\nARCHITECTURE=s390x\n'
mkdir -p srvtree/usr/lib/extension-release.d; echo ID=_any >srvtree/usr/lib/extension-release.d/extension-release.srvtree
ln -s /dev/null /etc/systemd/system/wrap-bad-masked.service
`

// TestWrapperBadStart starts units that ask for what cannot be had: they fail with a line that says why.
func TestWrapperBadStart(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		c.Cleanup(func() { c.Remove("/etc/systemd/system/wrap-bad-masked.service") })
		c.Forget("wrap-bad-masked.service")
		c.Forget("wrap-bad-none.service")
		c.Script(fmt.Sprintf(badTrees, e.dir))
		c.CopyIn(wrapImage(t, wrapSquashfs, "conf", "one\n"), e.dir+"/conf.raw")
		cases := maps.Clone(badStarts)
		if !strings.Contains(c.ReadFile("/etc/os-release"), "VERSION_ID") {
			delete(cases, "other-version") // a system without a version takes any
		}
		refuse(t, e, "bad", cases)
	})
}

// exitCases are services that end, or are not started at all: however that is, it is the same without extexec.
var exitCases = map[string]struct{ lines, command string }{
	"zero":        {"", "/bin/true"},
	"seven":       {"", "/bin/sh -c 'exit 7'"},
	"killed":      {"", "/bin/sh -c 'kill -9 $$$$'"},
	"pipe":        {"", "/bin/sh -c 'kill -PIPE $$$$'"},
	"missing":     {"", "/usr/bin/wrap-nothing"},
	"no-program":  {"", "/etc/hostname"},
	"a-directory": {"", "/etc"},
	"user":        {"User=wrapnobody", "/bin/true"},
	"group":       {"Group=wrapnobody", "/bin/true"},
	"groups":      {"SupplementaryGroups=wrapnobody", "/bin/true"},
	"uid":         {"User=4711", "/bin/true"},
	"directory":   {"WorkingDirectory=/missing", "/bin/true"},
	"forbidden":   {"User=www-data\nWorkingDirectory=/root", "/bin/true"},
	"no-home":     {"User=_apt\nWorkingDirectory=~", "/bin/true"},
	"not-allowed": {"User=www-data", "/etc/shadow"},
	"credential":  {"User=www-data\nLoadCredential=x:/etc/hostname", "/bin/cat ${CREDENTIALS_DIRECTORY}/x"},
	"dyn-secret":  {"DynamicUser=yes\nLoadCredential=x:/etc/hostname", "/bin/cat ${CREDENTIALS_DIRECTORY}/x"},
	"runtime-dir": {"User=www-data\nRuntimeDirectory=%p", "/usr/bin/touch ${RUNTIME_DIRECTORY}/x"},
	"dyn-state":   {"DynamicUser=yes\nStateDirectory=%p\nCacheDirectory=%p", "/usr/bin/touch ${STATE_DIRECTORY}/x ${CACHE_DIRECTORY}/x"},
	"private-tmp": {"User=www-data\nPrivateTmp=yes", "/usr/bin/touch /tmp/x /var/tmp/x"},
	"strict":      {"User=www-data\nProtectSystem=strict", "/usr/bin/touch /var/tmp/x"},
}

// TestWrapperExit compares how services end with and without extexec run.
func TestWrapperExit(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		units := map[string]string{}
		for name, tc := range exitCases {
			text := "[Service]\nType=exec\n" + tc.lines + "\n"
			units["wrap-exit-bare-"+name+".service"] = text + "ExecStart=" + tc.command + "\n"
			units["wrap-exit-with-"+name+".service"] = text + wrapRun + tc.command + "\n" + e.section()
		}
		startAll(t, c, units)
		c.Cleanup(func() { c.Script("rm -rf /var/*/wrap-exit-* /var/*/private/wrap-exit-*") })
		var shown map[string]map[string]string
		eventually(t, "all have ended", func() bool {
			shown = showAll(c, units, "ActiveState", "ExecMainCode", "ExecMainStatus", "Result")
			for _, unit := range shown {
				if unit["ActiveState"] != "inactive" && unit["ActiveState"] != "failed" {
					return false
				}
			}
			return len(shown) == len(units)
		})
		end := func(unit string) string {
			return strings.Join([]string{shown[unit]["ExecMainCode"], shown[unit]["ExecMainStatus"], shown[unit]["Result"]}, " ")
		}
		for name, tc := range exitCases {
			bare, with := end("wrap-exit-bare-"+name+".service"), end("wrap-exit-with-"+name+".service")
			if testing.Verbose() {
				t.Logf("%s: %s", name, bare)
			}
			if bare != with {
				t.Errorf("%s %q: %s with systemd alone, %s with extexec run:\n%s", tc.lines, tc.command, bare, with, c.Journal("wrap-exit-with-"+name+".service"))
			}
		}
	})
}

// badReloads are what makes a reload of a running service fail. Each line of shell is undone by the next.
var badReloads = []struct {
	name, do, undo string // %D is the directory of the extensions, %U the unit's file
	says           []string
}{
	{"no release file", "mv %D/conf.v/conf_2/etc/extension-release.d %D/aside", "mv %D/aside %D/conf.v/conf_2/etc/extension-release.d", []string{"conf_2", "release file"}},
	{"mismatch", "echo ID=plan9 >%D/conf.v/conf_2/etc/extension-release.d/extension-release.conf", "echo ID=_any >%D/conf.v/conf_2/etc/extension-release.d/extension-release.conf", []string{"plan9", "ID"}},
	{"empty directory", "mv %D/conf.v %D/aside; mkdir %D/conf.v", "rmdir %D/conf.v; mv %D/aside %D/conf.v", []string{"%D/conf.v", "install a version"}},
	{"no directory", "mv %D/tool.v %D/aside", "mv %D/aside %D/tool.v", []string{"%D/tool.v", "no such file"}},
	{"unknown key", "echo Hierarchys=/etc >>%U", "sed -i '$d' %U", []string{"Hierarchys", "Hierarchies="}},
	{"bad value", "echo ReloadSignal=NONE >>%U", "sed -i '$d' %U", []string{"ReloadSignal", "NONE"}},
	{"no equals sign", "echo NoExec >>%U", "sed -i '$d' %U", []string{"NoExec", "="}},
	{"no unit", "mv %U %D/unit", "mv %D/unit %U", []string{"wrap-reloads.service", "not found"}},
}

// TestWrapperBadReload makes reloads fail one way after the other: the service keeps what it has, and gets the
// new version when all is well again.
func TestWrapperBadReload(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		e := newWrapExts(t, c, wrapDirs)
		w := startWrapped(t, c, e, "reloads", "User=www-data", "")
		pid := c.MainPID(w.unit)
		e.install(t, 2, "two\n")
		paths := strings.NewReplacer("%D", e.dir, "%U", "/etc/systemd/system/"+w.unit)
		for _, tc := range badReloads {
			said := len(extexecSaid(t, c, w.unit))
			c.Script(paths.Replace(tc.do))
			if r := c.Exec(t.Context(), "systemctl", "reload", w.unit); r.Code == 0 {
				t.Errorf("%s: systemctl reload succeeds", tc.name)
			}
			c.Script(paths.Replace(tc.undo))
			w.reads(t, "one\n")
			lines := extexecSaid(t, c, w.unit)[said:]
			if len(lines) != 1 {
				t.Errorf("%s: want one line, got %q", tc.name, lines)
				continue
			}
			for _, want := range tc.says {
				if want = paths.Replace(want); !strings.Contains(lines[0], want) {
					t.Errorf("%s: %q does not say %q", tc.name, lines[0], want)
				}
			}
			if testing.Verbose() {
				t.Logf("%s: %s", tc.name, lines[0])
			}
		}
		c.Systemctl("reload", w.unit)
		w.reads(t, "two\n")
		if now := c.MainPID(w.unit); now != pid {
			t.Errorf("main process %v, was %v", now, pid)
		}
	})
}
