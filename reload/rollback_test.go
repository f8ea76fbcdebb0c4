package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload/state"
)

func (b *bed) rollback(number uint64, o Options) (*Result, error) {
	b.t.Helper()
	o.Name, o.Dirs, o.Limits = "bed", b.dirs, nsmount.Probe()
	return Rollback(b.t.Context(), o, number)
}

// must reloads or goes back and wants that generation to have come of it.
func (b *bed) comesTo(number uint64, res *Result, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	if res.Generation.Number != number {
		b.t.Errorf("generation %d, want %d: %+v", res.Generation.Number, number, res)
	}
}

func (b *bed) stateOf() *state.Unit {
	b.t.Helper()
	u, err := b.dirs.Unit("bed")
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// remember changes what is remembered.
func (b *bed) remember(change func(*state.Memory)) error {
	l, err := b.stateOf().Lock(b.t.Context(), 0)
	if err != nil {
		return err
	}
	if w := l.Remember(change); w != nil {
		err = w
	}
	return errors.Join(err, l.Close())
}

// history is the numbers, triggers, outcomes and versions of the confext.
func (b *bed) history() []string {
	b.t.Helper()
	h, err := b.stateOf().History()
	if err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	for _, g := range h {
		line := fmt.Sprint(g.Number, " ", g.Trigger, " ", g.Outcome)
		for _, e := range g.Extensions {
			if e.Name == "conf_"+e.Version || e.Name == "conf" {
				line += " " + e.Version
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func (b *bed) wantHistory(want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.history()); diff != "" {
		b.t.Errorf("history (-want +got):\n%s", diff)
	}
}

// restart is a service of the same name in the place of the one that is there.
func (b *bed) restart() {
	b.t.Helper()
	b.svc.Stop()
	b.start()
}

// TestRollback goes back, stays back over reloads and a restart, goes further back,
// and forward again once there is something newer.
func TestRollback(t *testing.T) {
	b := newBed(t)
	b.start()
	for _, v := range []string{"2", "3"} {
		b.install(v)
		if _, err := b.reload(Options{}); err != nil {
			t.Fatal(err)
		}
	}
	b.svc.Hammer("/etc/extexec-test", "/usr/extexec-test", "/opt/extexec-test")
	res, err := b.rollback(0, Options{})
	b.comesTo(4, res, err)
	if res.Back != 2 || len(res.Holds) != 2 || !res.Exchanged {
		t.Errorf("the rollback came to %+v", res)
	}
	b.want("2")
	b.whole()
	since := res.Generation.Time
	res, err = b.reload(Options{}) // made anew over a base that can be written to
	b.comesTo(4, res, err)
	if g := res.Generation; !res.Exchanged || !g.Time.Equal(since) || g.Trigger != "rollback" {
		t.Errorf("the same generation once more: %+v", res)
	}
	res, err = b.reload(Options{IfChanged: true})
	b.comesTo(4, res, err)
	if text := strings.Join(res.Warnings, "\n"); res.Exchanged || !strings.Contains(text, `conf_3" is passed over: it is held since the rollback to generation 2`) {
		t.Errorf("a reload after the rollback: %+v", res)
	}
	res, err = b.rollback(0, Options{})
	b.comesTo(5, res, err)
	b.want("1")
	if _, err := b.rollback(0, Options{}); err == nil || !strings.Contains(err.Error(), "there is no earlier generation with other extensions") {
		t.Errorf("back from the first: %v", err)
	}
	b.install("2.5") // older than what was left
	res, err = b.reload(Options{})
	b.comesTo(5, res, err)
	b.want("1")
	for found := range b.svc.Tally() {
		if strings.Contains(found, "error") {
			t.Errorf("a lookup failed: %s", found)
		}
	}
	b.restart()
	b.want("1")
	b.install("4")
	res, err = b.reload(Options{})
	b.comesTo(7, res, err)
	b.want("4")
	b.whole()
	if m, err := b.stateOf().Memory(); err != nil || len(m.Holds) != 0 {
		t.Errorf("after a newer version these are held: %+v, %v", m.Holds, err)
	}
	b.wantHistory("1 run committed 1", "2 reload committed 2", "3 reload committed 3", "4 rollback committed 2", "5 rollback committed 1",
		"6 run committed 1", "7 reload committed 4")
}

// TestHoldEnds lifts a hold by name, by force, and by asking for what is held.
func TestHoldEnds(t *testing.T) {
	for name, lift := range map[string]func(b *bed) error{
		"force": func(b *bed) error { _, err := b.reload(Options{Force: true}); return err },
		"unhold": func(b *bed) error {
			lifted, err := Unhold(t.Context(), b.stateOf(), "", 0)
			if len(lifted) != 2 || err != nil {
				t.Errorf("unhold: %+v, %v", lifted, err)
			}
			_, err = b.reload(Options{})
			return err
		},
		"unhold one": func(b *bed) error {
			for _, ref := range []string{b.dir + "/conf.v", b.dir + "/sys.v"} {
				if lifted, err := Unhold(t.Context(), b.stateOf(), ref, 0); len(lifted) != 1 || err != nil {
					t.Errorf("unhold %s: %+v, %v", ref, lifted, err)
				}
			}
			_, err := b.reload(Options{})
			return err
		},
		"by number": func(b *bed) error { _, err := b.rollback(2, Options{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.start()
			b.install("2")
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			if _, err := b.rollback(0, Options{}); err != nil {
				t.Fatal(err)
			}
			b.want("1")
			if err := lift(b); err != nil {
				t.Fatal(err)
			}
			b.want("2")
			if m, err := b.stateOf().Memory(); err != nil || len(m.Holds) != 0 {
				t.Errorf("still held: %+v, %v", m.Holds, err)
			}
			if lifted, err := Unhold(t.Context(), b.stateOf(), "", 0); len(lifted) != 0 || err != nil {
				t.Errorf("unhold of nothing: %+v, %v", lifted, err)
			}
		})
	}
}

// TestRollbackRefused names what is gone or is another thing now; nothing changes,
// and nothing is held.
func TestRollbackRefused(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	res, err := b.reload(Options{})
	b.comesTo(2, res, err)
	if err := os.Chmod(b.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := b.rollback(1, Options{}); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("rollback to what anybody can replace: %v", err)
	}
	if err := os.Chmod(b.dir+"/conf.v", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.dir+"/sys.v/sys_1", b.dir+"/sys_1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir+"/conf.v/conf_1/etc/extexec-test", []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.extension("conf", "3", map[string]string{"etc/no-release": ""})
	if _, err := b.reload(Options{}); err == nil {
		t.Error("an extension without a release file was taken")
	}
	before := b.svc.Table("")
	_, err = b.rollback(1, Options{})
	for _, want := range []string{
		`rollback "bed": `, `conf_1" is no longer what generation 1 had: install that version again`,
		`sys_1", which generation 1 had, is gone: install that version again`, "extexec history --state-dir " + b.dir + "/state bed", "nothing was changed",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	for number, want := range map[uint64]string{9: "there is no generation 9", 3: "generation 3 was refused"} {
		if _, err := b.rollback(number, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rollback to %d: %v, want %q", number, err, want)
		}
	}
	if diff := cmp.Diff(before, b.svc.Table("")); diff != "" {
		t.Error("the mount table changed:", diff)
	}
	if m, err := b.stateOf().Memory(); err != nil || len(m.Holds) != 0 {
		t.Errorf("held: %+v, %v", m.Holds, err)
	}
	b.wantHistory("1 run committed 1", "2 reload committed 2", "3 reload refused 3")
}

// TestRollbackTakenBack has the service not bear the older version: the newer one
// is back, and nothing is held.
func TestRollbackTakenBack(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	b.svc.Stop()
	b.write(`ReloadVerify=/bin/sh -c 'read v </etc/extexec-test; test "$v" != 1'`)
	b.start()
	b.want("2")
	_, err := b.rollback(1, Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack {
		t.Errorf("error %v, want one that is taken back", err)
	}
	b.want("2")
	b.whole()
	m, err := b.stateOf().Memory()
	if err != nil || len(m.Holds) != 0 || len(m.Refused) != 2 {
		t.Errorf("memory %+v, %v; want nothing held, and both refused", m, err)
	}
	b.wantHistory("1 run committed 1", "2 run committed 2", "3 rollback taken back 1")
}

// TestAttemptsAreRecorded finds what was refused and what was taken back in the
// history, and the reason.
func TestAttemptsAreRecorded(t *testing.T) {
	b := newBed(t)
	release := "ID=_any\n"
	file := "etc/extension-release.d/extension-release.conf"
	b.write("ReloadCheck="+good, `ReloadVerify=/bin/sh -c 'read v </etc/extexec-test; test "$v" != worse'`, "KeepGenerations=3")
	b.start()
	b.extension("conf", "2", map[string]string{file: "ID=debian\nVERSION_ID=0.1\n"})
	for range 3 {
		if _, err := b.reload(Options{}); err == nil {
			t.Error("a version for another system was taken")
		}
	}
	b.extension("conf", "3", map[string]string{file: release, "etc/extexec-test": "bad\n"})
	b.extension("conf", "4", map[string]string{file: release, "etc/extexec-test": "worse\n"})
	for _, want := range []Left{TakenBack, Unchanged} {
		_, err := b.reload(Options{})
		var f *Failure
		if !errors.As(err, &f) || f.Left != want {
			t.Errorf("error %v, left %v, want %v", err, f.Left, want)
		}
	}
	b.wantHistory("1 run committed 1", "2 reload refused 2", "3 reload taken back 4", "4 reload refused 3")
	h, err := b.stateOf().History()
	if err != nil || !strings.Contains(h[1].Why, "VERSION_ID") || !strings.Contains(h[3].Why, "looked at bad") {
		t.Errorf("%v, why: %q, %q", err, h[1].Why, h[3].Why)
	}
	for v := 5; v < 9; v++ {
		b.extension("conf", fmt.Sprint(v), map[string]string{file: release, "etc/extexec-test": fmt.Sprint(v)})
		if _, err := b.reload(Options{}); err != nil {
			t.Fatal(err)
		}
	}
	b.wantHistory("6 reload committed 6", "7 reload committed 7", "8 reload committed 8")
	b.extension("conf", "9", map[string]string{file: release, "etc/extexec-test": "bad\n"})
	b.restart()
	b.wantHistory("7 reload committed 7", "8 reload committed 8", "9 run refused 9", "10 run committed 8")
}

// TestInterruptedRollback fails a rollback, which takes back what it held; and kills
// one: what it held stays so, and the next reload completes it.
func TestInterruptedRollback(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	res, err := b.reload(Options{})
	b.comesTo(2, res, err)
	injected := errors.New("injected")
	_, err = b.rollback(0, Options{Hook: func(p string) error {
		if p == "after exchange" {
			return injected
		}
		return nil
	}})
	if !errors.Is(err, injected) {
		t.Fatal(err)
	}
	b.want("2")
	if m, err := b.stateOf().Memory(); err != nil || len(m.Holds) != 0 {
		t.Errorf("after it was undone: %+v, %v", m.Holds, err)
	}
	for _, point := range []string{"before hold", "after hold", "before exchange", "after exchange", "after verify", "before commit", "after commit"} {
		cmd := child{Name: "bed", Back: true, Dirs: b.dirs, Point: point, Limits: nsmount.Probe()}.command(t)
		if err := cmd.Run(); err == nil {
			t.Fatal("the child was not killed")
		}
		if _, err := b.reload(Options{}); err != nil {
			t.Fatal(err)
		}
		if point == "before hold" {
			b.want("2") // it was only about to begin
		} else {
			b.want("1")
		}
		b.whole()
		if _, err := b.reload(Options{Force: true}); err != nil {
			t.Fatal(err)
		}
		b.want("2")
	}
}

// TestKillBeforeHistory kills a reload between its commit and the line in the
// history: the next one adds that line, also when it is refused.
func TestKillBeforeHistory(t *testing.T) {
	for _, next := range []string{"committed", "refused"} {
		t.Run(next, func(t *testing.T) {
			b := newBed(t)
			b.start()
			b.install("2")
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			history := b.dir + "/state/memory/bed/history.jsonl"
			lines, err := os.ReadFile(history)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(lines), "\n")
			if err := os.WriteFile(history, []byte(first+"\n"), 0o600); err != nil { // as such a kill leaves it
				t.Fatal(err)
			}
			if _, err := b.rollback(2, Options{}); err != nil {
				t.Errorf("back to what is live: %v", err)
			}
			if err := os.WriteFile(history, []byte(first+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if next == "refused" {
				b.extension("conf", "3", map[string]string{"etc/x": ""})
			} else {
				b.install("3")
			}
			_, err = b.reload(Options{})
			if (err != nil) != (next == "refused") {
				t.Fatal(err)
			}
			b.wantHistory("1 run committed 1", "2 reload committed 2", "3 reload "+next+" 3")
		})
	}
}

// TestKillBeforeMemory kills a reload between its commit and what it then forgets: what
// was refused and is live all the same, because it was forced, is refused no more, and
// what is held is held no more.
func TestKillBeforeMemory(t *testing.T) {
	rolledBack := func(b *bed) error { _, err := b.rollback(0, Options{}); return err }
	for name, c := range map[string]struct {
		remembered func(b *bed) error // with 2 live, and then 1
		options    Options            // of the reload that is killed
		install    bool               // 3
		want       string
	}{
		"a newer one": {remembered: rolledBack, install: true, want: "3"},
		"by force":    {remembered: rolledBack, options: Options{Force: true}, want: "2"},
		"refused": {remembered: func(b *bed) error {
			if err := rolledBack(b); err != nil {
				return err
			}
			return b.remember(func(m *state.Memory) {
				for _, h := range m.Holds {
					m.Refuse(state.Refused{Identity: h.Identity})
				}
				m.Holds = nil
			})
		}, options: Options{Force: true}, want: "2"},
	} {
		for next, proceed := range map[string]func(b *bed) error{
			"reload":     func(b *bed) error { _, err := b.reload(Options{}); return err },
			"if changed": func(b *bed) error { _, err := b.reload(Options{IfChanged: true}); return err },
			"start":      func(b *bed) error { b.restart(); return nil },
		} {
			t.Run(name+"/"+next, func(t *testing.T) {
				b := newBed(t)
				b.start()
				b.install("2")
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
				if err := c.remembered(b); err != nil {
					t.Fatal(err)
				}
				b.want("1")
				before, err := b.stateOf().Memory()
				if err != nil || len(before.Holds)+len(before.Refused) != 2 {
					t.Fatalf("remembered: %+v, %v", before, err)
				}
				if c.install {
					b.install("3")
				}
				if _, err := b.reload(c.options); err != nil {
					t.Fatal(err)
				}
				if err := b.remember(func(m *state.Memory) { *m = *before }); err != nil { // as such a kill leaves it
					t.Fatal(err)
				}
				if err := proceed(b); err != nil {
					t.Fatal(err)
				}
				b.want(c.want)
				if m, err := b.stateOf().Memory(); err != nil || len(m.Holds)+len(m.Refused) != 0 {
					t.Errorf("remembered: %+v, %v", m, err)
				}
			})
		}
	}
}

// mainPID is a manager that knows one unit.
type mainPID int

func (p mainPID) MainPID(context.Context, string) (int, error) { return int(p), nil }

// TestRollbackOfAnother goes back in a namespace that no record knows, as after
// systemd has started an adopted unit anew with the newest that there was.
func TestRollbackOfAnother(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	res, err := b.reload(Options{})
	b.comesTo(2, res, err)
	b.startedBySystemd()
	res, err = Rollback(t.Context(), Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Manager: mainPID(b.svc.PID())}, 0)
	b.comesTo(3, res, err)
	if res.Back != 1 || len(res.Holds) != 2 {
		t.Errorf("back to %d, held %+v", res.Back, res.Holds)
	}
	b.want("1")
}

// startedBySystemd has the record mean another namespace than that of the service, which
// a manager knows.
func (b *bed) startedBySystemd() {
	b.t.Helper()
	edit(b.t, b.dirs, "bed", func(r *state.Record) { r.MountNS, r.PID = 1<<63-1, 0 })
	for _, dir := range []string{b.dirs.Record, b.dirs.Memory} { // a manager knows units only
		if err := os.Rename(dir+"/bed", dir+"/bed.service"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestFirstReloadIsRefused: where a check fails and nothing is known of what was live, no
// extension is refused that has no other version. What was good before is not, either.
func TestFirstReloadIsRefused(t *testing.T) {
	for name, remembered := range map[string]bool{"nothing is remembered": false, "the last good one is": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.write("ReloadCheck=" + good)
			b.install("1.5")
			if err := os.RemoveAll(b.dir + "/sys.v/sys_1.5"); err != nil {
				t.Fatal(err)
			}
			if remembered {
				b.extension("sys", "1.1", map[string]string{
					"usr/lib/extension-release.d/extension-release.sys": "ID=_any\n", "usr/extexec-test": "1.1", "opt/extexec-test": "1.1"})
			}
			b.start()
			b.conf("2", "bad\n")
			b.startedBySystemd()
			if !remembered {
				if err := os.Remove(b.dirs.Memory + "/bed.service/history.jsonl"); err != nil {
					t.Fatal(err)
				}
			}
			o := Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Manager: mainPID(b.svc.PID())}
			if _, err := Reload(t.Context(), o); err == nil || !strings.Contains(err.Error(), "looked at bad") {
				t.Fatalf("error %v, want that of the check", err)
			}
			u, err := b.dirs.Unit("bed.service")
			if err != nil {
				t.Fatal(err)
			}
			m, err := u.Memory()
			if err != nil || len(m.Refused) != 1 || m.Refused[0].Path != b.dir+"/conf.v/conf_2" {
				t.Errorf("refused is %+v, %v; want the bad one alone", m, err)
			}
			if _, err := Reload(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			b.wantEtc("1.5")
		})
	}
}

// TestNothingElseToPick: where nothing is known of what was live, and all other versions
// of an extension were refused before, a failed check does not refuse the last one.
func TestNothingElseToPick(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCheck=" + good)
	b.start()
	history, err := b.stateOf().History()
	if err != nil {
		t.Fatal(err)
	}
	first := history[0].Extensions[0]
	b.conf("2", "bad\n")
	b.startedBySystemd()
	if err := os.Remove(b.dirs.Memory + "/bed.service/history.jsonl"); err != nil {
		t.Fatal(err)
	}
	u, err := b.dirs.Unit("bed.service")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := u.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if w := lock.Remember(func(m *state.Memory) { m.Refuse(state.Refused{Identity: first.Identity, Path: first.Path}) }); w != nil {
		t.Fatal(w)
	}
	r, err := lock.Load()
	if err != nil {
		t.Fatal(err)
	}
	r.Current = state.Generation{}
	if err := lock.Save(r); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Manager: mainPID(b.svc.PID())}
	for range 2 {
		if _, err := Reload(t.Context(), o); err == nil || !strings.Contains(err.Error(), "looked at bad") {
			t.Fatalf("error %v, want that of the check", err)
		}
	}
	m, err := u.Memory()
	if err != nil || len(m.Refused) != 1 || m.Refused[0].Path != first.Path {
		t.Errorf("refused is %+v, %v; want what was refused before alone", m, err)
	}
}

// TestLinkLost records which carried mount lost its link to the host's, and keeps
// that over further reloads.
func TestLinkLost(t *testing.T) {
	b := newBed(t)
	b.extension("conf", "2", map[string]string{
		"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-flat/x": "", "etc/extexec-nest/x": "",
	})
	for _, dir := range []string{"/flat", "/nest/below"} {
		if err := os.MkdirAll(b.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	b.svc.Mount(b.dir+"/flat", "/etc/extexec-flat", "", unix.MS_BIND, "")
	b.svc.Mount(b.dir+"/nest", "/etc/extexec-nest", "", unix.MS_BIND, "")
	b.svc.Mount("extexec-test", "/etc/extexec-nest/below", "tmpfs", 0, "")
	for range 3 {
		if _, err := b.reload(Options{Force: true}); err != nil {
			t.Fatal(err)
		}
		r, err := b.stateOf().Load()
		if err != nil {
			t.Fatal(err)
		}
		want := []state.Carried{{Path: "extexec-flat", Origin: "unit"}, {Path: "extexec-nest", Origin: "unit", LinkLost: true}}
		if diff := cmp.Diff(want, r.Current.Hierarchies[2].Carried); diff != "" {
			t.Errorf("carried (-want +got):\n%s", diff)
		}
	}
}

func TestHoldsAfter(t *testing.T) {
	ext := func(ref, version string) state.Extension {
		return state.Extension{Ref: ref, Version: version, Identity: ref + version}
	}
	gen := func(n uint64, all ...state.Extension) state.Generation {
		return state.Generation{Number: n, Extensions: all}
	}
	held := func(ref, above, version string) state.Hold {
		return state.Hold{Ref: ref, Version: version, Above: above, Identity: ref + version}
	}
	without := held("a", "", "3")
	without.Without = true
	bare := state.Hold{Ref: "a", Identity: "a"}
	rebuilt := ext("a", "3")
	rebuilt.Identity = "another"
	for _, c := range []struct {
		name     string
		old      []state.Hold
		left, to state.Generation
		want     []state.Hold
	}{
		{"older", nil, gen(3, ext("a", "3"), ext("b", "1")), gen(2, ext("a", "2"), ext("b", "1")), []state.Hold{held("a", "2", "3")}},
		{"further", []state.Hold{held("a", "2", "3")}, gen(4, ext("a", "2")), gen(1, ext("a", "1")), []state.Hold{held("a", "1", "3")}},
		{"newer", nil, gen(3, ext("a", "1")), gen(2, ext("a", "2")), nil},
		{"what was held", []state.Hold{held("a", "2", "3")}, gen(4, ext("a", "2")), gen(3, ext("a", "3")), nil},
		{"between", []state.Hold{held("a", "1", "3")}, gen(4, ext("a", "1")), gen(3, ext("a", "2")), []state.Hold{held("a", "2", "3")}},
		{"by number", nil, gen(3, ext("a", "10")), gen(2, ext("a", "9")), []state.Hold{held("a", "9", "10")}},
		{"nothing there", nil, gen(3, ext("a", "3")), gen(2), []state.Hold{without}},
		{"nothing there still", []state.Hold{without}, gen(4, ext("b", "3")), gen(2, ext("b", "3")), []state.Hold{without}},
		{"there again", []state.Hold{without}, gen(4), gen(3, ext("a", "3")), nil},
		{"no versions", nil, gen(3, state.Extension{Ref: "a", Identity: "a"}), gen(2, state.Extension{Ref: "a", Identity: "b"}), []state.Hold{bare}},
		{"same version", nil, gen(3, ext("a", "3")), gen(2, rebuilt), []state.Hold{held("a", "3", "3")}},
	} {
		got := holdsAfter(c.old, c.left, c.to, time.Time{})
		for i := range got {
			got[i].Why = ""
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
