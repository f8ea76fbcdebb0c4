package reload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/state"
)

func init() { runtime.LockOSThread() }

// child is what a copy of the test binary does instead of running tests.
type child struct {
	Run    *RunOptions // execute a service
	Name   string      // reload it, and be killed at Point
	Back   bool        // a rollback in place of a reload
	Dirs   state.Dirs
	Point  string
	Limits nsmount.Limits
	Bind   []string // a start binds the first on the second at Point
	Files  uint64   // RLIMIT_NOFILE, soft and hard

	Strike syscall.Signal // a start gets it at Point, or, where it is 0 and Bind empty, fails there
	Points string         // a start writes the names of its points into this file
	Warned string         // and what it warns of into this one
	Nobody bool           // repair as a user other than root
}

const envChild = "RELOADTEST_CHILD"

func TestMain(m *testing.M) {
	text := os.Getenv(envChild)
	if text == "" {
		nsmounttest.Main(m)
	}
	os.Unsetenv(envChild)
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, c.do())
	os.Exit(1)
}

func (c child) do() error {
	if c.Files > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: c.Files, Max: c.Files}); err != nil {
			return err
		}
	}
	if c.Nobody {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
		_, err := Repair(context.Background(), RepairOptions{Options: Options{Dirs: c.Dirs}})
		return err
	}
	if c.Run != nil {
		for _, v := range nsmounttest.Environment() {
			name, value, _ := strings.Cut(v, "=")
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
		c.Run.Hook = func(point string) error {
			if point == c.Point && len(c.Bind) > 0 {
				return nsmounttest.Mount(c.Bind[0], c.Bind[1], "", syscall.MS_BIND)
			}
			return c.strike(point)
		}
		if c.Warned != "" {
			c.Run.Warn = func(text string) { _ = appendLine(c.Warned, text) }
		}
		return Run(context.Background(), *c.Run)
	}
	o := Options{Name: c.Name, Dirs: c.Dirs, Limits: c.Limits, Hook: func(point string) error {
		if point == c.Point {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}}
	var err error
	if c.Back {
		_, err = Rollback(context.Background(), o, 0)
	} else {
		_, err = Reload(context.Background(), o)
	}
	return err
}

// strike is the hook of a start.
func (c child) strike(point string) error {
	if c.Points != "" {
		return appendLine(c.Points, point)
	}
	switch {
	case point != c.Point:
		return nil
	case c.Strike == 0:
		return errInjected
	}
	if err := syscall.Kill(os.Getpid(), c.Strike); err != nil {
		return err
	}
	select {} // the process ends here
}

func appendLine(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, text)
	return err
}

var errInjected = errors.New("injected")

func (c child) command(t testing.TB) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), envChild+"="+string(text))
	cmd.Stderr = os.Stderr
	return cmd
}

// bed is a service by hand with a confext and a sysext in .v/ directories, and a
// carried mount below /etc.
type bed struct {
	t    testing.TB
	dir  string
	dirs state.Dirs
	unit string // path of a unit file, where there is one
	svc  *nsmounttest.Service

	loose bool // --allow-untrusted-path
}

func newBed(t testing.TB) *bed {
	t.Helper()
	nsmounttest.Root(t)
	b := &bed{t: t, dir: t.TempDir()}
	b.dirs = state.In(b.dir + "/state")
	b.install("1")
	return b
}

// install makes a version of both extensions appear by rename.
func (b *bed) install(version string) {
	b.t.Helper()
	b.extension("conf", version, map[string]string{
		"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": version})
	b.extension("sys", version, map[string]string{
		"usr/lib/extension-release.d/extension-release.sys": "ID=_any\n", "usr/extexec-test": version, "opt/extexec-test": version})
}

