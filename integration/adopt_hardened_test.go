package integration

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// adoptSandbox is one way to harden a unit.
type adoptSandbox struct {
	name     string
	settings string
	ours     string // in [X-Extexec]
	host     files  // files that the test makes outside of all extensions
	// carried are paths below hierarchies that have a mount, with what is read there, at the start and after
	// every reload; "" for what cannot be read. With an "@" at its end the path is looked up in a directory
	// that the service has opened at its start.
	carried map[string]string
	files   files // of the extension beside the one that has versions
	covered bool  // systemd's overlay has mounts below it: it stays covered
	needs   func(c *rig.Container) bool
	check   func(a *adoptee) // after the start and after every reload
}

var adoptSandboxes = []adoptSandbox{
	{name: "user", settings: "User=daemon\n"},
	{name: "dynamic", settings: "DynamicUser=yes\n"},
	{name: "usual", settings: "DynamicUser=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\nProtectProc=invisible\nProcSubset=pid\n" +
		"NoNewPrivileges=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes\nProtectControlGroups=yes\nRestrictNamespaces=yes\nCapabilityBoundingSet=\n" +
		"SystemCallFilter=@system-service\nRestrictSUIDSGID=yes\nLockPersonality=yes\n"},
	{name: "privateusers", settings: "PrivateUsers=yes\nUser=daemon\n"},
	{name: "privatepids", settings: "PrivatePIDs=yes\n", needs: since(257)},
	{name: "privatemounts", settings: "PrivateMounts=yes\nMountFlags=private\n"},
	{
		name: "bind", settings: "BindReadOnlyPaths=%D/bound:/usr/share/adopt-bound\n", covered: true,
		files: files{"/usr/share/adopt-bound": "shipped\n"}, carried: map[string]string{"/usr/share/adopt-bound": "bound\n"},
	},
	{
		name: "inaccessible", settings: "User=daemon\nInaccessiblePaths=/usr/share/adopt-secret\n", covered: true,
		files: files{"/usr/share/adopt-secret": "secret\n"}, carried: map[string]string{"/usr/share/adopt-secret": "", "/usr/share/adopt-secret@": ""},
	},
	{
		name: "etc", settings: "User=daemon\nBindReadOnlyPaths=%D/bound:/etc/adopt-bound\nInaccessiblePaths=/etc/adopt-secret\n", covered: true, needs: confexts,
		files: files{"/etc/adopt-bound": "shipped\n", "/etc/adopt-secret": "secret\n"}, carried: map[string]string{"/etc/adopt-bound": "bound\n", "/etc/adopt-secret": "", "/etc/adopt-secret@": ""},
	},
	{
		name: "tmpfs", settings: "TemporaryFileSystem=/usr/share/adopt-tmp:ro\n", covered: true,
		files: files{"/usr/share/adopt-tmp/file": "shipped\n"}, carried: map[string]string{"/usr/share/adopt-tmp/file": ""},
	},
	{
		name: "nested", settings: "BindReadOnlyPaths=%D/nest:/usr/share/adopt-nest %D/bound:/usr/share/adopt-nest/bound\n", covered: true,
		files:   files{"/usr/share/adopt-nest/bound": "shipped\n"},
		carried: map[string]string{"/usr/share/adopt-nest/bound": "bound\n", "/usr/share/adopt-nest/other": "nest\n"},
	},
	{name: "readwrite", settings: "ProtectSystem=strict\nReadWritePaths=/etc/adopt-readwrite\n", covered: true, needs: confexts,
		files: files{"/etc/adopt-readwrite/file": "shipped\n"}, carried: map[string]string{"/etc/adopt-readwrite/file": "shipped\n"}},
	{
		// What the sandbox lets the service write to is the host's, and stays so.
		name: "writable", settings: "User=daemon\nProtectSystem=strict\nReadWritePaths=/etc/adopt-writable\n", ours: "ExtensionDirectories=%D/conf\n",
		host: files{"/etc/adopt-writable/file": "host\n"}, carried: map[string]string{"/etc/adopt-writable/file": "host\n"},
		files: files{"/usr/share/adopt-writable-other": ""}, check: func(a *adoptee) {
			if o := a.mountOptions("/etc/adopt-writable"); !strings.HasPrefix(o, "rw") {
				a.t.Errorf("the mount of ReadWritePaths= has the options %q", o)
			}
		},
	},
	{name: "noexec", settings: "NoExecPaths=/usr/share/adopt-quiet\nReadOnlyPaths=/usr/share\n", covered: true,
		files: files{"/usr/share/adopt-quiet/file": "shipped\n"}, check: func(a *adoptee) {
			if o := a.mountOptions("/usr/share/adopt-quiet"); !strings.Contains(o, "noexec") {
				a.t.Errorf("the mount of NoExecPaths= has the options %q", o)
			}
		}},
}

// since says whether this systemd is of the version, or later.
func since(version int) func(*rig.Container) bool {
	return func(c *rig.Container) bool { return c.SystemdVersion() >= version }
}

// hardened is a unit with one of the sandboxes.
type hardened struct {
	*adoptee
	adoptSandbox
	file string // that has versions
	attr string // of systemd's overlay on /usr
	n    int    // mounts in its namespace after the last reload
}

