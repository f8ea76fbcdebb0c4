package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/integration/testclient"
)

// The wrapper tests run units whose ExecStart= is extexec run, as a user would write them.

const (
	wrapConf = "/etc/wrapped.conf"       // what the confext brings: "one\n", "two\n"
	wrapTool = "/usr/share/wrapped/tool" // what the sysext brings: the same
	wrapRun  = "ExecStart=!/usr/bin/extexec run -- "
)

// A wrapKind is what extensions are made of.
type wrapKind string

const (
	wrapDirs     wrapKind = "directories"
	wrapSquashfs wrapKind = "squashfs"
	wrapErofs    wrapKind = "erofs"
)

// wrapExts are a confext and a sysext of one test, in versioned directories.
type wrapExts struct {
	c    *rig.Container
	kind wrapKind
	dir  string
	more string // further lines of [X-Extexec]
}

// newWrapExts makes both extensions in version 1, "one".
func newWrapExts(t *testing.T, c *rig.Container, kind wrapKind) wrapExts {
	t.Helper()
	e := wrapExts{c: c, kind: kind, dir: c.TempDir()}
	e.install(t, 1, "one\n")
	return e
}

// install makes a version of both extensions and renames it into place.
func (e wrapExts) install(t *testing.T, version int, content string) {
	t.Helper()
	for _, name := range []string{"conf", "tool"} {
		part, target := e.dir+"/part", e.entry(name, version)
		if e.kind == wrapDirs {
			for path, text := range wrapFiles(name, content) {
				e.c.WriteFile(part+path, text, 0o644)
			}
		} else {
			e.c.CopyIn(wrapImage(t, e.kind, name, content), part)
		}
		e.c.WriteFile(filepath.Dir(target)+"/README", "no version", 0o644)
		e.c.Rename(part, target)
	}
}

// ref is the path of an extension's versioned directory, as a unit names it.
func (e wrapExts) ref(name string) string { return e.dir + "/" + name + e.suffix() + ".v" }

// entry is the path of one version.
func (e wrapExts) entry(name string, version int) string {
	return fmt.Sprintf("%s/%s_%d%s", e.ref(name), name, version, e.suffix())
}

func (e wrapExts) suffix() string {
	if e.kind == wrapDirs {
		return ""
	}
	return ".raw"
}

// section is the [X-Extexec] of a unit with these extensions.
func (e wrapExts) section() string {
	key := "ExtensionImages"
	if e.kind == wrapDirs {
		key = "ExtensionDirectories"
	}
	return fmt.Sprintf("[X-Extexec]\n%s=%s %s\n%s\n", key, e.ref("conf"), e.ref("tool"), e.more)
}

// wrapFiles are the files of an extension.
func wrapFiles(name, content string) map[string]string {
	if name == "conf" {
		return map[string]string{"/etc/extension-release.d/extension-release.conf": "ID=_any\n", wrapConf: content}
	}
	return map[string]string{"/usr/lib/extension-release.d/extension-release.tool": "ID=_any\n", wrapTool: content}
}

// wrapImages are built once for all containers: image path by kind, name and content.
var wrapImages struct {
	sync.Mutex
	paths map[string]string
}

// wrapImage returns the host's path of an image.
func wrapImage(t *testing.T, kind wrapKind, name, content string) string {
	t.Helper()
	wrapImages.Lock()
	defer wrapImages.Unlock()
	key := strings.Join([]string{string(kind), name, content}, "\x00")
	if path, ok := wrapImages.paths[key]; ok {
		return path
	}
	dir := t.TempDir()
	for path, text := range wrapFiles(name, content) {
		if err := os.MkdirAll(dir+"/tree"+filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/tree"+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool := map[wrapKind][]string{
		wrapSquashfs: {rig.RequireTool(t, "mksquashfs"), dir + "/tree", dir + "/image", "-quiet", "-no-progress", "-all-root"},
		wrapErofs:    {rig.RequireTool(t, "mkfs.erofs"), "--quiet", dir + "/image", dir + "/tree"},
	}[kind]
	if out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(tool, " "), err, out)
	}
	return dir + "/image"
}

// A wrapped is a unit of a test service under extexec run.
type wrapped struct {
	c    *rig.Container
	unit string
	exts wrapExts
}

// startWrapped starts a test service with two extensions as the lines of [Service] say. arguments are further ones
// of the test service.
func startWrapped(t *testing.T, c *rig.Container, e wrapExts, name, lines, arguments string) *wrapped {
	t.Helper()
	w := &wrapped{c: c, unit: "wrap-" + name + ".service", exts: e}
	// The readers never rest, so they yield to all others.
	c.WriteUnit(w.unit, fmt.Sprintf(`[Service]
Nice=19
RuntimeDirectory=wrap-%[1]s
%[2]s
%[3]s/usr/bin/testservice -control /run/wrap-%[1]s/control -read %[4]s -read %[5]s -read /etc/hostname %[6]s
ExecReload=+/usr/bin/extexec reload

%[7]s`, name, lines, wrapRun, wrapConf, wrapTool, arguments, e.section()))
	w.start(t)
	return w
}

