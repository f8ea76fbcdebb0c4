package reload

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/state"
)

// TestEndAtEveryStep ends a reload at each point, by a signal or because its time has
// run out. What was done is undone, and the service is told again where it had been
// told of the new version.
func TestEndAtEveryStep(t *testing.T) {
	b := newBed(t)
	applied := b.dir + "/applied"
	b.write("ReloadCommand=/bin/sh -c 'cat /etc/extexec-test >>" + applied + "'")
	b.start()
	b.install("2")
	late := []string{"after exchange", "before apply", "after apply", "before verify", "after verify"}
	signal, timeout := errors.New("the signal"), errors.New("the time")
	for _, point := range points(t) {
		if strings.Contains(point, "commit") {
			continue // that is one rename: it is done
		}
		for _, cause := range []error{signal, timeout} {
			ctx := newEnding(t.Context())
			hook := func() { ctx.end(context.Canceled, cause) }
			if errors.Is(cause, timeout) {
				hook = func() { ctx.end(context.DeadlineExceeded, cause) }
			}
			_, err := Reload(ctx, Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Hook: func(p string) error {
				if p == point {
					hook()
				}
				return nil
			}})
			ctx.end(context.Canceled, nil)
			want, told := Unchanged, ""
			if slices.Contains(late, point) {
				want = TakenBack
			}
			switch slices.Index(late, point) {
			case -1, 0:
			case 1:
				told = "1" // apply had begun, and came to nothing
			default:
				told = "21"
			}
			var f *Failure
			if !errors.As(err, &f) || f.Left != want || !errors.Is(err, cause) {
				t.Errorf("%s: error %v, want %q in it, and what is left %v", point, err, cause, want)
			}
			text, err := os.ReadFile(applied)
			if err != nil && !errors.Is(err, fs.ErrNotExist) || string(text) != told {
				t.Errorf("%s, %v: the service was told %q, %v, want %q", point, cause, text, err, told)
			}
			_ = os.Remove(applied)
			b.want("1")
			b.whole()
		}
	}
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.want("2")
	b.whole()
}

// An ending is a context that ends when it is told to, as a deadline would end it, too. What
// is derived from it has ended when end returns.
type ending struct {
	context.Context // for the cause
	cancel          context.CancelCauseFunc
	done            chan struct{}

	mu    sync.Mutex
	err   error
	after []func()
}

func newEnding(parent context.Context) *ending {
	e := &ending{done: make(chan struct{})}
	e.Context, e.cancel = context.WithCancelCause(parent)
	return e
}

func (e *ending) Done() <-chan struct{} { return e.done }

func (e *ending) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// AfterFunc is how package context hears of the end of a context that is not its own.
func (e *ending) AfterFunc(f func()) (stop func() bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.after = append(e.after, f)
	return func() bool { return false }
}

func (e *ending) end(err, cause error) {
	e.mu.Lock()
	if e.err != nil {
		e.mu.Unlock()
		return
	}
	e.err = err
	after := e.after
	e.mu.Unlock()
	e.cancel(cause)
	close(e.done)
	for _, f := range after {
		f()
	}
}

// TestStartAtEveryStep fails a start at each point, and ends it by SIGKILL or, after a
// step, by SIGTERM: no record of a start that failed, no lock and no mount is left, and the next
// one goes through.
func TestStartAtEveryStep(t *testing.T) {
	b := newBed(t)
	o := b.options()
	list := b.dir + "/points"
	first := nsmounttest.StartCommand(t, child{Run: &o, Points: list}.command(t))
	first.Stop()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Fields(strings.ReplaceAll(string(text), " ", "_"))
	if len(all) < 12 || !slices.Contains(all, "after_record") {
		t.Fatalf("the steps of a start: %q", all)
	}
	mounts := nsmounttest.Mounts()
	for _, point := range all {
		point = strings.ReplaceAll(point, "_", " ")
		end := syscall.SIGKILL
		if strings.HasPrefix(point, "after") {
			end = syscall.SIGTERM
		}
		for _, strike := range []syscall.Signal{0, end} {
			b.dirs = state.In(b.dir + "/state-" + point + strike.String())
			o := b.options()
			cmd := child{Run: &o, Point: point, Strike: strike}.command(t)
			cmd.Stderr = nil
			out, _ := cmd.CombinedOutput()
			ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
			u := b.stateOf()
			_, err := u.Load()
			switch {
			case strike != 0 && (!ws.Signaled() || ws.Signal() != strike):
				t.Fatalf("%s: it was not ended by %v: %s", point, strike, out)
			case strike == 0 && (ws.ExitStatus() != 1 || !strings.Contains(string(out), "injected")):
				t.Errorf("%s: exit status %d: %s", point, ws.ExitStatus(), out)
			case strike == 0 && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("%s: there is a record: %v", point, err)
			}
			if pid, held := u.Holder(); held {
				t.Errorf("%s, %v: process %d holds the lock", point, strike, pid)
			}
			if now := nsmounttest.Mounts(); !slices.Equal(now, mounts) {
				t.Errorf("%s, %v: the mount table has changed", point, strike)
			}
			b.start()
			b.want("1")
			b.svc.Stop()
		}
	}
}
