package reload

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload/state"
)

// conf installs a version of the confext alone; text "bad\n" fails the check good.
func (b *bed) conf(version, text string) {
	b.t.Helper()
	b.extension("conf", version, map[string]string{"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": text})
}

func (b *bed) wantEtc(want string) {
	b.t.Helper()
	if got := b.svc.Read("/etc/extexec-test"); got != want {
		b.t.Errorf("the service sees %q, want %q", got, want)
	}
}

// wantNames compares what the .v/ of the confext has.
func (b *bed) wantNames(want string) {
	b.t.Helper()
	entries, err := os.ReadDir(b.dir + "/conf.v")
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != want {
		b.t.Errorf("the directory has %q, want %q", got, want)
	}
}

// wantPath compares the recorded path of the confext.
func (b *bed) wantPath(name string) {
	b.t.Helper()
	r, err := b.stateOf().Load()
	if err != nil {
		b.t.Fatal(err)
	}
	if got, want := r.Current.Extensions[0].Path, b.dir+"/conf.v/"+name; got != want {
		b.t.Errorf("recorded is %q, want %q", got, want)
	}
}

func (b *bed) fails(left Left, o Options, texts ...string) {
	b.t.Helper()
	_, err := b.reload(o)
	var f *Failure
	if !errors.As(err, &f) || f.Left != left {
		b.t.Fatalf("error %v, want one that leaves %d", err, left)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			b.t.Errorf("error %v, want one with %q", err, text)
		}
	}
}