func (b *bed) extension(name, version string, files map[string]string) {
	b.t.Helper()
	tmp := filepath.Join(b.dir, "new")
	for path, content := range files {
		p := filepath.Join(tmp, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	v := filepath.Join(b.dir, name+".v")
	if err := os.MkdirAll(v, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(v, name+"_"+version)); err != nil {
		b.t.Fatal(err)
	}
}

// write writes the unit file; its extensions are those of the bed.
func (b *bed) write(lines ...string) {
	b.t.Helper()
	b.unit = b.dir + "/bed.service"
	text := fmt.Sprintf("[Service]\nExecStart=/bin/true\n[X-Extexec]\nExtensionDirectories=%s/conf.v %s/sys.v\n%s\n", b.dir, b.dir, strings.Join(lines, "\n"))
	if err := os.WriteFile(b.unit, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) options() RunOptions {
	if b.unit != "" {
		return RunOptions{Name: "bed", Unit: b.unit, Dirs: b.dirs, Argv: []string{"/proc/self/exe"}}
	}
	return RunOptions{
		Name: "bed", Dirs: b.dirs, Argv: []string{"/proc/self/exe"},
		Flags: Flags{Directories: []string{b.dir + "/conf.v", b.dir + "/sys.v"}, AnyPath: b.loose},
	}
}

func (b *bed) start() {
	b.t.Helper()
	o := b.options()
	b.svc = nsmounttest.StartCommand(b.t, child{Run: &o}.command(b.t))
}

func (b *bed) reload(o Options) (*Result, error) {
	b.t.Helper()
	o.Name, o.Dirs, o.Limits = "bed", b.dirs, nsmount.Probe()
	return Reload(b.t.Context(), o)
}

// sees gives the version that each hierarchy shows.
func (b *bed) sees() string {
	b.t.Helper()
	var v []string
	for _, h := range []string{"/usr", "/opt", "/etc"} {
		v = append(v, b.svc.Read(h+"/extexec-test"))
	}
	return strings.Join(v, " ")
}

func (b *bed) want(version string) {
	b.t.Helper()
	if got, want := b.sees(), strings.Join([]string{version, version, version}, " "); got != want {
		b.t.Errorf("the service sees %q, want %q", got, want)
	}
}

// whole checks that there is one overlay a hierarchy, of one reload, and nothing
// pending. Before Linux 6.5 the overlays of earlier reloads are covered by it.
func (b *bed) whole() {
	b.t.Helper()
	m := b.svc.Table("overlay extexec:")
	top := map[string]string{} // source, by hierarchy: the last one is on top
	for _, line := range m {
		words := strings.Fields(line)
		_, source, _ := strings.Cut(line, " - overlay ")
		top[words[4]], _, _ = strings.Cut(source, " ")
	}
	if len(top) != 3 || top["/usr"] != top["/opt"] || top["/usr"] != top["/etc"] {
		b.t.Errorf("the hierarchies do not agree: %q", top)
	}
	if len(m) != 3 && nsmount.HaveBeneath() {
		b.t.Errorf("overlays: %q, want 3", m)
	}
	u, err := b.dirs.Unit("bed")
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := u.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	if r.Pending != nil {
		b.t.Errorf("generation %d is still pending", r.Pending.Number)
	}
}

func TestReload(t *testing.T) {
	b := newBed(t)
	b.start()
	b.want("1")
	b.svc.Hammer("/etc/extexec-test", "/usr/extexec-test", "/opt/extexec-test")
	for v := 2; v <= 6; v++ {
		b.install(fmt.Sprint(v))
		res, err := b.reload(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !res.Exchanged || res.Generation.Number != uint64(v) {
			t.Errorf("reload came to %+v", res)
		}
		b.want(fmt.Sprint(v))
	}
	for found := range b.svc.Tally() {
		if strings.Contains(found, "error") {
			t.Errorf("a lookup failed: %s", found)
		}
	}
	b.whole()
	res, err := b.reload(Options{IfChanged: true})
	if err != nil || res.Exchanged {
		t.Errorf("reload --if-changed, nothing changed: %+v, %v", res, err)
	}
	res, err = b.reload(Options{Force: true})
	if err != nil || !res.Exchanged || res.Generation.Number != 7 {
		t.Errorf("reload --force: %+v, %v", res, err)
	}
	b.whole()
}

// points lists every point of a reload, in order.
func points(t *testing.T) []string {
	t.Helper()
	b := newBed(t)
	b.start()
	b.install("2")
	var list []string
	_, err := b.reload(Options{Hook: func(p string) error { list = append(list, p); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 20 || !slices.Contains(list, "after exchange") {
		t.Fatalf("the steps of a reload: %q", list)
	}
	return list
}

// TestFailAtEveryStep fails each step: the old state is live, whatever had been
// done is undone, and the next reload goes through.
func TestFailAtEveryStep(t *testing.T) {
	injected := errors.New("injected")
	for _, point := range points(t) {
		t.Run(point, func(t *testing.T) {
			b := newBed(t)
			b.start()
			b.install("2")
			_, err := b.reload(Options{Hook: func(p string) error {
				if p == point {
					return injected
				}
				return nil
			}})
			var f *Failure
			if !errors.As(err, &f) || !errors.Is(err, injected) {
				t.Fatalf("error %v, want a *Failure with the injected one", err)
			}
			var undo *steps.UndoError
			if errors.As(err, &undo) {
				t.Fatalf("the undo failed: %v", err)
			}
			if point != "after commit" {
				b.want("1")
			}
			if late := slices.Contains([]string{"after exchange", "before apply", "after apply", "before verify", "after verify", "before commit", "after commit"}, point); (f.Left == TakenBack) != late {
				t.Errorf("left %v after %q: %v", f.Left, point, f)
			}
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			b.want("2")
			b.whole()
		})
	}
}

// TestKillAtEveryStep kills extexec at each point: every hierarchy shows the old
// or the new version, and the next reload makes all of them agree.
func TestKillAtEveryStep(t *testing.T) {
	for _, point := range points(t) {
		t.Run(point, func(t *testing.T) {
			b := newBed(t)
			b.start()
			b.install("2")
			cmd := child{Name: "bed", Dirs: b.dirs, Point: point, Limits: nsmount.Probe()}.command(t)
			if err := cmd.Run(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child was not killed: %v", err)
			}
			for _, v := range strings.Fields(b.sees()) {
				if v != "1" && v != "2" {
					t.Errorf("after the kill the service sees %q", b.sees())
				}
			}
			b.install("3")
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			b.want("3")
			b.whole()
		})
	}
}

// TestRestoreAfterKill kills a reload after its exchange, and takes the wanted
// version away: the last committed generation comes back.
func TestRestoreAfterKill(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	cmd := child{Name: "bed", Dirs: b.dirs, Point: "after exchange", Limits: nsmount.Probe()}.command(t)
	if err := cmd.Run(); err == nil {
		t.Fatal("the child was not killed")
	}
	b.want("2")
	if err := os.Remove(b.dir + "/conf.v/conf_2/etc/extension-release.d/extension-release.conf"); err != nil {
		t.Fatal(err)
	}
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack {
		t.Errorf("error %v, want one that says that the old state is back", err)
	}
	b.want("1")
	b.whole()
}

// TestRestoreAfterFailedVerify kills the reload to a bad version after its exchange.
// The next one fails in ReloadVerify=, and what it found is no state to go back to:
// the last committed generation is.
func TestRestoreAfterFailedVerify(t *testing.T) {
	b := newBed(t)
	b.write(`ReloadVerify=/bin/sh -c 'read v </etc/extexec-test || test $$v = 1'`)
	b.start()
	b.install("2")
	cmd := child{Name: "bed", Dirs: b.dirs, Point: "after exchange", Limits: nsmount.Probe()}.command(t)
	if err := cmd.Run(); err == nil {
		t.Fatal("the child was not killed")
	}
	b.want("2")
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack {
		t.Errorf("error %v, want one that says that the old state is back", err)
	}
	b.want("1")
	b.whole()
}

// TestRestoreIsNotChecked: the last committed generation comes back after a kill also
// where a check has come to refuse everything; what is there else was never verified.
func TestRestoreIsNotChecked(t *testing.T) {
	for _, line := range []string{"ReloadCheck=/bin/false", "ReloadVerify=/bin/false"} {
		t.Run(line, func(t *testing.T) {
			b := newBed(t)
			b.write("")
			b.start()
			b.install("2")
			cmd := child{Name: "bed", Dirs: b.dirs, Point: "after exchange", Limits: nsmount.Probe()}.command(t)
			if err := cmd.Run(); err == nil {
				t.Fatal("the child was not killed")
			}
			b.write(line)
			_, err := b.reload(Options{})
			var f *Failure
			if !errors.As(err, &f) || f.Left != TakenBack {
				t.Errorf("error %v, want one that says that the old state is back", err)
			}
			b.want("1")
			b.whole()
		})
	}
}

// TestRefusedWithoutMemory: a refusal that cannot be remembered is a warning, also
// where the reload fails.
func TestRefusedWithoutMemory(t *testing.T) {
	b := newBed(t)
	b.write("")
	b.start()
	b.write("ReloadCheck=/bin/false")
	b.install("2")
	memory := b.dir + "/state/memory/bed"
	if err := nsmounttest.Mount("tmpfs", memory, "tmpfs", syscall.MS_RDONLY); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nsmounttest.Unmount(t, memory) })
	res, err := b.reload(Options{})
	var check *CommandError
	if !errors.As(err, &check) {
		t.Fatalf("error %v, want that of the check", err)
	}
	if n := len(res.Warnings); n == 0 || strings.Contains(strings.Join(res.Warnings, ""), "\n") || !strings.Contains(res.Warnings[0], "read-only file system: history and refused versions of this unit will be forgotten") {
		t.Errorf("warnings %q, want that nothing can be remembered", res.Warnings)
	}
}

// TestNothingToRestore kills a reload before its exchange, and takes the version that
// is live away: the next reload fails, and leaves that live all the same.
func TestNothingToRestore(t *testing.T) {
	for _, setting := range []string{"ReloadCheck", "ReloadVerify"} {
		t.Run(setting, func(t *testing.T) {
			b := newBed(t)
			b.write(setting + `=/bin/sh -c 'read v </etc/extexec-test || test $$v = 1'`)
			b.start()
			b.install("2")
			cmd := child{Name: "bed", Dirs: b.dirs, Point: "before exchange", Limits: nsmount.Probe()}.command(t)
			if setting == "ReloadCheck" {
				cmd = child{Name: "bed", Dirs: b.dirs, Point: "after stage", Limits: nsmount.Probe()}.command(t)
			}
			if err := cmd.Run(); err == nil {
				t.Fatal("the child was not killed")
			}
			for _, name := range []string{"conf", "sys"} {
				if err := os.Rename(b.dir+"/"+name+".v/"+name+"_1", b.dir+"/"+name); err != nil {
					t.Fatal(err)
				}
			}
			_, err := b.reload(Options{})
			var f *Failure
			if !errors.As(err, &f) || f.Left == Broken {
				t.Errorf("error %v, want one that says that the old state is live", err)
			}
			b.want("1")
			b.whole()
		})
	}
}

// TestBadVersion installs what cannot be used: nothing changes, and the message
// names the thing.
func TestBadVersion(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		files      map[string]string
	}{
		{"no release file", "no release file", map[string]string{"etc/x": ""}},
		{"mismatch", "VERSION_ID", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=debian\nVERSION_ID=0.1\n"}},
		{"hierarchy is a file", "/etc", map[string]string{"usr/lib/extension-release.d/extension-release.conf": "ID=_any\n", "opt": "file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t)
			b.start()
			before := b.svc.Table("")
			b.extension("conf", "2", tt.files)
			_, err := b.reload(Options{})
			if err == nil || (tt.name != "hierarchy is a file" && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			} else {
				t.Log(err)
			}
			b.want("1")
			if after := b.svc.Table(""); !slices.Equal(before, after) {
				t.Error("the mount table changed")
			}
		})
	}
}

func TestNameInUse(t *testing.T) {
	b := newBed(t)
	b.start()
	o := b.options()
	cmd := child{Run: &o}.command(t)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf(`the name "bed" is in use by process %d`, b.svc.PID())) {
		t.Errorf("a second start under the same name: %v, %q", err, out)
	}
}

// TestHierarchyIsNone: a hierarchy that was asked for and is no directory is told of, where
// no extension has anything for it.
func TestHierarchyIsNone(t *testing.T) {
	b := newBed(t)
	o, said := b.options(), b.dir+"/said"
	o.Flags.Hierarchies = []string{"/etc", "/usr/no-such", "/usr/bin/env"}
	b.svc = nsmounttest.StartCommand(t, child{Run: &o, Warned: said}.command(t))
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.reload(Options{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Plan(t.Context(), PlanOptions{Options: Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe()}})
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"the plan": strings.Join(plan.Warnings, "\n"), "the start": string(text), "the reload": strings.Join(res.Warnings, "\n")} {
		for _, want := range []string{`hierarchy "/usr/no-such" does not exist`, `hierarchy "/usr/bin/env" is not a directory`} {
			if strings.Count(got, want) != 1 {
				t.Errorf("%s says %q, want %q in it", name, got, want)
			}
		}
	}
}

func TestTimeout(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("ended")
	_, err := Reload(ctx, Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Hook: func(p string) error {
		if p == "after exchange" {
			cancel(ended)
		}
		return nil
	}})
	if !errors.Is(err, ended) {
		t.Errorf("error %v, want the cause of the cancellation", err)
	}
	b.want("1")
	b.whole()
}

// TestReloadTimeoutSec says which setting it is that ended a reload. The sleep
// comes to an end only the second time, for the old version.
func TestReloadTimeoutSec(t *testing.T) {
	b := newBed(t)
	b.write("ReloadTimeoutSec=2", `ReloadCommand=/bin/sh -c 'read v </etc/extexec-test; test "$v" = 1 || sleep 60'`)
	b.start()
	b.extension("conf", "2", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "2\n"})
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack || !strings.Contains(err.Error(), "ReloadTimeoutSec=2s") {
		t.Errorf("error %v, want the setting's name, and the old state", err)
	}
	if got := b.svc.Read("/etc/extexec-test"); got != "1" {
		t.Errorf("the service sees %q", got)
	}
}

// good is a command line that fails for the version "bad".
const good = `/bin/sh -c 'read v </etc/extexec-test; echo "looked at $v"; test "$v" != bad'`

// TestReloadCheck keeps a bad version out: the service never sees it, and neither
// a later reload nor a start picks it again, until a newer one appears.
func TestReloadCheck(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCheck="+good, "ReloadCheck=-/bin/false", "ReloadCheck=-/nonexistent")
	b.extension("conf", "2", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "2\n"})
	b.start()
	b.extension("conf", "3", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "bad\n"})
	b.svc.Hammer("/etc/extexec-test")
	_, err := b.reload(Options{})
	var f *Failure
	var c *CommandError
	if !errors.As(err, &f) || f.Left != Unchanged || !errors.As(err, &c) || !strings.Contains(err.Error(), "looked at bad") {
		t.Errorf("error %v, want a *CommandError with what the check printed, and nothing changed", err)
	}
	res, err := b.reload(Options{})
	if err != nil || res.Exchanged && res.Generation.Number != 1 {
		t.Errorf("the next reload: %+v, %v; want nothing new", res, err)
	}
	for found := range b.svc.Tally() {
		if found != "/etc/extexec-test=2\n" {
			t.Errorf("the service saw %q", found)
		}
	}
	b.svc = nil
	again := newBedIn(b)
	again.start()
	if got := again.svc.Read("/etc/extexec-test"); got != "2\n" {
		t.Errorf("started anew, the service sees %q", got)
	}
	b.extension("conf", "4", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "4\n"})
	if _, err := again.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	if got := again.svc.Read("/etc/extexec-test"); got != "4\n" {
		t.Errorf("after a newer version the service sees %q", got)
	}
}

