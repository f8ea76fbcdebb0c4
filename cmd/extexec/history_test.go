package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/state"
)

// remember writes a history and holds of a name, as after a boot: there is no record.
func remember(t *testing.T, dir, name string, generations []state.Generation, holds ...state.Hold) {
	t.Helper()
	u, err := state.In(dir).Unit(name)
	must(t, err)
	l, err := u.Lock(t.Context(), 0)
	must(t, err)
	for _, g := range generations {
		if w := l.AddHistory(g, 10); w != nil {
			t.Fatal(w)
		}
	}
	if w := l.Remember(func(m *state.Memory) { m.Holds = holds }); w != nil {
		t.Fatal(w)
	}
	must(t, l.Close())
}

func someHistory() []state.Generation {
	ext := func(v string) []state.Extension {
		return []state.Extension{{Ref: "/srv/web.v", Name: "web_" + v, Version: v, Path: "/srv/web.v/web_" + v, Identity: "dir:" + v}}
	}
	now := time.Now()
	return []state.Generation{
		{Number: 1, Time: now, Outcome: state.OutcomeCommitted, Trigger: "run", Extensions: ext("1")},
		{Number: 2, Time: now, Outcome: state.OutcomeRefused, Trigger: "reload", Why: "exit 1: bad line\n", Extensions: ext("2")},
		{Number: 3, Time: now, Outcome: state.OutcomeCommitted, Trigger: "reload", Extensions: ext("3")},
	}
}

func TestHistory(t *testing.T) {
	dir := t.TempDir()
	if code, _, errOut := call("history", "--state-dir", dir, "web"); code != exitFailed || !strings.Contains(errOut, `find "web": nothing is remembered`) {
		t.Errorf("unknown name: code %d, %q", code, errOut)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "record", "none"), 0o755))
	if code, out, _ := call("history", "--state-dir", dir, "none"); code != exitOK || out != "none has no history.\n" {
		t.Errorf("no history: code %d, %q", code, out)
	}
	remember(t, dir, "web.service", someHistory())
	must(t, os.RemoveAll(filepath.Join(dir, "record"))) // a boot
	code, out, errOut := call("history", "--state-dir", dir, "web")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || len(lines) != 4 || errOut != "" {
		t.Fatalf("code %d\n%s%s", code, out, errOut)
	}
	for i, want := range []string{"GENERATION  TIME", "1  run  web 1", "2  reload  web 2  exit 1: bad line\\n", "3  reload  web 3"} {
		for _, word := range strings.Split(want, "  ") {
			if !strings.Contains(lines[i], word) {
				t.Errorf("line %q lacks %q", lines[i], word)
			}
		}
	}
	save(t, dir, "web.service", &state.Record{Current: state.Generation{Number: 3}})
	if _, out, _ := call("history", "--state-dir", dir, "web"); !strings.Contains(out, "current ") {
		t.Errorf("the current one is not marked:\n%s", out)
	}
	_, out, _ = call("history", "--json", "--state-dir", dir, "web")
	var h struct {
		Schema, Current int
		Name            string
		Generations     []struct {
			Number     int
			Outcome    string
			Why        string
			Extensions []struct{ Version, Identity string }
		}
	}
	if err := json.Unmarshal([]byte(out), &h); err != nil || h.Schema != 1 || h.Current != 3 || h.Name != "web.service" || len(h.Generations) != 3 ||
		h.Generations[1].Outcome != "refused" || h.Generations[1].Why == "" || h.Generations[2].Extensions[0].Version != "3" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRollbackUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"rollback"}, "wants a NAME"},
		{[]string{"rollback", "web", "1", "2"}, "got 3 arguments"},
		{[]string{"rollback", "web", "first"}, `number of a GENERATION, and got "first"`},
		{[]string{"rollback", "web", "0"}, "extexec history web shows them"},
		{[]string{"rollback", "web", "--state-dir=/srv/x", "0"}, "extexec history --state-dir /srv/x web shows them"},
		{[]string{"rollback", "web", "-3"}, `number of a GENERATION, as history shows it, and got "-3": it does not count`},
		{[]string{"rollback", "web", "-x3"}, "unknown shorthand flag: 'x' in -x3"},
		{[]string{"rollback", "--lock-wait=-1s", "web"}, "that is less than nothing: give 0"},
		{[]string{"unhold", "--lock-wait=-1s", "web"}, "that is less than nothing: give 0"},
		{[]string{"reload", "--lock-wait=-1ns", "web"}, "that is less than nothing: give 0"},
		{[]string{"repair", "--lock-wait=-1s"}, "that is less than nothing: give 0"},
		{[]string{"repair", "--lock-wait=soon"}, `invalid duration "soon"`},
		{[]string{"unhold"}, "wants a NAME"},
		{[]string{"history"}, "wants one NAME"},
	} {
		code, out, errOut := call(c.args...)
		if code != exitUsage || out != "" || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, output %q, error %q", c.args, code, out, errOut)
		}
	}
	dir := t.TempDir()
	code, _, errOut := call("rollback", "--state-dir", dir, "web")
	if code != exitFailed || !strings.Contains(errOut, `rollback "web.service": `) {
		t.Errorf("unknown name: code %d, %q", code, errOut)
	}
	nsmounttest.Root(t)
	save(t, dir, "by-hand", &state.Record{})
	code, _, errOut = call("rollback", "--state-dir", dir, "by-hand")
	if code != exitFailed || !strings.Contains(errOut, "extexec list --state-dir "+dir+" shows the names") {
		t.Errorf("what does not run: code %d, %q", code, errOut)
	}
}

