package status_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// A house is directories to overlay, and the state of one name.
type house struct {
	*testing.T
	top  string
	unit *state.Unit
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, top: t.TempDir()}
	for _, d := range []string{"a", "b", "etc", "usr", "opt", "srv"} {
		must(t, os.Mkdir(h.path(d), 0o755))
	}
	u, err := state.In(h.path("state")).Unit("web")
	must(t, err)
	h.unit = u
	return h
}

func (h *house) path(p string) string { return filepath.Join(h.top, p) }

// service starts a process in a mount namespace of its own, after script, and
// returns its id and that of the namespace.
func (h *house) service(script string) (pid int, ns uint64) {
	h.Helper()
	c := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-ec",
		`overlay() { mount -t overlay "$1" -o "lowerdir=$TOP/a:$TOP/b" "$2"; }; `+script+"; echo ready; exec cat")
	c.Dir, c.Env, c.Stderr = h.top, append(os.Environ(), "TOP="+h.top), os.Stderr
	in, err := c.StdinPipe()
	must(h.T, err)
	out, err := c.StdoutPipe()
	must(h.T, err)
	must(h.T, c.Start())
	h.Cleanup(func() { in.Close(); must(h.T, c.Wait()) })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		h.Fatalf("the service said %q", line)
	}
	p, err := service.Open(c.Process.Pid)
	must(h.T, err)
	defer p.Close()
	ns, err = p.MountNS()
	must(h.T, err)
	return c.Process.Pid, ns
}

func (h *house) startTime(pid int) uint64 {
	h.Helper()
	p, err := service.Open(pid)
	must(h.T, err)
	defer p.Close()
	return p.StartTime()
}

func (h *house) save(r *state.Record) {
	h.Helper()
	l, err := h.unit.Lock(h.Context(), 0)
	must(h.T, err)
	must(h.T, l.Save(r))
	must(h.T, l.Close())
}

func (h *house) read() *status.Status {
	h.Helper()
	s, err := status.Read(h.unit)
	must(h.T, err)
	return s
}

// What is live, hierarchy by hierarchy, in a real namespace.
func TestLive(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	pid, ns := h.service(`
		overlay extexec:3.7:web etc
		overlay extexec:2.5:web usr; overlay extexec:3.7:web usr
		overlay extexec:3.7:web opt; overlay extexec:3.6:web opt
		mkdir older under other dir adopted
		overlay systemd-extensions adopted; overlay extexec:3.7:web adopted
		overlay extexec:2.6:web older
		overlay extexec:3.7:web under; mount -t tmpfs stranger under
		overlay extexec:3.7:another other`)
	r := &state.Record{PID: pid, StartTime: h.startTime(pid), MountNS: ns, Current: state.Generation{Number: 3, Serial: 7, Time: time.Unix(1, 0).UTC()}}
	for _, p := range []string{"etc", "usr", "opt", "older", "under", "other", "dir", "adopted"} {
		r.Current.Hierarchies = append(r.Current.Hierarchies, state.Hierarchy{Path: h.path(p), Layers: 1})
	}
	r.Current.Hierarchies = append(r.Current.Hierarchies,
		state.Hierarchy{Path: "/elsewhere", Point: h.path("etc"), Layers: 1},
		state.Hierarchy{Path: h.path("dir"), Layers: 0})
	h.save(r)

	s := h.read()
	if s.State != status.Live || s.PID != pid || !cmp.Equal(s.PIDs, []int{pid}) {
		t.Errorf("state %s, pid %d, pids %d; want %d", s.State, s.PID, s.PIDs, pid)
	}
	live := &status.Overlay{Generation: 3, Serial: 7}
	want := []status.Hierarchy{
		{Path: h.path("etc"), State: status.AsRecorded, Live: live, Top: "extexec:3.7:web"},
		{Path: h.path("usr"), State: status.AsRecorded, Live: live, Top: "extexec:3.7:web", Covered: 1},
		{Path: h.path("opt"), State: status.HalfExchanged, Live: &status.Overlay{Generation: 3, Serial: 6}, Top: "extexec:3.6:web", Covered: 1},
		{Path: h.path("older"), State: status.OtherThan, Live: &status.Overlay{Generation: 2, Serial: 6}, Top: "extexec:2.6:web"},
		{Path: h.path("under"), State: status.UnderMount, Top: "stranger"},
		{Path: h.path("other"), State: status.Missing, Top: "extexec:3.7:another"},
		{Path: h.path("dir"), State: status.Missing},
		{Path: h.path("adopted"), State: status.AsRecorded, Live: live, Top: "extexec:3.7:web", Covered: 1},
		{Path: "/elsewhere", Point: h.path("etc"), State: status.AsRecorded, Live: live, Top: "extexec:3.7:web"},
		{Path: h.path("dir"), State: status.NoOverlay},
	}
	if diff := cmp.Diff(want, s.Hierarchies, cmpopts.IgnoreFields(status.Hierarchy{}, "Layers")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(s.Notes) != 5 || !strings.Contains(strings.Join(s.Notes, "\n"), `"stranger" was mounted over the overlay`) {
		t.Errorf("notes %q", s.Notes)
	}
}

func TestDead(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	if _, err := status.Read(h.unit); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a record: %v", err)
	}
	r := &state.Record{PID: os.Getpid(), MountNS: 1<<63 - 1, Current: state.Generation{Number: 1, Hierarchies: []state.Hierarchy{{Path: "/etc", Layers: 1}}}}
	h.save(r)
	s := h.read()
	if s.State != status.Dead || s.PID != 0 || s.Hierarchies[0].State != status.NotKnown {
		t.Errorf("%+v", s)
	}
}

