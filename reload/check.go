package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/unitfile/settings"
)

// CommandError is a line of a Reload*= setting that failed.
type CommandError struct {
	Setting string // "ReloadCheck=", "ReloadCommand=", "ReloadVerify="
	File    string
	Line    int
	Argv    []string // as written: a variable may be a secret
	Output  string   // with what a terminal would act on escaped; of much the beginning and the end
	Err     error
}

// Error names the line, the command, how it ended, and what it printed.
func (e *CommandError) Error() string {
	text := fmt.Sprintf("%s:%d: %s%s: %v", e.File, e.Line, e.Setting, printable(strings.Join(e.Argv, " ")), e.Err)
	if e.Output != "" {
		text += ": " + e.Output
	}
	return text
}

// Unwrap gives the cause.
func (e *CommandError) Unwrap() error { return e.Err }

// runCommands runs the lines of one Reload*= setting in a place; the first one
// that fails ends it.
func runCommands(ctx context.Context, setting string, lines []settings.Command, in service.Place, warn func(string)) error {
	if len(lines) == 0 {
		return nil
	}
	if in.Environ == nil {
		var err error
		if in.Environ, err = environOf(in.Process); err != nil {
			return err
		}
	}
	mainPID, err := pidInside(in.Process)
	if err != nil {
		return err
	}
	extra := "MAINPID=" + mainPID
	env := append(slices.Clone(in.Environ), extra)
	for _, c := range lines {
		argv := c.Expand(func(name string) (string, bool) { return lookup(env, name) })
		// An ExecReload= line that adopt or wrap has kept as ReloadCommand= may
		// start a successor; a check or a verify leaves nothing behind.
		keep := setting == reloadCommand
		res, err := service.Run(ctx, in, service.Command{Argv: argv, Env: []string{extra}, KeepRest: keep})
		if err == nil {
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			// No word on the command: we were told to end.
			return fmt.Errorf("%s:%d: %s%s: %w", c.File, c.Line, setting, argv[0], context.Cause(ctx))
		}
		failed := &CommandError{Setting: setting, File: c.File, Line: c.Line, Argv: c.Argv, Output: shown(res), Err: err}
		if c.IgnoreFailure && itsOwn(err) {
			warn(failed.Error() + " (ignored)")
			continue
		}
		return failed
	}
	return nil
}

// maxShown bounds what is said of the output of a command: it goes into messages, into
// the journal, and is remembered with a refusal.
const maxShown = 4 << 10

// shown is what is said of the output of a command.
func shown(res service.Result) string {
	out := bytes.TrimSpace(res.Output)
	if len(out) <= maxShown && !res.Truncated {
		return printable(string(out))
	}
	const half = maxShown / 2
	if res.Truncated { // the end is not known
		return printable(string(out[:min(len(out), maxShown)])) + "\n[more was printed]"
	}
	return fmt.Sprintf("%s\n[%d bytes left out]\n%s", printable(string(out[:half])), len(out)-2*half, printable(string(out[len(out)-half:])))
}

// printable escapes all but text, line ends and tabs: what a command prints comes
// from the service, and goes to terminals and logs of root.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strconv.IsPrint(r), r == '\n', r == '\t':
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// itsOwn tells whether a command failed by itself, or was not to be executed; what
// could not be had of its place is no failure of the command.
func itsOwn(err error) bool {
	var exit *service.ExitError
	var start *service.StartError
	return errors.As(err, &exit) || errors.As(err, &start) && start.ExitCode() == ExitExec
}

// rehearseIn runs ReloadCheck= in a copy of the namespace that ns means, in which
// the staged trees are live already.
func rehearseIn(ctx context.Context, ns *os.File, staged []*hierarchy.Staged, lines []settings.Command, in service.Place, warn func(string)) error {
	r, err := hierarchy.Rehearse(ctx, ns, staged)
	if err != nil {
		return err
	}
	defer r.Close()
	if in.Mount, err = r.File(); err != nil {
		return err
	}
	defer in.Mount.Close()
	return runCommands(ctx, "ReloadCheck=", lines, in, warn)
}

// check runs ReloadCheck= before anything goes live. What it refuses is not picked
// again, by reload or by start.
func (t *transaction) check(target *target, is *situation, m *made) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		if len(is.settings.ReloadCheck) == 0 || t.restoring {
			return struct{}{}, nil
		}
		err := rehearseIn(ctx, target.ns, m.staged, is.settings.ReloadCheck, service.Place{Process: target.process}, t.addWarning)
		return struct{}{}, t.refuseOn(ctx, err, is, m)
	}}
}

// verify runs ReloadVerify= after the service was told, and sees whether the
// service is still there. A failure is remembered before the undo, so that a kill
// during that does not have the bad version picked again.
func (t *transaction) verify(target *target, is *situation, m *made) steps.Step[struct{}] {
	return steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		if t.restoring {
			return struct{}{}, nil
		}
		err := runCommands(ctx, "ReloadVerify=", is.settings.ReloadVerify, service.Place{Process: target.process}, t.addWarning)
		if err == nil {
			err = target.alive()
		}
		return struct{}{}, t.refuseOn(ctx, err, is, m)
	}}
}