func TestUnhold(t *testing.T) {
	dir := t.TempDir()
	holds := []state.Hold{{Ref: "/srv/a.v", Version: "3", Above: "2"}, {Ref: "/srv/b.v", Version: "3"}, {Ref: "/srv/c.v"}}
	remember(t, dir, "web.service", someHistory(), holds...)
	for _, c := range []struct {
		args []string
		code int
		want string
		left int
	}{
		{[]string{"web", "/srv/x.v"}, exitFailed, `unhold "/srv/x.v" of "web.service": it is not held: see extexec status --state-dir ` + dir + ` web.service`, 3},
		{[]string{"web", "/srv/a.v"}, exitOK, "/srv/a.v is no longer held", 2},
		{[]string{"web"}, exitOK, "/srv/c.v is no longer held", 0},
		{[]string{"web"}, exitOK, "nothing is held", 0},
	} {
		code, _, errOut := call(append([]string{"unhold", "--state-dir", dir}, c.args...)...)
		u, err := state.In(dir).Unit("web.service")
		must(t, err)
		m, err := u.Memory()
		must(t, err)
		if code != c.code || !strings.Contains(errOut, c.want) || len(m.Holds) != c.left {
			t.Errorf("%q: code %d, %q, held %+v", c.args, code, errOut, m.Holds)
		}
	}
}

// TestKilledAfterCommit: a kill between the commit and what is then written into the
// memory shows in nothing that reads.
func TestKilledAfterCommit(t *testing.T) {
	dir := t.TempDir()
	history := someHistory()
	remember(t, dir, "web.service", history[:2], state.Hold{Ref: "/srv/web.v", Version: "2", Above: "1", Identity: "dir:2"})
	save(t, dir, "web.service", &state.Record{MountNS: 1<<63 - 1, Current: history[2]})
	for _, c := range []struct {
		args      []string
		want, not string
	}{
		{[]string{"history", "web"}, "current    reload  web 3", ""},
		{[]string{"history", "--json", "web"}, `"number": 3`, ""},
		{[]string{"status", "web"}, "Generation:  3", "Last attempt"},
		{[]string{"status", "web"}, "Generation:  3", "HELD"},
		{[]string{"__complete", "rollback", "web", ""}, "3\tweb 3\n1\tweb 1\n", ""},
		{[]string{"__complete", "unhold", "web", ""}, ":", "/srv/web.v"},
		{[]string{"unhold", "web"}, "web.service: nothing is held", ""},
	} {
		at := slices.Index(c.args, "web")
		code, out, errOut := call(slices.Insert(c.args, at, "--state-dir", dir)...)
		if out += errOut; code != exitOK || !strings.Contains(out, c.want) || c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("%q: code %d, want %q and not %q\n%s", c.args, code, c.want, c.not, out)
		}
	}
}

func TestCompletionOfGenerations(t *testing.T) {
	dir := t.TempDir()
	remember(t, dir, "web.service", someHistory(), state.Hold{Ref: "/srv/web.v"})
	save(t, dir, "web.service", &state.Record{})
	for _, c := range []struct{ verb, want string }{{"rollback", "3\tweb 3\n1\tweb 1\n"}, {"unhold", "/srv/web.v\n"}} {
		if code, out, _ := call("__complete", c.verb, "--state-dir", dir, "web", ""); code != exitOK || !strings.HasPrefix(out, c.want) {
			t.Errorf("%s: code %d, %q", c.verb, code, out)
		}
		if _, out, _ := call("__complete", c.verb, "--state-dir", dir, ""); !strings.HasPrefix(out, "web.service\n") {
			t.Errorf("%s: %q", c.verb, out)
		}
	}
}

// What status says beside what is live: what is held, passed over, carried, and was
// tried last.
func TestStatusExplains(t *testing.T) {
	dir := t.TempDir()
	v := filepath.Join(dir, "web.v")
	for _, name := range []string{"web_1", "web_2"} {
		must(t, os.MkdirAll(filepath.Join(v, name), 0o755))
	}
	history := someHistory()
	history = append(history, state.Generation{Number: 4, Time: time.Now(), Outcome: state.OutcomeTakenBack, Trigger: "reload", Why: "exit 7"})
	remember(t, dir, "web", history, state.Hold{Ref: v, Version: "2", Above: "1", Why: "is held since the rollback to generation 1", Time: time.Now()})
	save(t, dir, "web", &state.Record{
		MountNS: 1<<63 - 1, Refs: []state.Ref{{Kind: "directory", Text: v}},
		Current: state.Generation{
			Number: 3, Time: time.Now(), Trigger: "rollback",
			Extensions: []state.Extension{{Ref: v, Kind: "directory", Name: "web_1", Version: "1", Path: v + "/web_1", Verified: "verity"}},
			Hierarchies: []state.Hierarchy{{Path: "/etc", Layers: 1, Carried: []state.Carried{
				{Path: "secret", Origin: "unit"}, {Path: "app/data", Origin: "host", LinkLost: true},
			}}},
		},
	})
	code, out, errOut := call("status", "--state-dir", dir, "web")
	text := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"by rollback", "Last attempt: taken back", "by reload: exit 7",
		"web 1 - verity", "NOT PICKED WHY " + v + "/web_2 is held since the rollback to generation 1",
		"CARRIED OF LINK /etc/secret unit - /etc/app/data host lost", "HELD VERSION SINCE WHY " + v + " after 1, up to 2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != exitOK {
		t.Errorf("code %d, %s", code, errOut)
	}
}