// TestTriesGood takes a try before the exchange, and the counter off when it went
// well. A reload afterwards finds nothing changed; a rollback and the history know
// the version by its new name.
func TestTriesGood(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes")
	b.start()
	b.wantNames("conf_1")
	b.conf("2+3", "2\n")
	during := ""
	_, err := b.reload(Options{Hook: func(p string) error {
		if p == "before exchange" {
			entries, _ := os.ReadDir(b.dir + "/conf.v")
			during = entries[1].Name()
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if during != "conf_2+2-1" {
		t.Errorf("before the exchange it is named %q", during)
	}
	b.wantNames("conf_1 conf_2")
	b.wantPath("conf_2")
	b.wantEtc("2\n")
	if p := b.plan(PlanOptions{Options: Options{IfChanged: true}}); p.Action != NoAction {
		t.Errorf("the plan afterwards: %+v", p)
	}
	res, err := b.reload(Options{IfChanged: true})
	if err != nil || res.Exchanged || res.Generation.Number != 2 {
		t.Errorf("the next reload: %+v, %v", res, err)
	}
	b.conf("3", "3\n")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.dir+"/conf.v/conf_2", b.dir+"/conf.v/conf_2+1-2"); err != nil {
		t.Fatal(err)
	}
	res, err = b.rollback(0, Options{})
	b.comesTo(4, res, err)
	b.wantEtc("2\n")
	b.wantNames("conf_1 conf_2 conf_3")
	b.wantPath("conf_2")
}

// TestTriesFail tries a bad version as often as its name says, by verify and by
// check, and then no more, although nothing is remembered but the name.
func TestTriesFail(t *testing.T) {
	for setting, left := range map[string]Left{"ReloadVerify": TakenBack, "ReloadCheck": Unchanged} {
		t.Run(setting, func(t *testing.T) {
			b := newBed(t)
			b.write("CountTries=yes", setting+"="+good)
			b.conf("1.5", "1\n")
			b.start()
			b.conf("2+2", "bad\n")
			b.fails(left, Options{}, "looked at bad")
			b.wantNames("conf_1 conf_1.5 conf_2+1-1")
			if m, err := b.stateOf().Memory(); err != nil || len(m.Refused) != 0 {
				t.Errorf("refused are %+v, %v", m.Refused, err)
			}
			b.fails(left, Options{}, "looked at bad")
			b.wantNames("conf_1 conf_1.5 conf_2+0-2")
			res, err := b.reload(Options{IfChanged: true})
			if err != nil || res.Exchanged {
				t.Errorf("the third reload: %+v, %v", res, err)
			}
			b.wantEtc("1\n")
			if err := os.RemoveAll(b.dir + "/conf.v/conf_1"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(b.dir+"/conf.v/conf_1.5", b.dir+"/1.5"); err != nil {
				t.Fatal(err)
			}
			b.fails(Unchanged, Options{}, `"conf_2+0-2" has no tries left`, "take the counter off the name")
		})
	}
}

// TestTriesTriggered: what a path unit triggers takes no try, since the rename would
// trigger it again; what fails is remembered, and what is good loses its counter.
func TestTriesTriggered(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes", "ReloadVerify="+good)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("2+2", "bad\n")
	b.fails(TakenBack, Options{IfChanged: true})
	b.wantNames("conf_1 conf_1.5 conf_2+2")
	if res, err := b.reload(Options{IfChanged: true}); err != nil || res.Exchanged {
		t.Errorf("triggered again: %+v, %v", res, err)
	}
	b.conf("3+2", "3\n")
	if res, err := b.reload(Options{IfChanged: true}); err != nil || !res.Exchanged {
		t.Errorf("triggered by a good one: %+v, %v", res, err)
	}
	b.wantNames("conf_1 conf_1.5 conf_2+2 conf_3")
	b.wantEtc("3\n")
}

// TestTriesStart takes a try at each start. A version that never came to a reload is
// left after its last one; a reload that finds it running takes the counter off, also
// that of the last try.
func TestTriesStart(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes")
	b.conf("2+2", "2\n")
	b.start()
	b.wantNames("conf_1 conf_2+1-1")
	b.wantPath("conf_2+1-1")
	b.restart()
	b.wantNames("conf_1 conf_2+0-2")
	b.wantEtc("2\n")

	b.restart() // two starts, and nobody saw it well
	b.wantEtc("1")
	b.conf("3+1", "3\n")
	b.restart()
	b.wantNames("conf_1 conf_2+0-2 conf_3+0-1")
	b.wantEtc("3\n")
	if p := b.plan(PlanOptions{Options: Options{IfChanged: true}}); p.Action != NoAction {
		t.Errorf("the plan for what runs on its last try: %+v", p)
	}
	if res, err := b.reload(Options{IfChanged: true}); err != nil || res.Exchanged {
		t.Errorf("a reload of what runs on its last try: %+v, %v", res, err)
	}
	b.wantNames("conf_1 conf_2+0-2 conf_3")
	b.wantPath("conf_3")
	b.wantEtc("3\n")
}

// TestTriesLastResort: a start takes what has no tries left where there is nothing
// else, as systemd does, and says so.
func TestTriesLastResort(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes")
	if err := os.Rename(b.dir+"/conf.v/conf_1", b.dir+"/conf.v/conf_1+0-3"); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.wantEtc("1")
	b.wantNames("conf_1+0-3")
}

// TestTriesStartChecked: a start whose check fails costs a try, and is tried again.
func TestTriesStartChecked(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes", "ReloadCheck="+good)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("2+2", "bad\n")
	for _, names := range []string{"conf_1 conf_1.5 conf_2+1-1", "conf_1 conf_1.5 conf_2+0-2", "conf_1 conf_1.5 conf_2+0-2"} {
		b.restart()
		b.wantNames(names)
		b.wantEtc("1\n")
	}
}

// TestTriesGivenBack: what fails before the service has seen the version gives the
// try back; what fails afterwards does not.
func TestTriesGivenBack(t *testing.T) {
	failed := errors.New("failed here")
	for point, names := range map[string]string{
		"after begin":     "conf_1 conf_2+3",
		"before exchange": "conf_1 conf_2+3",
		"after exchange":  "conf_1 conf_2+2-1",
		"before commit":   "conf_1 conf_2+2-1",
	} {
		t.Run(point, func(t *testing.T) {
			b := newBed(t)
			b.write("CountTries=yes")
			b.start()
			b.conf("2+3", "2\n")
			_, err := b.reload(Options{Hook: func(p string) error {
				if p == point {
					return failed
				}
				return nil
			}})
			if !errors.Is(err, failed) {
				t.Errorf("error %v", err)
			}
			b.wantNames(names)
			b.wantEtc("1")
		})
	}
}

// TestTriesKill kills a reload after the rename: the try is gone, and the next reload
// works, with the next one.
func TestTriesKill(t *testing.T) {
	for _, point := range []string{"after begin", "after exchange", "before commit"} {
		t.Run(point, func(t *testing.T) {
			b := newBed(t)
			b.write("CountTries=yes")
			b.start()
			b.conf("2+3", "2\n")
			cmd := child{Name: "bed", Dirs: b.dirs, Point: point, Limits: nsmount.Probe()}.command(t)
			if err := cmd.Run(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child was not killed: %v", err)
			}
			b.wantNames("conf_1 conf_2+2-1")
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			b.wantNames("conf_1 conf_2")
			b.wantEtc("2\n")
			b.whole()
		})
	}
}

// TestTriesReadOnly goes on with a warning that names the entry, and has the memory
// remember what the name cannot.
func TestTriesReadOnly(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes", "ReloadVerify="+good)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("2+3", "2\n")
	readOnly := func(dir string) {
		if out, err := exec.Command("mount", "--bind", "-o", "ro", dir, dir).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("umount", "--lazy", "--quiet", dir).Run() })
	}
	readOnly(b.dir + "/conf.v")
	res, err := b.reload(Options{})
	if err != nil || !slices.ContainsFunc(res.Warnings, func(w string) bool {
		return strings.Contains(w, "a try of") && strings.Contains(w, b.dir+"/conf.v") && strings.Contains(w, "read-only")
	}) {
		t.Errorf("%+v, %v; want a warning that names the directory", res, err)
	}
	b.wantNames("conf_1 conf_1.5 conf_2+3")
	b.wantPath("conf_2+3")
	b.wantEtc("2\n")
	if out, err := exec.Command("umount", "--lazy", b.dir+"/conf.v").CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	b.conf("3+3", "bad\n")
	readOnly(b.dir + "/conf.v")
	b.fails(TakenBack, Options{})
	if m, err := b.stateOf().Memory(); err != nil || len(m.Refused) != 1 {
		t.Errorf("refused are %+v, %v; want the version that cannot be counted", m.Refused, err)
	}
}

// TestTriesGoodElsewhere: what another service has found good meanwhile has no counter
// that could remember that this one did not bear it.
func TestTriesGoodElsewhere(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes", "ReloadVerify="+good)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("2+3", "bad\n")
	b.fails(TakenBack, Options{Hook: func(p string) error {
		if p == "before verify" {
			return os.Rename(b.dir+"/conf.v/conf_2+2-1", b.dir+"/conf.v/conf_2")
		}
		return nil
	}})
	b.wantNames("conf_1 conf_1.5 conf_2")
	if m, err := b.stateOf().Memory(); err != nil || len(m.Refused) != 1 {
		t.Errorf("refused are %+v, %v", m.Refused, err)
	}
	if res, err := b.reload(Options{IfChanged: true}); err != nil || res.Exchanged {
		t.Errorf("the next reload: %+v, %v", res, err)
	}
}

// TestTriesRestored: a try that a failed check took stays taken, also where an
// interrupted reload is put in order after it.
func TestTriesRestored(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes", "ReloadCheck="+good)
	b.conf("1.5", "1\n")
	b.start()
	b.conf("1.6+1", "1\n")
	cmd := child{Name: "bed", Dirs: b.dirs, Point: "after exchange", Limits: nsmount.Probe()}.command(t)
	if err := cmd.Run(); err == nil {
		t.Fatal("the child was not killed")
	}
	b.wantNames("conf_1 conf_1.5 conf_1.6+0-1")
	b.conf("2+3", "bad\n")
	b.fails(TakenBack, Options{}, "looked at bad")
	b.wantNames("conf_1 conf_1.5 conf_1.6+0-1 conf_2+2-1")
	b.wantEtc("1\n")
	b.whole()
}

// TestTriesShared has two services try the versions of one .v/ at once, many times:
// none fails for it, and the names come out whole.
func TestTriesShared(t *testing.T) {
	b := newBed(t)
	b.write("CountTries=yes")
	other := *b
	other.dirs = state.In(b.dir + "/state2")
	b.start()
	other.start()
	for _, v := range []string{"2", "3", "4", "5", "6", "7", "8", "9"} {
		b.conf(v+"+5", v)
		var all sync.WaitGroup
		for _, dirs := range []state.Dirs{b.dirs, other.dirs} {
			all.Go(func() {
				if _, err := Reload(context.Background(), Options{Name: "bed", Dirs: dirs, Limits: nsmount.Probe()}); err != nil {
					t.Errorf("version %s: %v", v, err)
				}
			})
		}
		all.Wait()
		b.wantEtc(v)
		other.wantEtc(v)
	}
	b.wantNames("conf_1 conf_2 conf_3 conf_4 conf_5 conf_6 conf_7 conf_8 conf_9")
	b.wantPath("conf_9")
	other.wantPath("conf_9")
}
