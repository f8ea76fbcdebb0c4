package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// A nativeFailure is something that goes wrong when systemd 262 itself reloads a unit's extensions.
type nativeFailure struct {
	name     string
	settings string
	reads    []string
	ship     func(a *adoptee, version int)
	// wrong says what is not as it should be after a reload to version 2, "" when all is.
	wrong func(a *adoptee) string
	// refreshes says that systemd does exchange the overlay, so that its new version must be seen there.
	refreshes bool
}

const (
	nativeVersion = "/etc/native-version"
	nativeWho     = "/etc/native-who.conf"
	nativeBound   = "/etc/native-bound.conf"
	nativeSecret  = "/etc/native-secret.conf"
	nativeTool    = "/usr/share/native-tool"
)

var nativeFailures = []nativeFailure{
	{
		name: "order", settings: "ExtensionDirectories=%D/conf.v %D/top\n", refreshes: true, reads: []string{nativeWho},
		ship: func(a *adoptee, version int) {
			if version == 1 {
				a.ship("top", files{nativeWho: "top\n"})
			}
			a.shipConf(version, files{nativeWho: "base\n"})
		},
		wrong: func(a *adoptee) string { return a.wants(nativeWho, "top\n") },
	},
	{
		name: "bind", settings: "ExtensionDirectories=%D/conf.v\nBindReadOnlyPaths=%D/bound:" + nativeBound + "\n", refreshes: true, reads: []string{nativeBound},
		ship: func(a *adoptee, version int) {
			a.c.WriteFile(a.dir+"/bound", "bound\n", 0o644)
			a.shipConf(version, files{nativeBound: "shipped\n"})
		},
		wrong: func(a *adoptee) string { return a.wants(nativeBound, "bound\n") },
	},
	{
		name: "inaccessible", settings: "User=daemon\nExtensionDirectories=%D/conf.v\nInaccessiblePaths=" + nativeSecret + "\n", refreshes: true, reads: []string{nativeSecret},
		ship:  func(a *adoptee, version int) { a.shipConf(version, files{nativeSecret: "secret\n"}) },
		wrong: func(a *adoptee) string { return a.wants(nativeSecret, "") },
	},
	{
		name: "layers", settings: "ExtensionDirectories=%D/conf.v" + manyConfs() + "\n",
		ship: func(a *adoptee, version int) {
			if version == 1 {
				for i := range manyLayers - 1 {
					a.ship(fmt.Sprintf("many%d", i), files{fmt.Sprintf("/etc/native-many%d", i): "many\n"})
				}
			}
			a.shipConf(version, nil)
		},
		wrong: func(a *adoptee) string { return a.wants(nativeVersion, "2\n") },
	},
	{
		name: "sysext", settings: "ExtensionDirectories=%D/conf.v %D/tool.v\n", refreshes: true, reads: []string{nativeTool},
		ship: func(a *adoptee, version int) {
			a.shipConf(version, nil)
			a.ship(fmt.Sprintf("tool.v/tool_%d", version), files{nativeTool: fmt.Sprintf("%d\n", version)})
		},
		wrong: func(a *adoptee) string { return a.wants(nativeTool, "2\n") },
	},
	{
		name: "plain", settings: "ExtensionDirectories=%D/conf\n",
		ship: func(a *adoptee, version int) {
			if version > 1 {
				a.c.Rename(a.dir+"/conf", a.dir+"/old")
			}
			a.ship("conf", files{nativeVersion: fmt.Sprintf("%d\n", version)})
		},
		wrong: func(a *adoptee) string { return a.wants(nativeVersion, "2\n") },
	},
}

// manyLayers is more than fit into the 255 bytes that fsconfig(2) takes for a string.
const manyLayers = 21

func manyConfs() string {
	var b strings.Builder
	for i := range manyLayers - 1 {
		fmt.Fprintf(&b, " %%D/many%d", i)
	}
	return b.String()
}

// shipConf ships a confext of the version, with a file that tells it.
func (a *adoptee) shipConf(version int, f files) {
	a.t.Helper()
	all := files{nativeVersion: fmt.Sprintf("%d\n", version)}
	for p, text := range f {
		all[p] = text
	}
	a.ship(fmt.Sprintf("conf.v/conf_%d", version), all)
}

// reads is what the service reads in the file from now on: the text, or the error.
func (a *adoptee) reads(file string) (text, err string) {
	a.t.Helper()
	a.ask("forget")
	eventually(a.t, a.unit+" reads "+file, func() bool {
		f := a.ask("report").File(file)
		text, err = f.Last, f.FirstError
		return f.Lookups > 0
	})
	return text, err
}

// wants compares what the service reads with the text; "" wants it to be denied.
func (a *adoptee) wants(file, text string) (wrong string) {
	a.t.Helper()
	switch got, err := a.reads(file); {
	case text == "" && !strings.Contains(err, "permission denied"):
		return fmt.Sprintf("%s can be read: %q", file, got)
	case text != "" && err != "":
		return fmt.Sprintf("%s cannot be read: %s", file, err)
	case got != text:
		return fmt.Sprintf("%s is %q, want %q", file, got, text)
	}
	return ""
}

// TestNativeReload runs each unit once with systemd's own reload of extensions, which shows that the failure is
// real, and once with ours, which shows that it is not there. The first half is skipped where a later systemd
// has mended it.
func TestNativeReload(t *testing.T) {
	t.Parallel()
	c := rig.Shared(t, rig.Forky)
	for _, f := range nativeFailures {
		t.Run(f.name+"/systemd", func(t *testing.T) {
			wrong := f.run(t, c.For(t), "RefreshOnReload=extensions\nExecReload=true\n")
			if wrong == "" {
				t.Skipf("systemd %d has mended this", c.SystemdVersion())
			}
			t.Logf("systemd %d: %s", c.SystemdVersion(), wrong)
		})
		t.Run(f.name+"/extexec", func(t *testing.T) {
			if wrong := f.run(t, c.For(t), keepOffLine+reloadLine); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

// run starts the unit with version 1 and reloads it to version 2.
func (f nativeFailure) run(t *testing.T, c *rig.Container, settings string) (wrong string) {
	native := !strings.Contains(settings, reloadLine)
	a := newAdoptee(t, c, fmt.Sprintf("native-%s-%t", f.name, native))
	f.ship(a, 1)
	a.startWith(f.settings+settings, append(f.reads, nativeVersion)...)
	if wrong := a.wants(nativeVersion, "1\n"); wrong != "" {
		t.Fatalf("at the start %s", wrong)
	}
	f.ship(a, 2)
	if r := a.tryReload(); r.Code != 0 {
		return fmt.Sprintf("reload fails: %s", strings.TrimSpace(r.Stderr))
	}
	if wrong := a.wants(nativeVersion, "2\n"); f.refreshes && wrong != "" {
		t.Fatalf("the reload does nothing: %s", wrong)
	}
	return f.wrong(a)
}