// TestAdoptHardened adopts units whose sandbox hides, binds and forbids, all at once: three reloads each, and
// what the sandbox mounts below a hierarchy is there all the time.
func TestAdoptHardened(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		var units []*hardened
		var names []string
		text := map[string]string{}
		for _, s := range adoptSandboxes {
			if s.needs != nil && !s.needs(c) {
				continue
			}
			u := &hardened{adoptee: newAdoptee(t, c, s.name), adoptSandbox: s, file: "/usr/share/adopt-" + s.name}
			units, names = append(units, u), append(names, u.unit)
			text[u.unit] = u.prepare()
		}
		c.WriteUnits(text)
		for _, name := range names {
			c.UseUnit(name)
		}
		c.Systemctl(append([]string{"start"}, names...)...)
		for _, u := range units {
			u.pid = c.MainPID(u.unit)
			u.systemdsOn("/usr")
			u.attr = u.mountOptions("/usr")
			u.checkReads("version 0\n")
		}
		for i := range 3 {
			version := fmt.Sprintf("version %d\n", i+1)
			for _, u := range units {
				c.Rename(u.dir+"/tool", fmt.Sprintf("%s/old-%d", u.dir, i))
				u.ship("tool", files{u.file: version})
			}
			c.Systemctl(append([]string{"reload"}, names...)...)
			for _, u := range units {
				if now := c.MainPID(u.unit); now != u.pid {
					t.Errorf("%s: main process is %v after the reload, was %v", u.unit, now, u.pid)
				}
				u.checkReads(version)
				u.checkStack()
				n := strings.Count(u.mounts(), "\n")
				if i > 0 && n != u.n {
					t.Errorf("%s: %d mounts after reload %d, %d after the one before", u.unit, n, i+1, u.n)
				}
				u.n = n
			}
		}
	})
}

// prepare ships the extensions and returns the text of the unit.
func (u *hardened) prepare() string {
	u.t.Helper()
	u.ship("tool", files{u.file: "version 0\n"})
	settings := "ExtensionDirectories=%D/tool\n" + u.settings + keepOffLine + reloadLine
	if u.ours != "" {
		u.ship("conf", files{"/etc/adopt-conf": "", "/etc/adopt-writable/file": "shipped\n"})
		settings += "[X-Extexec]\n" + u.ours
	}
	for p, text := range u.host {
		u.c.WriteFile(p, text, 0o644)
		u.c.Cleanup(func() { u.c.Remove(path.Dir(p)) })
	}
	if len(u.files) > 0 {
		u.ship("fixed", u.files)
		settings = "ExtensionDirectories=%D/fixed\n" + settings
	}
	u.c.WriteFile(u.dir+"/bound", "bound\n", 0o644)
	u.c.WriteFile(u.dir+"/nest/bound", "", 0o644)
	u.c.WriteFile(u.dir+"/nest/other", "nest\n", 0o644)
	reads := []string{u.file}
	for p := range u.carried {
		if at, ok := strings.CutSuffix(p, "@"); ok {
			u.flags += " -read-at " + path.Dir(at) + ":" + path.Base(at)
			continue
		}
		reads = append(reads, p)
	}
	return u.text(settings, reads...)
}

// checkReads waits for the new version, and looks at what was read since the last check: at the carried mounts
// always the same.
func (u *hardened) checkReads(version string) {
	u.t.Helper()
	u.sees(u.file, version)
	for _, f := range u.ask("forget").Files {
		want, carried := u.carried[f.Path]
		switch {
		case carried && want == "":
			if f.Failed != f.Lookups || f.Lookups == 0 {
				u.t.Errorf("%s: %s could be read: %v", u.unit, f.Path, f.Contents)
			}
		case f.Failed > 0 || f.Lookups == 0:
			u.t.Errorf("%s: %d of %d lookups of %s failed: %s", u.unit, f.Failed, f.Lookups, f.Path, f.FirstError)
		case carried && (len(f.Contents) != 1 || f.Contents[want] == 0):
			u.t.Errorf("%s: want %q alone in %s: %v", u.unit, want, f.Path, f.Contents)
		}
	}
	if u.check != nil {
		u.check(u.adoptee)
	}
}

// checkStack compares what status says of covered trees with the mount table.
func (u *hardened) checkStack() {
	u.t.Helper()
	covered := 0
	for _, h := range u.status().Hierarchies {
		stack := u.sources(h.Path)
		if want := max(len(stack)-1, 0); h.Covered != want {
			u.t.Errorf("%s: status says that %d trees are covered on %s, the mount table has %q", u.unit, h.Covered, h.Path, stack)
		}
		covered += h.Covered
	}
	now := strings.Split(u.mountOptions("/usr"), ",")
	for _, o := range strings.Split(u.attr, ",") {
		if !slices.Contains(now, o) {
			u.t.Errorf("%s: systemd's overlay has the option %s, ours has %q", u.unit, o, now)
		}
	}
	if want := map[bool]int{true: 1}[u.covered]; covered != want {
		u.t.Errorf("%s: %d trees are covered, want %d", u.unit, covered, want)
	}
}

// mountOptions are those of the mount at a path of the service.
func (a *adoptee) mountOptions(path string) string {
	a.t.Helper()
	options := ""
	for line := range strings.Lines(a.mounts()) {
		if f := strings.Fields(line); f[4] == path {
			options = f[5]
		}
	}
	return options
}
