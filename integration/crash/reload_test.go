//go:build amd64

package crash

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/tracer"
)

// scenarios are services whose reloads make different calls.
var scenarios = []struct {
	name   string
	unit   string
	images bool
	carry  bool // a carried mount: the new tree is put together on the bench, and locked
}{
	{name: "plain"},
	{name: "all", images: true, carry: true, unit: `ReloadCheck=/bin/sh -c 'test -e /etc/extexec-a'
ReloadCommand=/bin/sh -c 'test -e /etc/extexec-a'
ReloadVerify=/bin/sh -c 'test -e /etc/extexec-a'
`},
}

// TestReloadIsKilled kills a reload as it makes a system call, one call after the
// other. Each hierarchy shows the old version or the new one at any time, and the next
// reload puts everything in order.
func TestReloadIsKilled(t *testing.T) {
	strikeReload(t, 10, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGKILL}} })
}

// TestReloadIsToldToEnd sends SIGTERM as it makes a system call.
func TestReloadIsToldToEnd(t *testing.T) {
	strikeReload(t, 6, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGTERM}} })
}

// TestReloadFails makes a system call fail with what can come of it. The old version
// is there afterwards, or, with exit code 0, the new one.
func TestReloadFails(t *testing.T) { strikeReload(t, 15, tracer.Call.Failures) }

// sample gives the numbers of the calls to strike: all, or about most of them, evenly
// spread.
func sample(calls, most int) (at []int) {
	if *only > 0 {
		return []int{min(*only, calls)}
	}
	step := 1.0
	if !*all && calls > most {
		step = float64(calls) / float64(most)
	}
	for i := 1.0; int(i) <= calls; i += step {
		at = append(at, int(i))
	}
	return at
}

func strikeReload(t *testing.T, most int, strikes func(tracer.Call) []tracer.Strike) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			b := newBed(t, s.unit, s.images)
			b.start()
			if s.carry {
				b.svc.Mount(b.dir+"/bed.service", "/etc/hostname", "", unix.MS_BIND, "")
			}
			_, wrong := b.strike(tracer.Strike{}) // the first one, and the second, are not like those after them
			b.rest()
			e, more := b.strike(tracer.Strike{})
			if wrong = append(wrong, more...); len(wrong) > 0 {
				t.Fatalf("without a strike:\n%s", strings.Join(wrong, "\n"))
			}
			strikeEach(t, e.Calls, most, strikes, b.strike)
		})
	}
}

// strikeEach strikes the calls of an undisturbed run, or a sample of them, with what may
// come of each. strike runs it once more, struck, and says what is not as it should be.
func strikeEach(t *testing.T, calls []tracer.Call, most int, strikes func(tracer.Call) []tracer.Strike, strike func(tracer.Strike) (*tracer.Ending, []string)) {
	count := map[string]int{}
	for i, at := range sample(len(calls), most) {
		for _, s := range choose(strikes(calls[at-1]), i) {
			s.At = at
			struck, wrong := strike(s)
			count[outcome(struck.State)]++
			if len(wrong) > 0 {
				t.Errorf("call %d of %d, %v, %s:\n\t%s\n%s", at, len(calls), struck.Struck, s, strings.Join(wrong, "\n\t"), struck.Output)
			}
		}
	}
	t.Logf("%d calls; what came of those that were struck: %v", len(calls), count)
}

// choose gives one of the strikes in turn, or all.
func choose(strikes []tracer.Strike, i int) []tracer.Strike {
	if *all || len(strikes) == 0 {
		return strikes
	}
	return strikes[i%len(strikes):][:1]
}

func outcome(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "killed"
	}
	return fmt.Sprint("exit ", ws.ExitStatus())
}

// strike installs a version, strikes the reload to it, and reloads once more. It says
// what is not as it should be.
func (b *bed) strike(s tracer.Strike) (*tracer.Ending, []string) {
	b.t.Helper()
	b.install()
	b.hammer()
	e, err := tracer.Trace(b.reload(), s)
	b.must(err)
	wrong := b.judge(s, e)
	wrong = append(wrong, b.restored()...)
	return e, append(wrong, b.tally(b.version)...)
}

// judge looks at how the reload has ended.
func (b *bed) judge(s tracer.Strike, e *tracer.Ending) (wrong []string) {
	which, err := b.sees(b.version)
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	if b.mounts != nil {
		wrong = append(append(wrong, b.clean()...), e.Left...)
	}
	if e.State.Signaled() {
		return append(wrong, died(e, s)...)
	}
	wrong = append(wrong, b.leftovers()...)
	want := "old"
	switch code := e.State.ExitStatus(); code {
	case 0:
		want = "new"
	case 1, 3, 4:
		wrong = append(wrong, message(e, s)...)
	default:
		wrong = append(wrong, fmt.Sprintf("exit code %d", code))
	}
	if strings.Contains(e.Output, "is passed over: it cannot be") && s.Errno == unix.EIO {
		return wrong // a version that cannot be read is as one that is not there
	}
	if slices.ContainsFunc(which, func(v string) bool { return v != want }) {
		wrong = append(wrong, fmt.Sprintf("exit code %d, and the service sees %v", e.State.ExitStatus(), which))
	}
	return wrong
}

// died looks at what killed a program: nothing but SIGKILL does, once it has looked for
// signals.
func died(e *tracer.Ending, s tracer.Strike) (wrong []string) {
	early := s.Signal == syscall.SIGTERM && s.At <= 3
	if e.State.Signal() != s.Signal || s.Signal != syscall.SIGKILL && !early {
		wrong = append(wrong, "it died of "+e.State.Signal().String())
	}
	return wrong
}

// message looks at what a reload that failed said: one line, with the cause.
func message(e *tracer.Ending, s tracer.Strike) (wrong []string) {
	var said []string
	for line := range strings.Lines(e.Output) {
		if !strings.Contains(line, "warning: ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 {
		wrong = append(wrong, fmt.Sprintf("it said %d lines", len(said)))
	}
	cause := s.Errno.Error()
	switch {
	case e.Child && s.Signal != 0:
		cause = "" // what that looks like depends on what the child was for
	case s.Signal != 0:
		cause = "terminated"
	}
	if !strings.Contains(e.Output, cause) {
		wrong = append(wrong, "it does not say: "+cause)
	}
	return wrong
}

// restored looks at a reload without a strike, after one with it.
func (b *bed) restored() (wrong []string) {
	if out, err := b.reload().CombinedOutput(); err != nil {
		wrong = append(wrong, fmt.Sprintf("the next reload: %v: %s", err, out))
	}
	which, err := b.sees(b.version)
	if err != nil || slices.Contains(which, "old") {
		wrong = append(wrong, fmt.Sprintf("after the next reload the service sees %v, %v", which, err))
	}
	if left := b.leftovers(); len(left) > 0 {
		wrong = append(wrong, fmt.Sprintf("after the next reload these files are left: %v", left))
		for _, f := range left {
			_ = os.Remove(b.dir + f)
		}
	}
	if b.mounts == nil {
		return wrong
	}
	wrong = append(wrong, b.clean()...)
	if now := b.shape(); !slices.Equal(now, b.table) {
		wrong = append(wrong, fmt.Sprintf("the service's mounts are %d, and were %d: %s", len(now), len(b.table), now))
	}
	if now := b.attached(); len(now) != len(b.loops) {
		wrong = append(wrong, fmt.Sprintf("loop devices: %v, were %v", now, b.loops))
	}
	return wrong
}
