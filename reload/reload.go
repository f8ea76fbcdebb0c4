package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/unitfile/settings"
)

// Options say what to reload, and how.
type Options struct {
	Name    string // "" for the service of $MAINPID
	Dirs    state.Dirs
	Manager service.MainPIDer // for a unit that no record knows; may be nil

	Force     bool // exchange although nothing has changed, as a new generation
	IfChanged bool // do nothing at all, not even apply, where nothing has changed

	LockWait time.Duration  // how long another reload is waited for
	Limits   nsmount.Limits // what the kernel cannot do, see nsmount.Probe

	// Hook is called at every step, see steps.Run; tests fail or kill there.
	Hook func(point string) error
}

// Result is what a reload came to.
type Result struct {
	Name       string
	Generation state.Generation // that is live now
	Exchanged  bool             // trees were exchanged
	Difference Difference
	Warnings   []string

	// Of a rollback: whose extensions came back, and what is held now.
	Back  uint64
	Holds []state.Hold
}

// Reload exchanges the extensions of a running service for what it asks for now.
// On an error, a [*Failure], the old state is live, unless that says otherwise;
// a *state.LockedError in it says who holds the lock. The result then has the
// warnings.
func Reload(ctx context.Context, o Options) (*Result, error) {
	t := &transaction{Options: o, trigger: triggerReload}
	return t.transact(ctx, t.reload)
}

// transact makes the reload, and undoes it where it fails.
func (t *transaction) transact(ctx context.Context, do func(context.Context) error) (res *Result, err error) {
	run := &steps.Run{Hook: t.Hook}
	t.run, t.res = run, &Result{Name: t.Name}
	defer func() {
		if err != nil {
			err = explainFiles(err, t.is)
			f := failure(t.trigger, t.res.Name, run, t.changed, err, run.Undo(ctx), t.untold)
			if f.Tried, f.look = t.tried, t.Dirs.Hint("status", t.res.Name); t.is != nil {
				f.Live = t.is.record.Current.Number
			}
			err = f
			t.remember(ctx, err)
		}
		closed := run.Close()
		if err == nil && closed != nil {
			t.addWarning("afterwards: " + closed.Error()) // the new state is live and committed
			return
		}
		err = errors.Join(err, closed)
	}()
	aside(func() { err = because(ctx, do(ctx)) })
	return t.res, err
}

// transaction is one reload on its way: what the steps share.
type transaction struct {
	Options
	run   *steps.Run
	res   *Result
	host  *nsmount.Namespace
	lock  *state.Lock
	is    *situation // nil before it was read
	tried []state.Extension
	// corrupted are images that are live, in which the kernel has seen a changed block.
	corrupted []string
	changed   bool  // the exchange was made
	untold    error // why the service could not be told that the old state is back
	trial     trial
	trigger   string // what it is: triggerReload, …
	back      *back  // of a rollback
	// restoring says that the last committed generation is put back, as an undo does:
	// no check has a say in that.
	restoring bool

	// Of a repair:
	repaired *Repaired
	merged   *hierarchy.Host // what the host has merged
}

// reload reads like the list in docs/architecture.md, "One reload".
func (t *transaction) reload(ctx context.Context) error {
	run := t.run
	var err error
	if t.host, err = hostView(startedBySystemd()); err != nil {
		return err
	}
	run.Own(t.host)

	who, err := steps.Do(ctx, run, "identify", t.identify())
	if err != nil {
		return err
	}
	t.res.Name = who.name
	if t.lock, err = steps.Do(ctx, run, "lock", t.takeLock(who)); err != nil {
		return err
	}
	is, err := steps.Do(ctx, run, "read", t.read(who))
	if err != nil {
		return err
	}
	t.is = is
	if limit := is.settings.ReloadTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within ReloadTimeoutSec=%s", limit))
		defer cancel()
	}
	return because(ctx, t.update(ctx, who, is))
}

// because adds to the error of what a context has ended why that has ended: what took
// too long, or which signal came.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// update goes on once it is known what is asked for.
func (t *transaction) update(ctx context.Context, who *subject, is *situation) error {
	run := t.run
	running, err := steps.Do(ctx, run, "find", t.find(who, is))
	if err != nil {
		return err
	}
	if t.IfChanged {
		if picked, same := t.glance(ctx, running, is); same {
			return t.stay(ctx, is, running, picked)
		}
	}
	look, err := steps.Do(ctx, run, "survey", t.survey(running, is))
	if err != nil {
		return err
	}
	interrupted := is.record.Pending != nil || look.Interrupted()
	err = t.forward(ctx, is, running, look)
	var broken *steps.UndoError
	if err == nil || !interrupted || errors.As(err, &broken) || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	// Like an undo, it is made although the time is over.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreBound)
	defer cancel()
	return t.restore(bounded, is, running, err)
}

// restoreBound is how long the last committed generation may take to come back.
const restoreBound = 25 * time.Second

// forward goes on from the survey to the commit.
func (t *transaction) forward(ctx context.Context, is *situation, running *target, look *hierarchy.View) error {
	run := t.run
	picked, err := steps.Do(ctx, run, "pick", t.pick(is))
	if err != nil {
		return err
	}
	todo := t.compare(is, running, look, picked)
	t.res.Generation = is.record.Current
	if todo == nothing {
		return t.stay(ctx, is, running, picked)
	}
	for _, path := range t.corrupted {
		t.addWarning(fmt.Sprintf("the kernel has seen a changed block in %q: what is installed now takes its place", path))
	}
	return t.goLive(ctx, is, running, look, picked, todo)
}

