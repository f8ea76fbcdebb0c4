package reload

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/nsmount"
)

// What a reload or a rollback leaves that is killed between two of its writes, and what
// the next one makes of it. TestKillAtEveryStep, TestInterruptedRollback,
// TestKillBeforeHistory and TestKillBeforeMemory are about that, too.

// killBack kills a rollback.
func (b *bed) killBack(point string) {
	b.t.Helper()
	cmd := child{Name: "bed", Back: true, Dirs: b.dirs, Point: point, Limits: nsmount.Probe()}.command(b.t)
	if err := cmd.Run(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		b.t.Fatalf("the rollback was not killed: %v", err)
	}
}

// wantHeld compares what is held, whether anything was begun, and what that is worth by
// now, with what should be.
func (b *bed) wantHeld(holds int, pending bool) {
	b.t.Helper()
	m, err := b.stateOf().Memory()
	if err != nil || len(m.Holds) != holds {
		b.t.Errorf("held is %+v, %v; want %d", m.Holds, err, holds)
	}
	r, err := b.stateOf().Load()
	if err != nil || (r.Pending != nil) != pending {
		b.t.Errorf("pending is %+v, %v; want that to be %v", r.Pending, err, pending)
	}
}

// TestRestoredIsNotHeld kills a rollback, and has what comes next put the generation
// back that it was to leave: that is held no more.
func TestRestoredIsNotHeld(t *testing.T) {
	for _, point := range []string{"after hold", "after exchange"} {
		for name, next := range map[string]func(b *bed) error{
			"a reload that fails": func(b *bed) error { _, err := b.reload(Options{}); return err },
			"by force":            func(b *bed) error { _, err := b.reload(Options{Force: true}); return err },
			"repair":              func(b *bed) error { return b.repair(false)[0].Err },
		} {
			t.Run(point+"/"+name, func(t *testing.T) {
				b := newBed(t)
				b.start()
				b.install("2")
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
				b.killBack(point)
				b.wantHeld(2, true)
				b.extension("conf", "3", map[string]string{"etc/no-release": ""})
				if err := next(b); (err == nil) != (name == "repair") {
					t.Errorf("it ended with %v", err)
				}
				b.want("2")
				b.whole()
				b.wantHeld(0, false)
				if err := os.RemoveAll(b.dir + "/conf.v/conf_3"); err != nil {
					t.Fatal(err)
				}
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
				b.want("2")
			})
		}
	}
}

// TestKilledTakingBack kills a rollback whose ReloadVerify= has failed: the next reload
// brings back what was live, and does not go back further.
func TestKilledTakingBack(t *testing.T) {
	for _, point := range []string{"after undo apply", "before undo exchange", "after undo exchange", "before undo hold", "after undo hold", "before undo begin", "after undo begin"} {
		t.Run(point, func(t *testing.T) {
			b := newBed(t)
			b.write()
			b.start()
			for _, v := range []string{"2", "3"} {
				b.install(v)
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
			}
			b.write(`ReloadVerify=/bin/sh -c 'read v </etc/extexec-test; test "$v" != 2'`)
			b.killBack(point)
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			b.want("3")
			b.whole()
			b.wantHeld(0, false)
		})
	}
}

// TestToldAfterKill kills a reload that was taken back, before the service was told so.
// Where the next one fails, the service is told all the same.
func TestToldAfterKill(t *testing.T) {
	b := newBed(t)
	applied := b.dir + "/applied"
	b.write("ReloadCommand=/bin/sh -c 'cat /etc/extexec-test >>"+applied+"'", `ReloadVerify=/bin/sh -c 'read v </etc/extexec-test; test "$v" != 2'`)
	b.start()
	b.install("2")
	cmd := child{Name: "bed", Dirs: b.dirs, Point: "before undo apply", Limits: nsmount.Probe()}.command(b.t)
	if err := cmd.Run(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the reload was not killed: %v", err)
	}
	b.want("1")
	b.extension("conf", "3", map[string]string{"etc/no-release": ""})
	var f *Failure
	if _, err := b.reload(Options{}); !errors.As(err, &f) || f.Left != Unchanged {
		t.Errorf("error %v, want one that has changed nothing", err)
	}
	b.want("1")
	b.whole()
	if text, err := os.ReadFile(applied); err != nil || string(text) != "21" {
		t.Errorf("the service was told %q, %v", text, err)
	}
}

// TestStartAfterKill kills a rollback, and starts the service anew: with what the rollback
// was to bring, and as if no reload had been at work. A start that fails leaves it as it
// was.
func TestStartAfterKill(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.killBack("after hold")
	b.wantHeld(2, true)
	before, err := b.stateOf().Load()
	if err != nil {
		t.Fatal(err)
	}
	b.svc.Stop()
	o := b.options()
	cmd := child{Run: &o, Point: "after record"}.command(t)
	cmd.Stderr = nil
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "injected") {
		t.Fatalf("a start that was to fail: %v\n%s", err, out)
	}
	after, err := b.stateOf().Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a start that failed has changed the record (-before +after):\n%s", diff)
	}
	b.wantHeld(2, true)
	b.start()
	b.want("1")
	b.wantHeld(2, false)
	res, err := b.reload(Options{IfChanged: true})
	if err != nil || res.Exchanged {
		t.Errorf("a reload after the start: %+v, %v", res, err)
	}
	b.want("1")
}

// TestKillBeforeHistoryOfALife kills a reload between its commit and the line in the
// history, and starts the service anew, by extexec or by systemd: the line is added, and
// the one in it is what a start falls back on.
func TestKillBeforeHistoryOfALife(t *testing.T) {
	cut := func(b *bed) {
		b.t.Helper()
		b.install("2")
		if _, err := b.reload(Options{}); err != nil {
			b.t.Fatal(err)
		}
		history := b.dirs.Memory + "/bed/history.jsonl"
		lines, err := os.ReadFile(history)
		if err != nil {
			b.t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(lines), "\n")
		if err := os.WriteFile(history, []byte(first+"\n"), 0o600); err != nil { // as such a kill leaves it
			b.t.Fatal(err)
		}
	}
	t.Run("by extexec", func(t *testing.T) {
		b := newBed(t)
		b.write("ReloadCheck=" + good)
		b.start()
		cut(b)
		b.conf("3", "bad\n")
		b.restart()
		b.want("2")
		b.wantHistory("1 run committed 1", "2 reload committed 2", "3 run refused 3", "4 run committed 2")
	})
	t.Run("by systemd", func(t *testing.T) {
		b := newBed(t)
		b.start()
		cut(b)
		b.startedBySystemd()
		o := Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Manager: mainPID(b.svc.PID())}
		if _, err := Reload(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		u, err := b.dirs.Unit("bed.service")
		if err != nil {
			t.Fatal(err)
		}
		h, err := u.History()
		if err != nil {
			t.Fatal(err)
		}
		var numbers []uint64
		for _, g := range h {
			numbers = append(numbers, g.Number)
		}
		if diff := cmp.Diff([]uint64{1, 2, 3}, numbers); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}