// Another service that has come to live in a namespace with the recorded id is not
// shown as the recorded one.
func TestIDGivenAgain(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	pid, ns := h.service("overlay extexec:1.1:another etc")
	r := &state.Record{PID: pid, StartTime: 1, MountNS: ns, Current: state.Generation{Number: 1, Serial: 1, Hierarchies: []state.Hierarchy{{Path: h.path("etc"), Layers: 1}}}}
	h.save(r)
	if s := h.read(); s.State != status.Dead || s.PID != 0 || len(s.PIDs) != 0 || s.Hierarchies[0].State != status.NotKnown {
		t.Errorf("%+v", s)
	}
	// Nor is a later process with the number of the recorded one, in its namespace.
	pid, ns = h.service("overlay extexec:1.1:web etc")
	r.PID, r.MountNS = pid, ns
	h.save(r)
	if s := h.read(); s.State != status.Live || s.PID != 0 || !cmp.Equal(s.PIDs, []int{pid}) {
		t.Errorf("%+v", s)
	}
}

func TestPending(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	h.save(&state.Record{Current: state.Generation{Number: 1}})
	l, err := h.unit.Lock(t.Context(), 0)
	must(t, err)
	must(t, l.Begin(&state.Record{Current: state.Generation{Number: 2}}))
	if s := h.read(); s.Pending.Number != 2 || s.Reloading != os.Getpid() || s.Interrupted {
		t.Errorf("while it is at work: %+v", s)
	}
	must(t, l.Close())
	if s := h.read(); s.Pending.Number != 2 || s.Reloading != 0 || !s.Interrupted || len(s.Notes) != 1 {
		t.Errorf("after it was cut off: %+v", s)
	}
}

