package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/extexec/extexec/reload/state"
)

// lintMetrics has the linter of promtool read what was written.
func lintMetrics(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Errorf("not the text format: %v\n%s", err, text)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetrics(t *testing.T) {
	dir, at := t.TempDir(), time.Unix(1700000000, 250e6)
	hostile := "/srv/\"a\\b\nc\xff"
	save(t, dir, "web.service", &state.Record{
		Unit: "web.service",
		Current: state.Generation{
			Number: 7, Time: at,
			Extensions: []state.Extension{
				{Ref: "/srv/web.v", Kind: "directory", Name: "web", Version: "2", Path: "/srv/web.v/web_2", Class: []string{"sysext", "confext"}, Identity: "i"},
				{Ref: hostile, Kind: "directory", Name: "odd", Path: hostile, Class: []string{"confext"}, Identity: "j"},
			},
		},
	})
	save(t, dir, "db", &state.Record{})
	u, err := state.In(dir).Unit("web.service")
	must(t, err)
	l, err := u.Lock(t.Context(), 0)
	must(t, err)
	warning := l.Remember(func(m *state.Memory) {
		m.Refuse(state.Refused{Identity: "k", Path: "/srv/web.v/web_3", Why: "check", Time: at})
		m.Holds = append(m.Holds, state.Hold{Ref: "/srv/web.v", Version: "4", Above: "2", Time: at})
	})
	if warning == nil {
		warning = l.AddHistory(state.Generation{Number: 8, Time: at.Add(time.Minute), Outcome: state.OutcomeRefused, Why: "check"}, 10)
	}
	if warning != nil {
		t.Fatal(warning)
	}
	must(t, l.Close())

	code, out, errOut := call("status", "--metrics", "--state-dir", dir)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	lintMetrics(t, out)
	for _, want := range []string{
		`extexec_generation{name="web.service"} 7`,
		`extexec_generation{name="db"} 0`,
		`extexec_generation_timestamp_seconds{name="web.service"} 1700000000.250`,
		`extexec_extension_info{name="web.service",extension="web",version="2",class="sysext,confext",path="/srv/web.v/web_2",verified=""} 1`,
		`extexec_extension_info{name="web.service",extension="odd",version="",class="confext",path="/srv/\"a\\b\nc` + "\uFFFD" + `",verified=""} 1`,
		`extexec_refused_versions{name="web.service"} 1`,
		`extexec_refused_versions{name="db"} 0`,
		`extexec_held_extensions{name="web.service"} 1`,
		`extexec_covered_mounts{name="web.service"} 0`,
		`extexec_stale_processes{name="web.service"} 0`,
		`extexec_wrong_hierarchies{name="web.service"} 0`,
		`extexec_last_attempt_timestamp_seconds{name="web.service"} 1700000060.250`,
		`extexec_last_attempt_outcome{name="web.service",outcome="committed"} 0`,
		`extexec_last_attempt_outcome{name="web.service",outcome="refused"} 1`,
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	if _, one, _ := call("status", "--metrics", "--state-dir", dir, "db"); strings.Contains(one, "web.service") || !strings.Contains(one, `name="db"`) {
		t.Errorf("of db alone: %s", one)
	}
}

// TestMetricsOfWhatCannotBeRead: the rest is written, and the exit code says so.
func TestMetricsOfWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, "a", &state.Record{})
	save(t, dir, "b", &state.Record{})
	must(t, os.WriteFile(filepath.Join(dir, "record", "a", "state.json"), []byte("{"), 0o644))
	code, out, errOut := call("status", "--metrics", "--state-dir", dir)
	lintMetrics(t, out)
	if code != exitFailed || !strings.Contains(errOut, `record of "a"`) || !strings.Contains(out, `extexec_generation{name="b"} 0`) {
		t.Errorf("exit code %d, %q, %s", code, errOut, out)
	}
}

// TestMetricsAreDocumented compares docs/status.md with the metrics that there are.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/status.md")
	must(t, err)
	var there, described []string
	for _, m := range metrics {
		there = append(there, m.name)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(extexec_[a-z_]+)").FindAllStringSubmatch(string(text), -1) {
		described = append(described, m[1])
	}
	if d := cmp.Diff(there, described); d != "" {
		t.Errorf("the program (-) and docs/status.md (+):\n%s", d)
	}
}
