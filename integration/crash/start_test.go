//go:build amd64

package crash

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/extexec/extexec/integration/tracer"
)

// TestStartIsKilled kills a start as it makes a system call. Nothing is left that is in
// the way of the next one.
func TestStartIsKilled(t *testing.T) {
	strikeStart(t, 8, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGKILL}} })
}

// TestStartIsToldToEnd sends SIGTERM as it makes a system call.
func TestStartIsToldToEnd(t *testing.T) {
	strikeStart(t, 5, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGTERM}} })
}

// TestStartFails makes a system call fail with what can come of it: the command is
// executed with its extensions, or not at all, and then no record says that it was.
func TestStartFails(t *testing.T) { strikeStart(t, 15, tracer.Call.Failures) }

func strikeStart(t *testing.T, most int, strikes func(tracer.Call) []tracer.Strike) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			b := newBed(t, s.unit, s.images)
			b.rest()
			e, wrong := b.strikeStart(tracer.Strike{})
			if len(wrong) > 0 {
				t.Fatalf("without a strike:\n%s", strings.Join(wrong, "\n"))
			}
			strikeEach(t, e.Calls, most, strikes, b.strikeStart)
		})
	}
}

// strikeStart strikes the first start under a name, and starts once more.
func (b *bed) strikeStart(s tracer.Strike) (*tracer.Ending, []string) {
	b.t.Helper()
	b.must(os.RemoveAll(b.dir + "/state"))
	shown := strings.Join([]string{content("/etc/", b.version), content("/usr/", b.version), content("/opt/", b.version)}, "")
	command := []string{"/bin/sh", "-c", "read a </etc/extexec-a; read b </usr/lib/extexec-a; read c </opt/extexec-a; printf '<%s>' $a$b$c"}
	e, err := tracer.Trace(b.run(command...), s)
	b.must(err)
	wrong := append(b.clean(), e.Left...)
	switch code := e.State.ExitStatus(); {
	case e.State.Signaled():
		if e.State.Signal() != s.Signal {
			wrong = append(wrong, "it died of "+e.State.Signal().String())
		}
	case code == 0:
		if !strings.Contains(e.Output, "<"+shown+">") {
			wrong = append(wrong, "the command did not see its extensions")
		}
	case slices.Contains([]int{1, 200, 203, 217, 226}, code):
		wrong = append(wrong, message(e, s)...)
		if _, err := os.Stat(b.dir + "/state/record/bed/state.json"); !errors.Is(err, os.ErrNotExist) {
			wrong = append(wrong, fmt.Sprintf("the record is there: %v", err))
		}
		wrong = append(wrong, b.leftovers()...)
	default:
		wrong = append(wrong, fmt.Sprintf("exit code %d", code))
	}
	out, err := b.run(command...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "<"+shown+">") {
		wrong = append(wrong, fmt.Sprintf("the next start: %v, %s", err, out))
	}
	wrong = append(append(wrong, b.clean()...), b.leftovers()...)
	if now := b.attached(); len(now) > 0 {
		wrong = append(wrong, fmt.Sprintf("loop devices: %v", now))
	}
	return e, wrong
}

// TestStartOfNothing: a command that cannot be executed leaves the record as it was.
func TestStartOfNothing(t *testing.T) {
	b := newBed(t, "", false)
	file := b.dir + "/state/record/bed/state.json"
	for _, before := range []string{"", "/bin/true"} {
		if before != "" {
			b.must(b.run(before).Run())
		}
		was, _ := os.ReadFile(file)
		cmd := b.run("/nowhere/command")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 203 {
			t.Errorf("exit code %d, want 203: %s", cmd.ProcessState.ExitCode(), out)
		}
		if is, _ := os.ReadFile(file); string(is) != string(was) {
			t.Errorf("after %q the record was %q, and is %q", before, was, is)
		}
	}
}