// What a reload would find on disk.
func TestOnDisk(t *testing.T) {
	h := newHouse(t)
	version := func(name, content string) string {
		t.Helper()
		p := h.path("srv/" + name)
		must(t, os.MkdirAll(p, 0o755))
		must(t, os.WriteFile(filepath.Join(p, "file"), []byte(content), 0o600))
		return p
	}
	same, changed := version("same.v/same_1", "x"), version("changed", "x")
	version("replaced.v/replaced_1", "x")
	gone, fresh := version("gone", "x"), h.path("srv/fresh")
	r := &state.Record{Current: state.Generation{Number: 1}}
	ref := func(text string, record bool) {
		t.Helper()
		r.Refs = append(r.Refs, state.Ref{Kind: "directory", Text: text})
		if !record {
			return
		}
		parsed, err := settings.ParseRef(settings.Directory, text)
		must(t, err)
		p, err := extension.Pick(parsed, extension.PickOptions{})
		must(t, err)
		r.Current.Extensions = append(r.Current.Extensions, state.Extension{Ref: text, Kind: "directory", Name: p.Name, Version: p.Version, Path: p.Path, Identity: p.Identity})
	}
	ref(h.path("srv/same.v"), true)
	ref(changed, true)
	ref(h.path("srv/replaced.v"), true)
	ref(gone, true)
	ref("-"+fresh, false)
	ref("-"+h.path("srv/nothing"), false)
	r.Refs = append(r.Refs, state.Ref{Kind: "nonsense", Text: "/x"})
	r.Current.Extensions = append(r.Current.Extensions, state.Extension{Ref: "/old", Kind: "directory"})
	h.save(r)

	version("changed", "another text")
	newer := version("replaced.v/replaced_2", "y")
	must(t, os.RemoveAll(gone))
	version("fresh", "z")

	type row struct {
		Disk  status.DiskState
		Found string
	}
	var got []row
	for _, e := range h.read().Extensions {
		found := ""
		if e.Found != nil {
			found = e.Found.Path
		}
		got = append(got, row{e.Disk, found})
		if (e.Why == "") != (e.Found != nil || e.Disk == status.NotWanted) {
			t.Errorf("%s: why %q", e.Ref, e.Why)
		}
	}
	want := []row{
		{status.Same, same}, {status.Changed, changed}, {status.Replaced, newer}, {status.Gone, ""},
		{status.New, fresh}, {status.NotWanted, ""}, {status.CannotBeHad, ""}, {status.Gone, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// What was refused is not what a reload would pick.
	l, err := h.unit.Lock(t.Context(), 0)
	must(t, err)
	identity := h.read().Extensions[2].Found.Identity
	if w := l.Remember(func(m *state.Memory) { m.Refuse(state.Refused{Identity: identity, Why: "exit 1"}) }); w != nil {
		t.Fatal(w)
	}
	must(t, l.Close())
	if s := h.read(); s.Extensions[2].Disk != status.Same || len(s.Refused) != 1 {
		t.Errorf("after it was refused: %+v", s.Extensions[2])
	}
}

// What a rollback left is passed over, and why; and what was tried last shows.
func TestHeld(t *testing.T) {
	h := newHouse(t)
	for _, v := range []string{"1", "2", "3"} {
		must(t, os.MkdirAll(h.path("srv/web.v/web_"+v+"/etc/"+v), 0o755))
	}
	must(t, os.MkdirAll(h.path("srv/other/etc"), 0o755))
	pick := func(o extension.PickOptions) *extension.Picked {
		t.Helper()
		p, err := extension.Pick(settings.Ref{Kind: settings.Directory, Path: h.path("srv/web.v")}, o)
		must(t, err)
		return p
	}
	left := pick(extension.PickOptions{})
	h.save(&state.Record{Refs: []state.Ref{{Kind: "directory", Text: h.path("srv/web.v")}, {Kind: "directory", Text: h.path("srv/other")}}, Current: state.Generation{Number: 3}})
	other, err := extension.Pick(settings.Ref{Kind: settings.Directory, Path: h.path("srv/other")}, extension.PickOptions{})
	must(t, err)
	l, err := h.unit.Lock(t.Context(), 0)
	must(t, err)
	w := l.Remember(func(m *state.Memory) {
		m.Hold(state.Hold{Ref: h.path("srv/web.v"), Version: "3", Above: "1", Identity: left.Identity, Why: "is held"})
		m.Hold(state.Hold{Ref: h.path("srv/other"), Identity: other.Identity, Without: true, Why: "is held, too"})
	})
	if w != nil {
		t.Fatal(w)
	}
	if w := l.AddHistory(state.Generation{Number: 4, Outcome: state.OutcomeRefused, Why: "exit 1"}, 10); w != nil {
		t.Fatal(w)
	}
	must(t, l.Close())
	s := h.read()
	e := s.Extensions[0]
	want := []status.PassedOver{{Path: left.Path, Version: "3", Why: "is held"}, {Path: h.path("srv/web.v/web_2"), Version: "2", Why: "is held"}}
	if diff := cmp.Diff(want, e.PassedOver); diff != "" || e.Found == nil || e.Found.Version != "1" {
		t.Errorf("found %+v (-want +got):\n%s", e.Found, diff)
	}
	if e := s.Extensions[1]; e.Disk != status.Held || e.Why != "is held, too" || e.Found != nil {
		t.Errorf("left for nothing: %+v", e)
	}
	if s.LastAttempt == nil || s.LastAttempt.Number != 4 || s.LastAttempt.Why != "exit 1" || len(s.Holds) != 2 {
		t.Errorf("%+v", s)
	}
}

// What has no tries left is passed over although it is newer; what runs on its last
// one is not.
func TestTries(t *testing.T) {
	h := newHouse(t)
	for _, v := range []string{"web.v/web_0+0-1", "web.v/web_1", "web.v/web_2+0-2", "live.v/live_1", "live.v/live_2+0-1"} {
		must(t, os.MkdirAll(h.path("srv/"+v+"/etc"), 0o755))
	}
	h.save(&state.Record{
		Refs: []state.Ref{{Kind: "directory", Text: h.path("srv/web.v")}, {Kind: "directory", Text: h.path("srv/live.v")}},
		Current: state.Generation{Number: 1, Extensions: []state.Extension{
			{Ref: h.path("srv/live.v"), Kind: "directory", Version: "2", Path: h.path("srv/live.v/live_2+1")},
		}},
	})
	s := h.read()
	web, live := s.Extensions[0], s.Extensions[1]
	want := []status.PassedOver{{Path: h.path("srv/web.v/web_2+0-2"), Version: "2", Why: "has no tries left"}}
	if diff := cmp.Diff(want, web.PassedOver); diff != "" || web.Found == nil || web.Found.Version != "1" {
		t.Errorf("found %+v (-want +got):\n%s", web.Found, diff)
	}
	if live.Found == nil || live.Found.Version != "2" || len(live.PassedOver) != 0 {
		t.Errorf("of what runs: %+v", live)
	}
}

// Processes in other mount namespaces are counted where they see overlays of the
// name, and stale where these are older.
func TestElsewhere(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	pid, ns := h.service(`
		mkfifo stop; overlay extexec:3.6:web etc
		unshare -m --propagation private sh -c 'echo $$ >old; read x <stop' &
		until test -s old; do sleep 0.01; done
		umount etc; overlay extexec:3.7:web etc
		unshare -m --propagation private sh -c 'echo $$ >new; read x <stop' &
		unshare -m --propagation private sh -c 'umount etc; echo $$ >none; read x <stop' &
		until test -s new && test -s none; do sleep 0.01; done`)
	h.Cleanup(func() { // before the service ends
		f, err := os.OpenFile(h.path("stop"), os.O_RDWR, 0)
		must(t, err)
		must(t, f.Close())
	})
	h.service("overlay extexec:3.1:web etc") // a stranger that has the same name
	h.save(&state.Record{PID: pid, StartTime: h.startTime(pid), MountNS: ns, Current: state.Generation{Number: 3, Serial: 7, Hierarchies: []state.Hierarchy{{Path: h.path("etc"), Layers: 1}}}})
	read := func(name string) int {
		b, err := os.ReadFile(h.path(name))
		must(t, err)
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		must(t, err)
		return n
	}
	s := h.read()
	got := map[int]bool{}
	for _, n := range s.Namespaces {
		if len(n.PIDs) != 1 || len(n.Hierarchies) != 1 {
			t.Fatalf("namespaces %+v", s.Namespaces)
		}
		got[n.PIDs[0]] = n.Stale
	}
	want := map[int]bool{read("old"): true, read("new"): false}
	if diff := cmp.Diff(want, got); diff != "" || s.Stale != 1 {
		t.Errorf("stale %d, by process (-want +got):\n%s", s.Stale, diff)
	}
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "see an older generation (1)") || !strings.Contains(s.Notes[0], "extexec repair --state-dir ") {
		t.Errorf("notes %q", s.Notes)
	}
}

// A sandbox that has bound a part of a hierarchy keeps the old part, and is named.
func TestOldMounts(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	pid, ns := h.service(`
		mkfifo stop; mkdir a/part; overlay extexec:3.6:web etc
		unshare -m --propagation private sh -c 'mount --bind etc/part srv; umount etc; echo $$ >old; read x <stop' &
		until test -s old; do sleep 0.01; done
		umount etc; overlay extexec:3.7:web etc`)
	h.Cleanup(func() { // before the service ends
		f, err := os.OpenFile(h.path("stop"), os.O_RDWR, 0)
		must(t, err)
		must(t, f.Close())
	})
	h.save(&state.Record{PID: pid, StartTime: h.startTime(pid), MountNS: ns, Current: state.Generation{Number: 3, Serial: 7, Hierarchies: []state.Hierarchy{{Path: h.path("etc"), Layers: 1}}}})
	s := h.read()
	if len(s.Namespaces) != 1 || !cmp.Equal(s.Namespaces[0].OldMounts, []string{h.path("srv")}) || s.Stale != 1 {
		t.Errorf("stale %d, %+v", s.Stale, s.Namespaces)
	}
}

// A program that runs from a tree that was exchanged is told from one that does not.
func TestOldMaps(t *testing.T) {
	needRoot(t)
	h := newHouse(t)
	pid, ns := h.service(`
		cp "$(command -v sleep)" a/; mkfifo go
		overlay extexec:3.6:web usr
		usr/sleep infinity & P=$!; echo $P >old
		until test "$(readlink /proc/$!/exe)" = "$TOP/usr/sleep"; do :; done
		umount -l usr; overlay extexec:3.7:web usr
		usr/sleep infinity & Q=$!
		until test "$(readlink /proc/$!/exe)" = "$TOP/usr/sleep"; do :; done
		{ read x <go || kill $P $Q; } & true`)
	h.Cleanup(func() {
		f, err := os.OpenFile(h.path("go"), os.O_RDWR, 0)
		must(t, err)
		must(t, f.Close())
	})
	h.save(&state.Record{PID: pid, StartTime: h.startTime(pid), MountNS: ns, Current: state.Generation{Number: 3, Serial: 7, Hierarchies: []state.Hierarchy{{Path: h.path("usr"), Layers: 1}}}})
	old, err := os.ReadFile(h.path("old"))
	must(t, err)
	want, err := strconv.Atoi(strings.TrimSpace(string(old)))
	must(t, err)
	if s := h.read(); !cmp.Equal(s.OldMaps, []int{want}) {
		t.Errorf("old maps of %d, want %d", s.OldMaps, want)
	}
}
