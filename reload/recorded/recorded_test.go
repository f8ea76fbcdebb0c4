package recorded_test

import (
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/recorded"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { nsmounttest.Main(m) }

// TestMeans gives a record the id of a namespace in which another service may live by
// now: it is taken for the recorded one only with some proof.
func TestMeans(t *testing.T) {
	svc := nsmounttest.Start(t, nsmounttest.Options{})
	p, err := service.Open(svc.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	id, err := p.MountNS()
	if err != nil {
		t.Fatal(err)
	}
	unique := id&service.InodeID == 0
	const before = "00000000-0000-0000-0000-000000000000"
	for name, c := range map[string]struct {
		record state.Record
		means  bool
	}{
		"the recorded process":                     {state.Record{PID: p.PID(), StartTime: p.StartTime()}, true},
		"the recorded process, in this boot":       {state.Record{PID: p.PID(), StartTime: p.StartTime(), Boot: recorded.Boot()}, true},
		"like the recorded process of another":     {state.Record{PID: p.PID(), StartTime: p.StartTime(), Boot: before}, false},
		"a later process with its number":          {state.Record{PID: p.PID(), StartTime: p.StartTime() - 1}, false},
		"another process, no overlay":              {state.Record{PID: os.Getpid(), StartTime: 1}, false},
		"another process, and an id that is given": {state.Record{PID: os.Getpid(), StartTime: 1, Boot: recorded.Boot()}, unique},
		"another process, of another boot":         {state.Record{PID: os.Getpid(), StartTime: 1, Boot: before}, false},
	} {
		r := c.record
		r.Name, r.MountNS = "web", id
		pids, err := recorded.Processes(&r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := slices.Contains(pids, p.PID()); got != c.means {
			t.Errorf("%s: processes %d, want that it is among them: %v", name, pids, c.means)
		}
		one, err := recorded.Any(&r)
		if err != nil || (one != nil) != c.means {
			t.Errorf("%s: one %v, error %v, want one: %v", name, one, err, c.means)
		}
		if one != nil {
			_ = one.Close()
		}
		itself := c.means && r.PID == p.PID()
		one, err = recorded.Process(&r)
		if err != nil || (one != nil) != itself {
			t.Errorf("%s: the process itself %v, error %v, want it: %v", name, one, err, itself)
		}
		if one != nil {
			_ = one.Close()
		}
	}
}

// TestWithoutProc hides who lives: an empty /proc does not say that nobody does.
func TestWithoutProc(t *testing.T) {
	nsmounttest.Root(t)
	nsmounttest.Tmpfs(t, "/proc", "size=4k")
	if pids, err := recorded.Processes(&state.Record{Name: "web", PID: os.Getpid(), MountNS: 1}); err == nil {
		t.Errorf("processes %d, and no error", pids)
	}
}
