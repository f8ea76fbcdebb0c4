package reload

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// TestEndedWhileExchanging ends reloads at moments about their exchange: whatever
// has gone through by then, the old state is there afterwards, and the error says
// rightly whether it had been left.
func TestEndedWhileExchanging(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	for range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{}) // contexts made of ctx have ended too
		_, err := Reload(ctx, Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Hook: func(p string) error {
			switch p {
			case "before exchange":
				time.AfterFunc(time.Duration(rand.Int64N(int64(time.Millisecond))), func() { cancel(); close(ended) })
			case "after exchange":
				<-ended
			}
			return nil
		}})
		cancel()
		var f *Failure
		if !errors.As(err, &f) || f.Left == Broken || !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want a *Failure of a context that was cancelled", err)
		}
		b.want("1")
		b.whole()
	}
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.want("2")
	b.whole()
}

// TestEndedWhileChecking says what ended a reload, not only that something did; the
// version was not refused by that.
func TestEndedWhileChecking(t *testing.T) {
	b := newBed(t)
	b.write()
	b.start()
	b.install("2")
	fifo := b.dir + "/checking"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	b.write("ReloadCheck=/bin/sh -c 'echo now >" + fifo + "; exec sleep 60'")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("the signal")
	go func() {
		_, _ = os.ReadFile(fifo) // the check has begun
		cancel(ended)
	}()
	_, err := Reload(ctx, Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe()})
	var failed *CommandError
	if !errors.Is(err, ended) || errors.As(err, &failed) {
		t.Errorf("error %v, want %q in it, and no verdict on the check", err, ended)
	}
	b.want("1")
	b.write()
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.want("2")
}

// TestCheckThatIsKilled: a check that was ended from outside fails a reload, and is no
// verdict on the version; one that crashes over it is.
func TestCheckThatIsKilled(t *testing.T) {
	// Under nohup(1) the check would have SIGHUP ignored; what is handled is the default of who is executed.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, unix.SIGHUP)
	t.Cleanup(func() { signal.Stop(handled) })
	for name, refused := range map[string]bool{"TERM": false, "INT": false, "HUP": false, "KILL": false, "SEGV": true, "ABRT": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.write()
			b.start()
			b.install("2")
			b.write("ReloadCheck=/bin/sh -c 'kill -" + name + " $$$$'")
			_, err := b.reload(Options{})
			var failed *CommandError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v, want that of the check", err)
			}
			b.want("1")
			b.write()
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			if refused {
				b.want("1")
			} else {
				b.want("2")
			}
		})
	}
}

// TestToldToEndEarly says what ended a reload also where that was before its settings
// were read.
func TestToldToEndEarly(t *testing.T) {
	b := newBed(t)
	b.start()
	ended := errors.New("the signal")
	for _, point := range []string{"before identify", "before lock", "before read", "before find"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := Reload(ctx, Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Hook: func(p string) error {
			if p == point {
				cancel(ended)
			}
			return nil
		}})
		if !errors.Is(err, ended) {
			t.Errorf("%s: error %v, want %q in it", point, err, ended)
		}
	}
}