// TestOutputIsEscaped: what a check prints reaches neither the terminal nor the
// history as it is, but its lines stay lines.
func TestOutputIsEscaped(t *testing.T) {
	b := newBed(t)
	b.write(`ReloadCheck=/bin/sh -c "read v </etc/extexec-test; test $v = 1 || { printf '\\033]0;x\\007\\none\\ttwo \\342\\200\\256 \\377 \\303\\251\\r'; false; }"`)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("2", "2\n")
	const want = "\\x1b]0;x\\a\none\ttwo \\u202e \\xff é"
	b.fails(Unchanged, Options{}, want)
	h, err := b.stateOf().History()
	if err != nil || !strings.HasSuffix(h[len(h)-1].Why, want) {
		t.Errorf("history %+v, %v; want %q at the end", h, err, want)
	}
}

// TestMuchOutput: of what a check prints the beginning and the end are said and
// remembered, and the command is named as it was written, whatever is in the variables.
func TestMuchOutput(t *testing.T) {
	b := newBed(t)
	t.Setenv("RELOADTEST_SECRET", "swordfish")
	b.write(`ReloadCheck=/bin/sh -c "read v </etc/extexec-test; test $$v = 1 || { echo first; head -c 20000 /dev/zero; echo; echo last; false; }" $RELOADTEST_SECRET`)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("2", "2\n")
	b.fails(Unchanged, Options{}, ": first\n", "\nlast", "bytes left out", "$RELOADTEST_SECRET")
	_, err := b.reload(Options{Force: true})
	if len(err.Error()) > 5*maxShown || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("%d bytes: %.300s", len(err.Error()), err)
	}
	b.write(`ReloadCheck=/bin/sh -c "head -c 200000 /dev/zero | tr '[:cntrl:]' x; false"`)
	_, err = b.reload(Options{Force: true})
	if len(err.Error()) > 2*maxShown || !strings.HasSuffix(err.Error(), "x\n[more was printed]; nothing was changed") {
		t.Errorf("%d bytes: %.300s", len(err.Error()), err)
	}
}