// stay leaves the hierarchies as they are, and tells the service all the same.
func (t *transaction) stay(ctx context.Context, is *situation, running *target, picked []*extension.Picked) error {
	if !t.IfChanged {
		if _, err := steps.Do(ctx, t.run, "apply", t.apply(running, is)); err != nil {
			return err
		}
		if err := running.alive(); err != nil {
			return err
		}
	}
	t.good(ctx, is, is.record, picked)
	return nil
}

// goLive makes what was picked the live state.
func (t *transaction) goLive(ctx context.Context, is *situation, running *target, look *hierarchy.View, picked []*extension.Picked, todo todo) error {
	run := t.run
	all, err := steps.Do(ctx, run, "open", t.open(is, look, picked))
	if err != nil {
		return err
	}
	if len(all.extensions) < len(picked) {
		// What was left out this time may be what was left out before; and without it,
		// it is the same generation no more.
		if todo = t.compare(is, running, look, all.picked()); todo == nothing {
			return t.stay(ctx, is, running, all.picked())
		}
	}
	made, err := steps.Do(ctx, run, "stage", t.stage(running, is, look, all, todo))
	if err != nil {
		return err
	}
	if _, err = steps.Do(ctx, run, "check", t.check(running, is, made)); err != nil {
		return err
	}
	if _, err = steps.Do(ctx, run, "begin", t.begin(is, running, made)); err != nil {
		return err
	}
	if t.back != nil && todo == exchange {
		if _, err = steps.Do(ctx, run, "hold", t.hold(is)); err != nil {
			return err
		}
	}
	// Registered before the exchange: when that is undone, the service is told
	// again, after the old trees are back.
	run.OnUndo("apply", t.applyAgain(running, is))
	if _, err = steps.Do(ctx, run, "exchange", t.exchange(running, is, made)); err != nil {
		return err
	}
	if is.settings.AllNamespaces {
		if _, err = steps.Do(ctx, run, "elsewhere", t.elsewhere(running, is, made)); err != nil {
			return err
		}
	}
	if _, err = steps.Do(ctx, run, "apply", t.apply(running, is)); err != nil {
		return err
	}
	if _, err = steps.Do(ctx, run, "verify", t.verify(running, is, made)); err != nil {
		return err
	}
	_, err = steps.Do(ctx, run, "commit", t.commit(is, made, todo))
	return err
}

// restore puts the last committed generation back after a reload that was
// interrupted, where the wanted state cannot be had: what the interrupted one left,
// and an exchange back brings back, may be the version that a check refuses now. The
// hierarchies agree again then; the reload has failed all the same.
func (t *transaction) restore(ctx context.Context, is *situation, running *target, cause error) (err error) {
	if err := t.run.Undo(ctx); err != nil || len(is.record.Current.Hierarchies) == 0 {
		return errors.Join(cause, err)
	}
	// A transaction of its own: the one that failed is undone.
	t.run = &steps.Run{UndoTimeout: t.run.UndoTimeout}
	t.restoring = true
	restored := true
	defer func() {
		if err != nil {
			err = errors.Join(cause, &steps.UndoError{Step: "put the last committed generation back", Err: errors.Join(err, t.run.Undo(ctx))})
		} else {
			t.changed, err = t.changed || restored, cause
		}
		err = errors.Join(err, t.run.Close())
	}()
	look, err := steps.Do(ctx, t.run, "survey", t.survey(running, is))
	if err != nil {
		return err
	}
	if !look.Interrupted() && shows(look, is.record.Current) {
		// It is live: the interrupted reload had not come to its exchange, or had made
		// that undone, and perhaps not told the service so.
		restored = false
		if err := errors.Join(t.applyAgain(running, is)(ctx), t.lock.Abort()); err != nil {
			return err
		}
		is.record.Pending = nil
		t.warn(overcome(t.lock, is.memory, is.record, false))
		return nil
	}
	picked, err := steps.Do(ctx, t.run, "pick", t.pickCurrent(is))
	if err != nil {
		return err
	}
	return t.goLive(ctx, is, running, look, picked, refresh)
}

func (t *transaction) warn(w *state.Warning) {
	if w != nil {
		t.res.Warnings = append(t.res.Warnings, w.Error())
	}
}

// situation is what is asked for, and what is recorded.
type situation struct {
	settings settings.Settings
	// hierarchies are those of the settings, and those of the record that are not
	// asked for any more: they get no layer.
	hierarchies []string
	unit        string
	flags       Flags
	record      *state.Record // never nil; zero where there is none
	memory      *state.Memory
}

// todo is what a comparison comes to.
type todo int

const (
	nothing  todo = iota
	refresh       // the same generation once more, over a base that may have changed
	exchange      // a new generation
)

func noRecord(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// lockWaitStart is how long a start waits for a reload of the same name that is
// still at work: systemd would start a unit while its ExecReload= is being killed.
const lockWaitStart = 10 * time.Second