// Verify runs the ReloadVerify= lines of a service that was started with another image,
// as a reload does after its exchange, within ReloadTimeoutSec=. What failed and does
// not count is a warning.
func Verify(ctx context.Context, p *service.Process, s settings.Settings) (warnings []string, err error) {
	if s.ReloadTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.ReloadTimeout, fmt.Errorf("not done within ReloadTimeoutSec=%s", s.ReloadTimeout))
		defer cancel()
	}
	warn := func(text string) { warnings = append(warnings, text) }
	return warnings, because(ctx, runCommands(ctx, "ReloadVerify=", s.ReloadVerify, service.Place{Process: p}, warn))
}

// alive says whether any process is left in the service's namespace: the one that
// a reload began with may have handed over to another.
func (t *target) alive() error {
	if !t.process.Ending() {
		return nil
	}
	pids, err := service.InMountNamespace(t.id)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(pids, func(pid int) bool { return pid == t.process.PID() })
	if len(others) == 0 {
		return fmt.Errorf("the service ended during the reload: %w", service.ErrGone)
	}
	return nil
}

// verdict says whether the error of a check says something about the extensions. That
// a command could not be run does not, and neither does one that was ended from
// outside: a manager that stops a unit ends us and the command at once, and the kernel
// kills what it has no memory for.
func verdict(err error) bool {
	var exit *service.ExitError
	switch {
	case errors.As(err, &exit):
		return !slices.Contains([]unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGKILL}, exit.Signal)
	default:
		return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, service.ErrGone)
	}
}

// refuseOn remembers what made a check fail, see suspects. An error that is no verdict
// on them is not remembered, and neither is one about a set that is live already. One
// whose name counts its tries is tried again, as long as there are any.
func (t *transaction) refuseOn(ctx context.Context, err error, is *situation, m *made) error {
	if err == nil || !verdict(err) {
		return err
	}
	t.try(ctx, is, m) // a check is before begin
	ctx, cancel := shortly(ctx)
	defer cancel()
	bad := t.suspects(ctx, is, m.all)
	if len(t.trial) > 0 {
		uncounted, err := nsmount.Do(ctx, t.host, func() ([]*extension.Opened, error) { return t.trial.uncounted(bad), nil })
		if t.warnOf("look at the tries", err); err == nil {
			bad = uncounted
		}
	}
	t.trial = nil // what was taken is used up
	t.warn(t.lock.Remember(func(memory *state.Memory) {
		for _, e := range bad {
			memory.Refuse(refusal(e.Picked, err))
		}
		if t.back != nil {
			// What a rollback holds is what comes back now. With that held and the rest
			// refused, whoever comes after a kill would go back further still.
			memory.Holds = is.memory.Holds
		}
	}))
	return err
}

// knownGood is the current generation, or, where nothing of this run of the service is
// recorded, the last good one; nil where there is none.
func (t *transaction) knownGood(is *situation) *state.Generation {
	if is.record.Current.Number != 0 {
		return &is.record.Current
	}
	history, err := t.lock.History()
	if err != nil {
		return nil
	}
	return history.LastGood()
}

// suspects are the extensions that a failed check may be about: those that are not known
// to be good. Where nothing is known, as at the first reload of a unit that systemd has
// started, that is any of them; then only those are meant in whose place another version
// can be picked, unless there is but one: to refuse the rest would keep the service from
// being reloaded at all.
func (t *transaction) suspects(ctx context.Context, is *situation, all *opened) []*extension.Opened {
	if known := t.knownGood(is); known != nil {
		return newIn(all, known.Identities())
	}
	if len(all.extensions) == 1 {
		return all.extensions
	}
	bad, err := nsmount.Do(ctx, t.host, func() (bad []*extension.Opened, err error) {
		for _, e := range all.extensions {
			if replaceable(is, e.Picked) {
				bad = append(bad, e)
			}
		}
		return bad, nil
	})
	if err != nil {
		t.addWarning(fmt.Sprintf("no extension is refused: look for other versions: %v", err))
	}
	return bad
}

// replaceable tells whether a ref means something else once what was picked for it is
// refused. Must run in the host view.
func replaceable(is *situation, p *extension.Picked) bool {
	o := pickRules{live: &is.record.Current}.options(is.settings, is.memory, p.Ref)
	refused := o.Refused
	o.Refused = func(identity string) (why string, is bool) {
		if identity == p.Identity {
			return "", true
		}
		return refused(identity)
	}
	_, err := extension.Pick(p.Ref, o)
	return err == nil
}

func refusal(p *extension.Picked, why error) state.Refused {
	return state.Refused{Identity: p.Identity, Path: p.Path, Why: why.Error(), Time: time.Now().UTC()}
}

func (t *transaction) addWarning(text string) { t.res.Warnings = append(t.res.Warnings, text) }
