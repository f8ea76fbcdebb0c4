package reload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/service"
	"golang.org/x/sys/unix"
)

// TestReloadCommandMayStartADaemon: what ReloadCommand= starts and detaches stays,
// as after an ExecReload= line of systemd's; what a check or a verify starts does not.
func TestReloadCommandMayStartADaemon(t *testing.T) {
	b := newBed(t)
	line := func(setting string) string {
		return fmt.Sprintf(`%s=/bin/sh -c "setsid sleep 1000 >/dev/null 2>&1 & echo $! >%s/%s"`, setting, b.dir, setting)
	}
	b.write(line("ReloadCheck"), line("ReloadCommand"), line("ReloadVerify"))
	b.start()
	b.install("2")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	for setting, stays := range map[string]bool{"ReloadCheck": false, "ReloadCommand": true, "ReloadVerify": false} {
		text, err := os.ReadFile(b.dir + "/" + setting)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		p, err := service.Open(pid)
		if (err == nil) != stays {
			t.Errorf("what %s= started: %v, want it to be left: %v", setting, err, stays)
		}
		if err != nil {
			continue
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		p.Close()
	}
}

// TestReloadCommandKills: that the service is gone afterwards is seen, with no
// ReloadVerify=, and also where nothing was exchanged.
func TestReloadCommandKills(t *testing.T) {
	const line = "ReloadCommand=/bin/kill -KILL $MAINPID"
	t.Run("exchange", func(t *testing.T) {
		b := newBed(t)
		b.write(line)
		b.start()
		b.svc.MayDie()
		b.install("2")
		b.fails(TakenBack, Options{}, "the service ended during the reload")
	})
	t.Run("nothing to exchange", func(t *testing.T) {
		b := newBed(t)
		b.readOnlyOpt()
		b.write(line, "Hierarchies=/opt")
		b.start()
		b.svc.MayDie()
		b.fails(Unchanged, Options{}, "the service ended during the reload")
	})
}

// readOnlyOpt makes a base of /opt that nobody can write to, so that a reload of the
// same extensions leaves it alone.
func (b *bed) readOnlyOpt() {
	b.t.Helper()
	for _, argv := range [][]string{
		{"mkfs.erofs", "--quiet", b.dir + "/opt.img", b.dir + "/sys.v"},
		{"mount", "-t", "erofs", "-o", "loop,ro", b.dir + "/opt.img", "/opt"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			b.t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
	b.t.Cleanup(func() { _ = exec.Command("umount", "--lazy", "/opt").Run() })
}

// overwrite writes an image for an OS into web.v, or over what is there, which gets its
// old size and time of modification again.
func (b *bed) overwrite(name, id, text string) {
	b.t.Helper()
	top := b.dir + "/tree"
	for file, content := range map[string]string{"usr/lib/extension-release.d/extension-release.web": "ID=" + id + "\n", "usr/extexec-web": text} {
		if err := os.MkdirAll(filepath.Dir(top+"/"+file), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(top+"/"+file, []byte(content), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	out, err := exec.Command("mkfs.erofs", "--quiet", "-T0", "-U00000000-0000-0000-0000-000000000001", b.dir+"/made", top).CombinedOutput()
	if err != nil {
		b.t.Fatalf("mkfs.erofs: %v: %s", err, out)
	}
	made, err := os.ReadFile(b.dir + "/made")
	if err != nil {
		b.t.Fatal(err)
	}
	when, path := time.Unix(1e9, 0), b.dir+"/web.v/"+name
	if err := errors.Join(os.MkdirAll(b.dir+"/web.v", 0o755), os.WriteFile(path, made, 0o644), os.Chtimes(path, when, when)); err != nil {
		b.t.Fatal(err)
	}
}

// TestWrittenOverInPlace: an image that is written over, and has its old size and time of
// modification again, is another one; one that is renamed is not.
func TestWrittenOverInPlace(t *testing.T) {
	b := newBed(t)
	reload := func(exchanged bool, generation uint64) {
		t.Helper()
		res, err := b.reload(Options{IfChanged: true})
		if err != nil || res.Exchanged != exchanged || res.Generation.Number != generation {
			t.Fatalf("%+v, error %v; want generation %d, exchanged: %v", res, err, generation, exchanged)
		}
	}
	b.overwrite("web_1+3.raw", "_any", "one")
	b.write("ExtensionImages="+b.dir+"/web.v", "CountTries=yes")
	b.start()
	reload(false, 1) // which takes the counter off
	b.wantEtc("1")
	reload(false, 1)
	b.overwrite("web_1.raw", "_any", "two")
	reload(true, 2)
	if got := b.svc.Read("/usr/extexec-web"); got != "two" {
		t.Errorf("the service sees %q", got)
	}
	reload(false, 2)
	if err := os.Rename(b.dir+"/web.v/web_1.raw", b.dir+"/web.v/web_1+2-1.raw"); err != nil {
		t.Fatal(err)
	}
	reload(false, 2)
	reload(false, 2)
}

// TestFallBackOnWhatPassed: a start falls back on no image that was written over since it
// passed the check, unless it passes again.
func TestFallBackOnWhatPassed(t *testing.T) {
	b := newBed(t)
	b.write("ExtensionImages="+b.dir+"/web.v", `ReloadCheck=/bin/sh -c 'read v </usr/extexec-web; test "$v" != bad'`)
	b.overwrite("web_1.raw", "_any", "one\n")
	b.start()
	b.overwrite("web_2.raw", "_any", "two\n")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.overwrite("web_2.raw", "_any", "bad\n")
	again := newBedIn(b)
	o := again.options()
	again.svc = nsmounttest.StartCommand(t, child{Run: &o, Warned: b.dir + "/warned"}.command(t))
	if got := again.svc.Read("/usr/extexec-web"); got != "one\n" {
		t.Errorf("the service sees %q", got)
	}
	warned, err := os.ReadFile(b.dir + "/warned")
	if err != nil || !strings.Contains(string(warned), "starting with generation 1, the last that passed and can be had (not generation 2: it is no longer what passed: ") {
		t.Errorf("warned %q, %v", warned, err)
	}
	again.svc.Stop()

	b.overwrite("web_1.raw", "_any", "uno\n") // and this one passes
	b.dirs = again.dirs
	b.start()
	if got := b.svc.Read("/usr/extexec-web"); got != "uno\n" {
		t.Errorf("the service sees %q", got)
	}
}

// TestLeftOutOfRefresh: where the overlays are made again and an extension does not fit
// any more, what comes of it is another generation.
func TestLeftOutOfRefresh(t *testing.T) {
	b := newBed(t)
	nsmounttest.Tmpfs(t, "/opt", "size=1m") // a base that can be written to
	b.write("ExtensionImages="+b.dir+"/web.v", "OnBadExtension=skip")
	b.overwrite("web_1+3.raw", "_any", "one")
	b.start()
	b.overwrite("web_1+3.raw", "none", "one")
	if err := os.Rename(b.dir+"/web.v/web_1+3.raw", b.dir+"/web.v/web_1.raw"); err != nil { // so that it passes for the same one
		t.Fatal(err)
	}
	if p := b.plan(PlanOptions{}); p.Action != Exchange {
		t.Errorf("the plan is %+v", p)
	}
	for range 2 {
		res, err := b.reload(Options{})
		if err != nil || !res.Exchanged || res.Generation.Number != 2 || len(res.Generation.Extensions) != 2 {
			t.Fatalf("%+v, error %v; want generation 2 without the image", res, err)
		}
	}
	history, err := b.stateOf().History()
	if err != nil || len(history) != 2 || len(history[0].Extensions) != 3 {
		t.Errorf("history %+v, %v; want the image in the first of two generations", history, err)
	}

	b.overwrite("web_1.raw", "_any", "one")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.overwrite("web_1.raw", "none", "one")
	if err := b.svc.Unmount("/etc"); err != nil {
		t.Fatal(err)
	}
	all := b.repair(false)
	r, err := b.stateOf().Load()
	if err != nil || len(all) != 1 || !all[0].Done || r.Current.Number != 4 || r.Current.Trigger != triggerRepair || len(r.Current.Extensions) != 2 {
		t.Errorf("repair: %+v, which left %+v, %v; want generation 4 without the image", all, r, err)
	}
}

// TestFailedStartLeavesNothing: a name whose start failed is as if it had never been.
func TestFailedStartLeavesNothing(t *testing.T) {
	b := newBed(t)
	if err := os.Remove(b.dir + "/conf.v/conf_1/etc/extension-release.d/extension-release.conf"); err != nil {
		t.Fatal(err)
	}
	o := b.options()
	cmd := child{Run: &o}.command(t)
	cmd.Stderr = nil
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no release file") {
		t.Fatalf("the start: %v, %s", err, out)
	}
	for _, dir := range []string{b.dirs.Record, b.dirs.Memory} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s has %v, %v", dir, entries, err)
		}
	}
}

// TestCommandsThatCannotBe: a command that cannot be executed is named, with what to do.
func TestCommandsThatCannotBe(t *testing.T) {
	b := newBed(t)
	for name, content := range map[string]string{"text": "no program", "interpreter": "#!/nonexistent\n"} {
		if err := os.WriteFile(b.dir+"/"+name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]string{
		"/nonexistent":                "no such file or directory: it must be there with the extensions laid over",
		"extexec-no-such-command":     "it must be there with the extensions laid over",
		"/etc/passwd":                 "permission denied: the user that it runs as must be allowed to execute it",
		b.dir + "/text":               "exec format error: it is no program",
		b.dir + "/interpreter":        "and so must its interpreter",
		b.dir + "/text/is/not/a/path": "not a directory: it must be there",
	} {
		o := b.options()
		o.Argv = []string{command}
		cmd := child{Run: &o}.command(t)
		cmd.Stderr = nil
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "execute "+strconv.Quote(command)) || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %q; want %q", command, err, out, want)
		}
	}
}

// TestStartInsideAnother: a start where another service's extensions show is refused
// rather than that they are lost.
func TestStartInsideAnother(t *testing.T) {
	b := newBed(t)
	for _, source := range []string{"extexec:1.1:other", "systemd-extensions"} {
		if out, err := exec.Command("mount", "-t", "overlay", source, "/opt", "-o", "lowerdir="+b.dir+"/sys.v:"+b.dir+"/conf.v").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		o := b.options()
		cmd := child{Run: &o}.command(t)
		cmd.Stderr = nil
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "/opt shows the extensions of ") || !strings.Contains(string(out), "start it outside of that service") {
			t.Errorf("%s: %v, %q; want that it is refused", source, err, out)
		}
		if out, err := exec.Command("umount", "/opt").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	b.start()
	b.want("1")
}

// TestRecordsWhatIsLive: a mount that comes after the record was begun is in the one
// that is committed.
func TestRecordsWhatIsLive(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	if err := os.WriteFile(b.dir+"/mine", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := b.reload(Options{Hook: func(p string) error {
		if p == "before exchange" {
			b.svc.Mount(b.dir+"/mine", "/etc/extexec-test", "", unix.MS_BIND, "")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.svc.Read("/etc/extexec-test"); got != "mine" {
		t.Errorf("the service sees %q", got)
	}
	r, err := b.stateOf().Load()
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Current.Hierarchies[2].Carried; len(c) != 1 || c[0].Path != "extexec-test" {
		t.Errorf("recorded is carried %+v", c)
	}
}

// TestOpenFiles: with many extensions and few descriptors, a start and a reload say
// which limit it is and what would do, and nothing has changed; with that it works.
func TestOpenFiles(t *testing.T) {
	const many = 100
	b := newBed(t)
	var lines []string
	for i := range many {
		name := fmt.Sprintf("many%d", i)
		b.extension(name, "1", map[string]string{
			"etc/extension-release.d/extension-release." + name: "ID=_any\n", "etc/extexec-many": name,
			"usr/lib/extension-release.d/extension-release." + name: "ID=_any\n", "usr/extexec-many": name, "opt/extexec-many": name,
		})
		lines = append(lines, "ExtensionDirectories="+b.dir+"/"+name+".v")
	}
	b.write(lines...)
	start := func(files uint64) string {
		o := b.options()
		cmd := child{Run: &o, Files: files}.command(t)
		cmd.Stderr = nil
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	const want = "102 extensions need up to 508 open files, and the limit is 400: set LimitNOFILE=508 in the unit"
	if out := start(400); !strings.Contains(out, want) {
		t.Errorf("a start with too few descriptors: %q, want %q", out, want)
	}
	if out := start(508); out != "ready\n" {
		t.Errorf("a start with enough: %q", out)
	}
	// The last descriptors are wanted when all is staged.
	for files := uint64(408); files < 508; files++ {
		out := start(files)
		if out == "ready\n" {
			break
		}
		if !strings.Contains(out, "set LimitNOFILE=508") {
			t.Errorf("a start with %d descriptors: %q", files, out)
		}
	}
	b.start()
	before := b.svc.Table("")
	b.install("2")
	reload := func(files uint64) (string, error) {
		cmd := child{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Files: files}.command(t)
		cmd.Stderr = nil
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, _ := reload(400); !strings.Contains(out, want) || !strings.Contains(out, "nothing was changed") {
		t.Errorf("a reload with too few descriptors: %q", out)
	}
	if after := b.svc.Table(""); !slices.Equal(before, after) {
		t.Error("the mount table changed")
	}
	if out, _ := reload(508); out != "<nil>\n" {
		t.Errorf("a reload with enough: %q", out)
	}
	b.want("2")
}