// newBedIn is the same bed for a second service under another name, as a restart
// would be: what is remembered is remembered by name, so that is copied.
func newBedIn(b *bed) *bed {
	n := *b
	n.dirs = state.In(b.dir + "/state2")
	if err := os.CopyFS(b.dir+"/state2/memory", os.DirFS(b.dir+"/state/memory")); err != nil {
		b.t.Fatal(err)
	}
	return &n
}

// TestReloadVerify takes a version back that the service does not bear.
func TestReloadVerify(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCommand=/bin/sh -c 'cat /etc/extexec-test >>"+b.dir+"/applied'", "ReloadVerify="+good)
	b.start()
	b.extension("conf", "3", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "bad\n"})
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack || f.Step != "verify" {
		t.Errorf("error %v, want one of the verify step, taken back", err)
	}
	b.want("1")
	applied, err := os.ReadFile(b.dir + "/applied")
	if err != nil || string(applied) != "bad\n1" {
		t.Errorf("applied %q, %v; want the bad version, then the old one again", applied, err)
	}
	if _, err := b.reload(Options{}); err != nil {
		t.Errorf("the next reload: %v", err)
	}
	b.want("1")
	b.whole()
}

// TestStartIsChecked starts with the last good set where the newest fails, and
// not at all where there is none.
func TestStartIsChecked(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCheck=" + good)
	b.start()
	b.extension("conf", "3", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "bad\n"})
	again := newBedIn(b)
	again.start()
	again.want("1")

	fresh := *b
	fresh.dirs = state.In(b.dir + "/state3")
	o := fresh.options()
	cmd := child{Run: &o}.command(t)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "looked at bad") || !strings.Contains(string(out), "there is none to start with") {
		t.Errorf("a first start with a bad version: %v, %q", err, out)
	}
}

