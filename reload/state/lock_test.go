package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }

func TestLockedNamesTheHolder(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	l := lock(t, u)
	_, err := u.Lock(t.Context(), 30*time.Millisecond)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Name != "web" || locked.PID != os.Getpid() || locked.Waited < 30*time.Millisecond {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("process %d holds it", os.Getpid())) {
		t.Errorf("error %q", err)
	}
	if pid, held := u.Holder(); pid != os.Getpid() || !held {
		t.Errorf("holder %d %v", pid, held)
	}
	must(t, l.Save(record(1)))
	unlock(t, l)
	l = lock(t, u)
	unlock(t, l)
	if pid, held := u.Holder(); pid != 0 || held {
		t.Errorf("holder of a free lock %d %v", pid, held)
	}
	if b, err := os.ReadFile(filepath.Join(u.record, lockFile)); err != nil || len(b) > 0 {
		t.Errorf("the free lock is signed: %q, %v", b, err)
	}
}

// A waiter gets the lock when the holder, another process, is killed.
func TestHolderKilled(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	unlock(t, lock(t, u))
	holder := exec.Command(os.Args[0], "-test.run=^TestHelperHold$")
	holder.Env = append(os.Environ(), "STATE_HOLD="+filepath.Dir(filepath.Dir(u.record)))
	out, err := holder.StdoutPipe()
	must(t, err)
	in, err := holder.StdinPipe() // the holder waits for its end
	must(t, err)
	defer in.Close()
	must(t, holder.Start())
	s := bufio.NewScanner(out)
	for s.Scan() && s.Text() != "held" {
	}
	var locked *LockedError
	if _, err := u.Lock(t.Context(), 0); !errors.As(err, &locked) || locked.PID != holder.Process.Pid {
		t.Errorf("error %v, want pid %d", err, holder.Process.Pid)
	}
	got := make(chan error)
	go func() {
		l, err := u.Lock(t.Context(), time.Minute)
		if err == nil {
			err = l.Close()
		}
		got <- err
	}()
	must(t, holder.Process.Kill())
	_ = holder.Wait()
	must(t, <-got)
}

func TestHelperHold(t *testing.T) {
	dir := os.Getenv("STATE_HOLD")
	if dir == "" {
		return
	}
	defer unlock(t, lock(t, unit(t, In(dir), "web"))) // or the garbage collector gives it back
	fmt.Println("held")
	// Not on a channel: the runtime ends a program that waits for nothing but itself.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Error(err)
	}
}

func TestLockCancelled(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	defer unlock(t, lock(t, u))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("told to stop")
	cancel(cause)
	if _, err := u.Lock(ctx, time.Minute); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
}

// The lock of a directory that was removed is the lock of nothing.
func TestDirectoryRemovedWhileLocked(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	old := lock(t, u)
	must(t, os.RemoveAll(u.record))
	l := lock(t, u)
	must(t, l.Save(record(1)))
	old.close()
	if _, err := u.Lock(t.Context(), 0); err == nil {
		t.Error("the new lock went with the old one")
	}
	unlock(t, l)
}

// Who may read what does not depend on the umask: run has the one of its unit.
func TestModes(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		old := unix.Umask(mask)
		d := In(filepath.Join(t.TempDir(), "new"))
		u := unit(t, d, "web")
		l, err := u.Lock(t.Context(), 0)
		if err == nil {
			err = l.Save(record(1))
		}
		var w *Warning
		if err == nil {
			w = l.AddHistory(generation(1), 3)
		}
		unix.Umask(old)
		must(t, err)
		noWarning(t, w)
		unlock(t, l)
		for path, want := range map[string]fs.FileMode{
			d.Record: 0o755, u.record: 0o755, filepath.Join(u.record, recordFile): 0o644,
			d.Memory: 0o700, u.memory: 0o700, filepath.Join(u.memory, historyFile): 0o600,
		} {
			info, err := os.Stat(path)
			must(t, err)
			if info.Mode().Perm() != want {
				t.Errorf("umask %o: %s is %v, want %v", mask, path, info.Mode().Perm(), want)
			}
		}
		info, err := os.Stat(filepath.Join(u.record, lockFile))
		must(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others can open the lock: %v", info.Mode())
		}
	}
}

