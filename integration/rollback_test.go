package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
)

// TestRollback goes back under systemd, stays back over a reload and a restart, and
// goes forward again with a newer version; and the same by hand, without a manager.
func TestRollback(t *testing.T) {
	for _, s := range []rig.Suite{rig.Bookworm, rig.Forky} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Shared(t, s)
			t.Run("unit", func(t *testing.T) { rollBackUnit(t, c.For(t)) })
			t.Run("by hand", func(t *testing.T) { rollBackByHand(t, c.For(t)) })
			if c.SystemdVersion() >= 256 { // this one applies a .v/ directory
				t.Run("adopt", func(t *testing.T) { rollBackAdopted(t, c.For(t)) })
			}
		})
	}
}

func rollBackUnit(t *testing.T, c *rig.Container) {
	w := startWrapped(t, c, newWrapExts(t, c, wrapSquashfs), "rollback", "User=www-data", "")
	w.reload(t)
	before := c.MainPID(w.unit)
	c.Must("extexec", "rollback", w.unit)
	w.reads(t, "one\n")
	c.Systemctl("reload", w.unit)
	w.reads(t, "one\n")
	if after := c.MainPID(w.unit); after != before {
		t.Errorf("main process %v, was %v", after, before)
	}
	if log := c.Journal(w.unit); !strings.Contains(log, "tool_2.raw\" is passed over: it is held since the rollback to generation 1") {
		t.Errorf("the reload does not say what is held:\n%s", log)
	}
	var st status.Status
	decode(t, c.Must("extexec", "status", "--json", w.unit), &st)
	if len(st.Holds) != 2 || len(st.Extensions) != 2 || len(st.Extensions[0].PassedOver) != 1 || st.Generation.Trigger != "rollback" {
		t.Errorf("status %+v", st)
	}

	c.Systemctl("restart", w.unit)
	w.start(t)
	w.reads(t, "one\n")
	w.exts.install(t, 3, "three\n")
	c.Systemctl("reload", w.unit)
	w.reads(t, "three\n")
	wantGenerations(t, c, w.unit, "1 run, 2 reload, 3 rollback, 4 run, 5 reload")

	c.Remove(w.exts.entry("tool", 1))
	if r := c.Exec(t.Context(), "extexec", "rollback", w.unit, "1"); r.Code != 1 || !strings.Contains(r.Stderr, "tool_1.raw\", which generation 1 had, is gone: install that version again") {
		t.Errorf("rollback to what is gone: %v", r)
	}
	w.reads(t, "three\n")
}

// rollBackByHand starts a command with the settings of a unit file, and no manager.
func rollBackByHand(t *testing.T, c *rig.Container) {
	e := newWrapExts(t, c, wrapDirs)
	c.WriteFile(e.dir+"/hand.service", "[Service]\nExecStart=/bin/true\n"+e.section()+"KeepGenerations=2\n", 0o644)
	c.Forget("hand.service")
	c.Start(rig.Command{Argv: []string{"extexec", "run", "--unit", "./hand.service", "--", "sleep", "infinity"}, Dir: e.dir})
	reads := func(want string) {
		t.Helper()
		if got := c.Must("extexec", "exec", "hand", "--", "cat", wrapConf, wrapTool); got != want+"\n"+want {
			t.Errorf("reads %q, want %q twice", got, want)
		}
	}
	eventually(t, "the command runs", func() bool { return c.Exec(t.Context(), "extexec", "exec", "hand", "--", "true").Code == 0 })
	reads("one")
	for v, text := range []string{2: "two", 3: "three"} {
		if text == "" {
			continue
		}
		e.install(t, v, text+"\n")
		c.Must("extexec", "reload", "hand")
		reads(text)
	}
	c.Must("extexec", "rollback", "hand")
	reads("two")
	c.Must("extexec", "unhold", "hand", e.ref("conf"))
	c.Must("extexec", "reload", "hand")
	if got := c.Must("extexec", "exec", "hand", "--", "cat", wrapConf, wrapTool); got != "three\ntwo" {
		t.Errorf("reads %q after one of two is no longer held", got)
	}
	wantGenerations(t, c, "hand.service", "4 rollback, 5 reload") // KeepGenerations=2
}

// rollBackAdopted goes back where systemd picks at start, which knows of no hold.
func rollBackAdopted(t *testing.T, c *rig.Container) {
	a := newAdoptee(t, c, "rollback")
	const file = "/etc/adopt-rollback"
	a.ship("conf.v/conf_1", files{file: "one\n"})
	a.start("ExtensionDirectories=%D/conf.v\n", file)
	a.reload()
	a.ship("conf.v/conf_2", files{file: "two\n"})
	a.reload()
	a.sees(file, "two\n")
	c.Must("extexec", "rollback", a.unit)
	a.sees(file, "one\n")

	for _, verb := range []string{"reload", "rollback"} {
		c.Systemctl("restart", a.unit)
		a.pid = c.MainPID(a.unit)
		a.sees(file, "two\n")
		c.Must("extexec", verb, a.unit)
		a.sees(file, "one\n")
	}
	var st status.Status
	decode(t, c.Must("extexec", "status", "--json", a.unit), &st)
	if len(st.Holds) != 1 || st.Holds[0].Version != "2" || st.Holds[0].Above != "1" || st.Generation.Number != 5 {
		t.Errorf("status %+v", st)
	}
}

func wantGenerations(t *testing.T, c *rig.Container, name, want string) {
	t.Helper()
	var h struct{ Generations []state.Generation }
	decode(t, c.Must("extexec", "history", "--json", name), &h)
	var got []string
	for _, g := range h.Generations {
		got = append(got, fmt.Sprint(g.Number, " ", g.Trigger))
		if !g.Committed() || len(g.Extensions) != 2 {
			t.Errorf("generation %+v", g)
		}
	}
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("generations %s; want %s", s, want)
	}
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
}