// start starts the unit and waits until the service answers.
func (w *wrapped) start(t *testing.T) {
	t.Helper()
	w.c.Systemctl("start", w.unit)
	eventually(t, w.unit+" answers", func() bool {
		_, err := testclient.Ask(w.c.Path(w.socket()), "report")
		return err == nil
	})
}

func (w *wrapped) socket() string {
	return "/run/" + strings.TrimSuffix(w.unit, ".service") + "/control"
}

// reads checks that both files read so from now on, and that no lookup of any has failed since the last call.
func (w *wrapped) reads(t *testing.T, content string) {
	t.Helper()
	w.look(t)
	w.look(t) // what was under way when we came may still have read otherwise
	for _, f := range w.look(t).Files {
		if (f.Path == wrapConf || f.Path == wrapTool) && (len(f.Contents) != 1 || f.Contents[content] == 0) {
			t.Errorf("%s reads %v, want %q alone", f.Path, f.Contents, content)
		}
	}
}

// look waits until each file was looked up, checks that no lookup has failed since the last call, and returns
// what was read since then.
func (w *wrapped) look(t *testing.T) *testclient.Report {
	t.Helper()
	eventually(t, "a lookup of each file", func() bool {
		for _, f := range w.c.AskService(w.socket(), "report").Files {
			if f.Lookups == 0 {
				return false
			}
		}
		return true
	})
	r := w.c.AskService(w.socket(), "forget")
	for _, f := range r.Files {
		if f.Failed > 0 {
			t.Errorf("%d of %d lookups of %s failed, first %s", f.Failed, f.Lookups, f.Path, f.FirstError)
		}
	}
	return r
}

// reload installs version two, reloads, and checks that the running process has it.
func (w *wrapped) reload(t *testing.T) {
	t.Helper()
	w.reads(t, "one\n")
	before := w.c.MainPID(w.unit)
	w.exts.install(t, 2, "two\n")
	w.c.Systemctl("reload", w.unit)
	w.reads(t, "two\n")
	if after := w.c.MainPID(w.unit); after != before {
		t.Errorf("main process %v after the reload, want %v", after, before)
	}
	// Its path is cut off by then: it lies in the tree that was exchanged.
	if exe := w.c.Must("readlink", fmt.Sprintf("/proc/%d/exe", before.Inside)); !strings.HasSuffix(exe, "/bin/testservice") {
		t.Errorf("main process is %q", exe)
	}
}

// TestWrapper reloads running services of every type, with extensions of every kind.
func TestWrapper(t *testing.T) {
	cases := []struct {
		name, lines, arguments, more string
		kind                         wrapKind
		since                        int // systemd version
		reloads                      int // that the service is to be told of
	}{
		{name: "simple", lines: "Type=simple\nUser=www-data", kind: wrapDirs},
		{name: "exec", lines: "Type=exec\nDynamicUser=yes", kind: wrapSquashfs},
		{name: "notify", lines: "Type=notify\nDynamicUser=yes\nWatchdogSec=1", arguments: "-notify", kind: wrapErofs},
		{name: "signal", lines: "Type=notify\nUser=www-data", arguments: "-notify", more: "ReloadSignal=HUP", kind: wrapDirs, reloads: 1},
		{name: "notify-reload", lines: "Type=notify-reload\nUser=www-data", arguments: "-notify", kind: wrapDirs, since: 262, reloads: 1},
	}
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, tc := range cases {
			if c.SystemdVersion() < tc.since {
				continue
			}
			t.Run(tc.name, func(t *testing.T) {
				c := c.For(t)
				e := newWrapExts(t, c, tc.kind)
				e.more = tc.more
				w := startWrapped(t, c, e, tc.name, tc.lines, tc.arguments)
				w.reload(t)
				eventually(t, "the service was told to reload as often as it should be", func() bool {
					return c.AskService(w.socket(), "report").Reloads == tc.reloads
				})
				if strings.Contains(tc.lines, "WatchdogSec") {
					eventually(t, "two pings of the watchdog", func() bool { return c.AskService(w.socket(), "report").Pings >= 2 })
				}
			})
		}
	})
}

// wrapRoot is an image of a root that has extexec, and nothing else.
func wrapRoot(t *testing.T, c *rig.Container) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"usr/bin", "proc", "sys", "dev", "run", "tmp", "var/tmp"} {
		if err := os.MkdirAll(dir+"/tree/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(c.Root() + "/usr/bin/extexec")
	if err == nil {
		err = os.WriteFile(dir+"/tree/usr/bin/extexec", program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(rig.RequireTool(t, "mksquashfs"), dir+"/tree", dir+"/image", "-quiet", "-no-progress", "-all-root", "-noD", "-noI", "-noF", "-noX").CombinedOutput()
	if err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	return dir + "/image"
}