// Nothing above the two levels that are ours is made: an initrd has no /var, and
// gets none.
// TestNoDirectory: where something else stands in the place of the record's directory,
// the error says what to do.
func TestNoDirectory(t *testing.T) {
	top := t.TempDir()
	must(t, os.Symlink("loop", filepath.Join(top, "loop")))
	must(t, os.WriteFile(filepath.Join(top, "file"), nil, 0o600))
	for _, name := range []string{"loop", "file"} {
		l, err := unit(t, In(filepath.Join(top, name)), "web").Lock(t.Context(), 0)
		if l != nil || err == nil || !strings.Contains(err.Error(), filepath.Join(top, name)) || !strings.Contains(err.Error(), "name another place with --state-dir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingParent(t *testing.T) {
	top := t.TempDir()
	d := Dirs{Record: filepath.Join(top, "extexec/units"), Memory: filepath.Join(top, "var/lib/extexec/units")}
	u := unit(t, d, "web")
	l := lock(t, u)
	defer unlock(t, l)
	must(t, l.Begin(record(1)))
	must(t, l.Commit())
	for _, w := range []*Warning{
		l.AddHistory(generation(1), 3),
		l.Remember(func(m *Memory) { m.Refuse(Refused{Identity: "x"}) }),
	} {
		if w == nil || !errors.Is(w, fs.ErrNotExist) || !strings.Contains(w.Error(), u.memory) {
			t.Errorf("warning %v", w)
		}
	}
	if m, err := l.Memory(); err != nil || len(m.Refused) > 0 {
		t.Errorf("memory %+v, %v", m, err)
	}
	if h, err := u.History(); err != nil || len(h) > 0 {
		t.Errorf("history %+v, %v", h, err)
	}
	if n, err := l.NextNumber(record(6)); err != nil || n != 7 {
		t.Errorf("next %d, %v", n, err)
	}
	if _, err := os.Lstat(filepath.Join(top, "var")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("var: %v", err)
	}
}

// inNamespace runs the named test again in a mount namespace where script was run
// before. The script gets a directory as $1.
func inNamespace(t *testing.T, test, script string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	c := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-ec", script+"\nexec \"$2\" -test.v -test.run=\"$3\"",
		"sh", t.TempDir(), os.Args[0], "^"+test+"$")
	c.Env = append(os.Environ(), "STATE_TEST_DIR="+c.Args[len(c.Args)-3])
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFullDisk(t *testing.T) {
	top := os.Getenv("STATE_TEST_DIR")
	if top == "" {
		inNamespace(t, t.Name(), `mount -t tmpfs -o size=64k,nr_inodes=64 none "$1"`)
		return
	}
	u := unit(t, In(top), "web")
	l := lock(t, u)
	defer unlock(t, l)
	must(t, l.Save(record(1)))
	noWarning(t, l.AddHistory(generation(1), 5))

	big := record(2)
	big.Flags["fill"] = []string{strings.Repeat("x", 128<<10)}
	if err := l.Save(big); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), recordFile) {
		t.Errorf("save: %v", err)
	}
	if err := l.Begin(big); !errors.Is(err, unix.ENOSPC) || !strings.HasSuffix(err.Error(), ": make room there") {
		t.Errorf("begin: %v", err)
	}
	g := generation(2)
	g.Outcome = strings.Repeat("x", 128<<10)
	if w := l.AddHistory(g, 5); !errors.Is(w, unix.ENOSPC) {
		t.Errorf("history: %v", w)
	}
	r, err := u.Load()
	if err != nil || r.Current.Number != 1 || r.Pending != nil {
		t.Errorf("record %+v, %v", r, err)
	}
	// What did not fit was removed again: there is room for what fits.
	must(t, l.Begin(record(2)))
	must(t, os.WriteFile(filepath.Join(top, "fill"), nil, 0o600))
	fill, err := os.OpenFile(filepath.Join(top, "fill"), os.O_WRONLY, 0)
	must(t, err)
	defer fill.Close()
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	if err := l.Begin(record(3)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("begin on a full disk: %v", err)
	}
	must(t, l.Commit()) // needs no space
	if r, err = u.Load(); err != nil || r.Current.Number != 2 {
		t.Errorf("record %+v, %v", r, err)
	}
}

func TestReadOnlyMemory(t *testing.T) {
	top := os.Getenv("STATE_TEST_DIR")
	if top == "" {
		inNamespace(t, t.Name(), `mkdir "$1/memory"; mount -t tmpfs -o ro none "$1/memory"`)
		return
	}
	u := unit(t, In(top), "web")
	l := lock(t, u)
	defer unlock(t, l)
	must(t, l.Save(record(1)))
	if w := l.AddHistory(generation(1), 5); !errors.Is(w, unix.EROFS) {
		t.Errorf("warning %v", w)
	}
}

// TestLeavesNothing: a name that was locked and got no record leaves no directory;
// what was remembered of it stays.
func TestLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*Lock)
		want string
	}{
		"nothing done": {func(*Lock) {}, ""},
		"remembered":   {func(l *Lock) { l.AddHistory(Generation{Number: 1, Outcome: OutcomeRefused}, 1) }, "memory/x memory/x/history.jsonl"},
		"begun":        {func(l *Lock) { _ = l.Begin(&Record{}) }, "memory/x record/x record/x/lock record/x/state.json.next"},
		"saved":        {func(l *Lock) { _ = l.Save(&Record{}) }, "memory/x record/x record/x/lock record/x/state.json"},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			u, err := In(top).Unit("x")
			if err != nil {
				t.Fatal(err)
			}
			l, err := u.Lock(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			c.do(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, pattern := range []string{"*/*", "*/*/*"} {
				paths, err := filepath.Glob(top + "/" + pattern)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, paths...)
			}
			slices.Sort(got)
			if text := strings.ReplaceAll(strings.Join(got, " "), top+"/", ""); text != c.want {
				t.Errorf("left behind is %q, want %q", text, c.want)
			}
		})
	}
}

// TestLockComesAndGoes: who waits while the last holder takes the directory away
// gets a lock of its own, and never one beside another.
func TestLockComesAndGoes(t *testing.T) {
	u, err := In(t.TempDir()).Unit("x")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var holders atomic.Int32
	for range 4 {
		all.Go(func() {
			for range 25 {
				l, err := u.Lock(t.Context(), time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				if w := l.AddHistory(Generation{Number: 1}, 1); w != nil {
					t.Error(w)
				}
				_ = os.Remove(u.MemoryDir() + "/history.jsonl")
				holders.Add(-1)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