// TestFallBackFurther: where the last set that passed the check cannot be had any more, a
// start goes back to the one before that can, past what was refused since. Where there
// is none, the error names them all.
func TestFallBackFurther(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCheck=" + good)
	b.start()
	for _, v := range []string{"2", "3", "4"} {
		b.conf(v, v)
		if _, err := b.reload(Options{}); err != nil {
			t.Fatal(err)
		}
	}
	b.conf("5", "bad\n")
	h, err := b.stateOf().History()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := b.stateOf().Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	third := h[2].Extensions[0].Identity
	if w := lock.Remember(func(m *state.Memory) { m.Refuse(state.Refused{Identity: third}) }); w != nil {
		t.Fatal(w)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	remove := func(version string) {
		t.Helper()
		if err := os.RemoveAll(b.dir + "/conf.v/conf_" + version); err != nil {
			t.Fatal(err)
		}
	}
	remove("4")
	again := newBedIn(b)
	o := again.options()
	again.svc = nsmounttest.StartCommand(t, child{Run: &o, Warned: b.dir + "/warned"}.command(t))
	again.wantEtc("2")
	warned, err := os.ReadFile(b.dir + "/warned")
	const text = "starting with generation 2, the last that passed and can be had (not generation 4: "
	if err != nil || !strings.Contains(string(warned), text) || !strings.Contains(string(warned), "conf_4") {
		t.Errorf("warned %q, %v; want %q and the path that is gone", warned, err, text)
	}
	again.svc.Stop()

	remove("1")
	remove("2")
	remove("3")
	none := *b
	none.dirs = state.In(b.dir + "/state4")
	if err := os.CopyFS(b.dir+"/state4/memory", os.DirFS(b.dir+"/state/memory")); err != nil {
		t.Fatal(err)
	}
	o = none.options()
	cmd := child{Run: &o}.command(t)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	for _, text := range []string{"looked at bad", "generation 4: ", "generation 1: ", "or install what is gone again"} {
		if err == nil || !strings.Contains(string(out), text) {
			t.Errorf("a start with nothing to fall back on: %v, %q; want %q in it", err, out, text)
		}
	}
}

// TestMountedWhileStarting has something mounted below a hierarchy after the survey: the
// start carries it all the same.
func TestMountedWhileStarting(t *testing.T) {
	b := newBed(t)
	if err := os.MkdirAll(b.dir+"/late", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir+"/late/file", []byte("late"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := b.options()
	nsmounttest.Unmount(t, "/usr/local")
	b.svc = nsmounttest.StartCommand(t, child{Run: &o, Point: "before settle", Bind: []string{b.dir + "/late", "/usr/local"}}.command(t))
	b.want("1")
	b.whole()
	if got := b.svc.Read("/usr/local/file"); got != "late" {
		t.Errorf("below the new tree: %q, want what was mounted meanwhile", got)
	}
}
