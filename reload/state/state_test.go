package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func unit(t testing.TB, d Dirs, name string) *Unit {
	t.Helper()
	u, err := d.Unit(name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// dirs makes the directories that a lock makes, and takes away where they stay empty.
func dirs(t testing.TB, u *Unit) {
	t.Helper()
	for _, path := range []string{u.record, u.memory} {
		must(t, os.MkdirAll(path, 0o700))
	}
}

func lock(t testing.TB, u *Unit) *Lock {
	t.Helper()
	l, err := u.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func unlock(t testing.TB, l *Lock) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noWarning(t testing.TB, w *Warning) {
	t.Helper()
	if w != nil {
		t.Fatal(w)
	}
}

func generation(n uint64) Generation {
	return Generation{
		Number: n, Serial: 10 * n, Time: time.Unix(int64(1000+n), 5).UTC(), Outcome: "committed", Trigger: "reload", Good: true,
		Extensions: []Extension{{
			Ref: "-/srv/conf/web.v", Kind: "directory", Name: "web", Version: fmt.Sprint(n), Path: fmt.Sprintf("/srv/conf/web.v/web_%d", n),
			Class: []string{"confext"}, Identity: fmt.Sprintf("dir:%032x", n), Hierarchies: []string{"/etc"},
		}},
		Hierarchies: []Hierarchy{{Path: "/etc", Layers: 1, Covered: 2, Carried: []Carried{{Path: "/etc/secret", Origin: "unit"}}}},
	}
}

func record(n uint64) *Record {
	return &Record{
		Unit: "web.service", MountNS: 1<<63 + 7, PID: 4711, StartTime: 99,
		Refs:    []Ref{{Kind: "directory", Text: "-/srv/conf/web.v", Origin: "flag"}},
		Flags:   map[string][]string{"hierarchy": {"/etc", "/usr"}},
		Current: generation(n),
	}
}

func TestSaveAndLoad(t *testing.T) {
	d := In(t.TempDir())
	u := unit(t, d, "web@2.service")
	if _, err := u.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a record: %v", err)
	}
	l := lock(t, u)
	defer unlock(t, l)
	if _, err := l.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a record, locked: %v", err)
	}
	want := record(3)
	must(t, l.Save(want))
	for name, load := range map[string]func() (*Record, error){"unit": u.Load, "lock": l.Load} {
		got, err := load()
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got.Schema != Schema || got.Name != "web@2.service" {
			t.Errorf("schema %d, name %q", got.Schema, got.Name)
		}
	}
}

func TestBeginCommitAbort(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	l := lock(t, u)
	defer unlock(t, l)

	if err := l.Commit(); err == nil || !strings.Contains(err.Error(), "no generation was begun") {
		t.Errorf("commit of nothing: %v", err)
	}
	must(t, l.Abort())
	check := func(when string, current, pending uint64) {
		t.Helper()
		r, err := u.Load()
		must(t, err)
		got := uint64(0)
		if r.Pending != nil {
			got = r.Pending.Number
		}
		if r.Current.Number != current || got != pending {
			t.Errorf("%s: current %d, pending %d; want %d, %d", when, r.Current.Number, got, current, pending)
		}
		if r.PID != 4711 {
			t.Errorf("%s: pid %d", when, r.PID)
		}
	}
	must(t, l.Begin(record(1)))
	check("first one begun", 0, 1)
	must(t, l.Commit())
	check("first one committed", 1, 0)
	must(t, l.Begin(record(2)))
	check("begun", 1, 2)
	must(t, l.Begin(record(3)))
	check("begun again", 1, 3)
	must(t, l.Abort())
	check("aborted", 1, 0)
	must(t, l.Begin(record(4)))
	must(t, l.Save(record(1)))
	check("saved while pending", 1, 4)
	must(t, l.Commit())
	check("committed", 4, 0)
}

// crash is what a test panics with in place of a kill.
type crash struct{}

// killAt runs f and stops it before the nth file operation; it says whether f got
// that far.
func killAt(u *Unit, n int, f func() error) (killed bool, operation string, err error) {
	defer func() {
		u.reach = nil
		switch p := recover(); p.(type) {
		case nil:
		case crash:
			killed = true
		default:
			panic(p)
		}
	}()
	count := 0
	u.reach = func(op string) {
		if count == n {
			operation = op
			panic(crash{})
		}
		count++
	}
	return false, "", f()
}

// A kill before every file operation of a commit: what is read afterwards is the
// old state or the new, whole, and the next transaction goes through.
func TestKilledAnywhere(t *testing.T) {
	for n := 0; ; n++ {
		dirs := In(t.TempDir())
		u := unit(t, dirs, "web")
		l := lock(t, u)
		must(t, l.Save(record(1)))
		noWarning(t, l.AddHistory(generation(1), 10))
		unlock(t, l)

		killed, op, err := killAt(u, n, func() error {
			l, err := u.Lock(t.Context(), 0)
			if err != nil {
				return err
			}
			defer l.close() // as the kernel does
			if err := l.Begin(record(2)); err != nil {
				return err
			}
			if err := l.Commit(); err != nil {
				return err
			}
			if w := l.AddHistory(generation(2), 10); w != nil {
				return w
			}
			if w := l.Remember(func(m *Memory) { m.Refuse(Refused{Identity: "dir:x"}) }); w != nil {
				return w
			}
			return nil
		})
		must(t, err)
		if !killed {
			if n < 15 {
				t.Fatalf("only %d operations seen", n)
			}
			return
		}
		r, err := u.Load()
		if err != nil {
			t.Fatalf("killed before %q: %v", op, err)
		}
		number := r.Current.Number
		want := record(number)
		want.Schema, want.Name, want.Pending = Schema, "web", r.Pending
		if diff := cmp.Diff(want, r); diff != "" || number < 1 || number > 2 {
			t.Errorf("killed before %q (-want +got):\n%s", op, diff)
		}
		if r.Pending != nil && (r.Pending.Number != 2 || number != 1) {
			t.Errorf("killed before %q: pending %d, current %d", op, r.Pending.Number, number)
		}
		if _, err := u.Memory(); err != nil {
			t.Errorf("killed before %q: %v", op, err)
		}
		l = lock(t, u)
		next, err := l.NextNumber(r)
		must(t, err)
		must(t, l.Begin(record(next)))
		must(t, l.Commit())
		noWarning(t, l.AddHistory(generation(next), 10))
		unlock(t, l)
		h, err := u.History()
		must(t, err)
		if h[len(h)-1].Number != next || h[0].Number != 1 {
			t.Errorf("killed before %q: history %v", op, h)
		}
		if r, err = u.Load(); err != nil || r.Current.Number != next || r.Pending != nil {
			t.Errorf("killed before %q, then committed: %+v, %v", op, r, err)
		}
	}
}

func TestNextNumber(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	l := lock(t, u)
	defer unlock(t, l)
	pending := generation(9)
	for _, c := range []struct {
		history uint64
		record  *Record
		want    uint64
	}{
		{0, nil, 1},
		{0, &Record{Current: generation(4)}, 5},
		{0, &Record{Current: generation(4), Pending: &pending}, 10},
		{12, &Record{Current: generation(4)}, 13},
		{13, nil, 14},
		{13, &Record{Current: generation(20)}, 21},
	} {
		if c.history > 0 {
			noWarning(t, l.AddHistory(generation(c.history), 10))
		}
		got, err := l.NextNumber(c.record)
		if err != nil || got != c.want {
			t.Errorf("history %d: got %d, %v, want %d", c.history, got, err, c.want)
		}
	}
	noWarning(t, l.AddHistory(Generation{Outcome: "an undo failed"}, 10))
	if got, err := l.NextNumber(nil); err != nil || got != 14 {
		t.Errorf("after a line without a number: got %d, %v", got, err)
	}
}

// A file of a newer schema is refused by everything that reads and by everything
// that would write, and keeps its bytes.
func TestNewerSchema(t *testing.T) {
	newer := []byte(`{"schema":2,"current":"a string in schema 2","refused":7,"number":"x"}` + "\n")
	for _, file := range []string{recordFile, nextFile, memoryFile, historyFile} {
		u := unit(t, In(t.TempDir()), "web")
		dirs(t, u)
		where := filepath.Join(u.record, file)
		if file == memoryFile || file == historyFile {
			where = filepath.Join(u.memory, file)
		}
		must(t, os.WriteFile(where, newer, 0o600))

		l := lock(t, u)
		results := map[string]error{}
		switch file {
		case memoryFile:
			_, results["read"] = u.Memory()
			_, results["read locked"] = l.Memory()
			results["remember"] = l.Remember(func(m *Memory) { m.Refuse(Refused{Identity: "x"}) })
		case historyFile:
			_, results["read"] = u.History()
			_, results["read locked"] = l.History()
			_, results["next"] = l.NextNumber(nil)
			results["add"] = l.AddHistory(generation(1), 3)
		default:
			_, results["read"] = u.Load()
			results["save"] = l.Save(record(1))
			results["begin"] = l.Begin(record(1))
			_, results["read locked"] = l.Load()
		}
		unlock(t, l)
		for what, err := range results {
			var newer *SchemaError
			if !errors.As(err, &newer) || newer.Schema != 2 || newer.File != where {
				t.Errorf("%s, %s: %v", file, what, err)
			}
		}
		if b, err := os.ReadFile(where); err != nil || string(b) != string(newer) {
			t.Errorf("%s was touched: %q, %v", file, b, err)
		}
	}
}

func TestCorrupt(t *testing.T) {
	for _, c := range []struct{ name, contents string }{
		{"empty", ""},
		{"zeroes", strings.Repeat("\x00", 100)},
		{"cut", `{"schema":1,"name":"web","mount_ns":4026`},
		{"no schema", `{"name":"web"}`},
		{"no object", `[1]`},
		{"wrong type", `{"schema":1,"pid":"x"}`},
		{"trailing", `{"schema":1}{"schema":1}`},
		{"negative", `{"schema":1,"mount_ns":-1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := unit(t, In(t.TempDir()), "web")
			l := lock(t, u)
			defer unlock(t, l)
			file := filepath.Join(u.record, recordFile)
			must(t, os.WriteFile(file, []byte(c.contents), 0o600))
			_, err := u.Load()
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "remove it and restart the service") {
				t.Fatalf("error %v", err)
			}
			must(t, os.Rename(file, filepath.Join(u.record, nextFile)))
			if _, err := u.Load(); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "remove it; the next reload puts") {
				t.Fatalf("of what is pending: %v", err)
			}
			must(t, os.Remove(filepath.Join(u.record, nextFile)))
			// The service may be started again: what is damaged is replaced.
			must(t, l.Save(record(1)))
			if _, err := u.Load(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOddFiles(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"fifo":      mkfifo,
		"symlink":   func(p string) error { return os.Symlink("/etc/hostname", p) },
		"huge": func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, maxFile+1))
		},
	} {
		u := unit(t, In(t.TempDir()), "web")
		dirs(t, u)
		must(t, make(filepath.Join(u.record, recordFile)))
		if _, err := u.Load(); err == nil || !strings.Contains(err.Error(), recordFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "web.service": true, "web@2.service": true, `a\x2db:c_d-e.mount`: true, "-.mount": true,
		strings.Repeat("n", 255): true, strings.Repeat("n", 256): false,
		"": false, ".": false, "..": false, ".hidden": false, "a/b": false, "../x": false, "a b": false, "a\nb": false, "ü": false, "a\x00": false,
	} {
		_, err := DefaultDirs().Unit(name)
		var bad *NameError
		if ok != (err == nil) || !ok && !errors.As(err, &bad) {
			t.Errorf("%.40q: %v", name, err)
		}
	}
	if _, err := In("relative").Unit("web"); err == nil {
		t.Error("a relative directory was taken")
	}
	d := In(t.TempDir())
	if names, err := d.Names(); err != nil || len(names) != 0 {
		t.Errorf("without a directory: %q, %v", names, err)
	}
	for _, name := range []string{"web", "db.service"} {
		dirs(t, unit(t, d, name))
	}
	must(t, os.Mkdir(filepath.Join(d.Record, ".tmp"), 0o700))
	must(t, os.WriteFile(filepath.Join(d.Record, "file"), nil, 0o600))
	names, err := d.Names()
	must(t, err)
	if diff := cmp.Diff([]string{"db.service", "web"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestFindMountNS(t *testing.T) {
	d := In(t.TempDir())
	for i, name := range []string{"a", "b", "c"} {
		l := lock(t, unit(t, d, name))
		r := record(1)
		r.MountNS = uint64(100 + i/2)
		must(t, l.Save(r))
		unlock(t, l)
	}
	dirs(t, unit(t, d, "empty"))
	for ns, want := range map[uint64][]string{100: {"a", "b"}, 101: {"c"}, 7: nil} {
		got, err := d.FindMountNS(ns)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%d: %v %s", ns, err, diff)
		}
	}
	must(t, os.WriteFile(filepath.Join(d.Record, "empty", recordFile), []byte("{"), 0o600))
	if got, err := d.FindMountNS(101); err != nil || len(got) != 1 {
		t.Errorf("beside a damaged one: %q, %v", got, err)
	}
	if _, err := d.FindMountNS(7); err == nil {
		t.Error("nothing found, and the damaged record is not mentioned")
	}
}
