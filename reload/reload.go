package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
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
}

// Reload exchanges the extensions of a running service for what it asks for now.
// On an error, a [*Failure], the old state is live, unless that says otherwise;
// a *state.LockedError in it says who holds the lock.
func Reload(ctx context.Context, o Options) (res *Result, err error) {
	run := &steps.Run{Hook: o.Hook}
	t := &transaction{Options: o, run: run, res: &Result{Name: o.Name}}
	defer func() {
		if err != nil {
			err = failure(t.res.Name, run, t.changed, err, run.Undo(ctx))
			t.remember(err)
		}
		err = errors.Join(err, run.Close())
	}()
	return t.reload(ctx)
}

// transaction is one reload on its way: what the steps share.
type transaction struct {
	Options
	run     *steps.Run
	res     *Result
	host    *nsmount.Namespace
	lock    *state.Lock
	changed bool // the exchange was made
}

// reload reads like the list of DESIGN 4.5.
func (t *transaction) reload(ctx context.Context) (*Result, error) {
	run := t.run
	var err error
	if t.host, err = hostView(startedBySystemd()); err != nil {
		return nil, err
	}
	run.Own(t.host)

	who, err := steps.Do(ctx, run, "identify", t.identify())
	if err != nil {
		return nil, err
	}
	t.res.Name = who.name
	if t.lock, err = steps.Do(ctx, run, "lock", t.takeLock(who)); err != nil {
		return nil, err
	}
	is, err := steps.Do(ctx, run, "read", t.read(who))
	if err != nil {
		return nil, err
	}
	if limit := is.settings.ReloadTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within ReloadTimeoutSec=%s", limit))
		defer cancel()
	}
	running, err := steps.Do(ctx, run, "find", t.find(who, is))
	if err != nil {
		return nil, err
	}
	look, err := steps.Do(ctx, run, "survey", t.survey(running, is))
	if err != nil {
		return nil, err
	}
	picked, err := steps.Do(ctx, run, "pick", t.pick(is))
	if err != nil {
		return nil, err
	}
	todo := t.compare(is, running, look, picked)
	if todo == nothing && t.IfChanged {
		return t.unchanged(is), nil
	}
	if todo == nothing {
		_, err := steps.Do(ctx, run, "apply", t.apply(running, is).Step)
		return t.unchanged(is), err
	}
	all, err := steps.Do(ctx, run, "open", t.open(is, look, picked))
	if err != nil {
		return nil, err
	}
	made, err := steps.Do(ctx, run, "stage", t.stage(running, is, look, all, todo))
	if err != nil {
		return nil, err
	}
	if _, err = steps.Do(ctx, run, "begin", t.begin(is, running, made)); err != nil {
		return nil, err
	}
	// Registered before the exchange: when that is undone, the service is told
	// again, after the old trees are back.
	run.OnUndo("apply", t.apply(running, is).again)
	if _, err = steps.Do(ctx, run, "exchange", t.exchange(running, made)); err != nil {
		return nil, err
	}
	t.changed = true
	if _, err = steps.Do(ctx, run, "apply", t.apply(running, is).Step); err != nil {
		return nil, err
	}
	if _, err = steps.Do(ctx, run, "commit", t.commit(is, made, todo)); err != nil {
		return nil, err
	}
	return t.res, nil
}

// unchanged is the result of a reload that had nothing to exchange.
func (t *transaction) unchanged(is *situation) *Result {
	t.res.Generation = is.record.Current
	return t.res
}

// remember writes down what went wrong. That it cannot is no further failure.
func (t *transaction) remember(err error) {
	var f *Failure
	if t.lock == nil || !errors.As(err, &f) || f.Left != Broken {
		return
	}
	g := state.Generation{Time: time.Now().UTC(), Outcome: "undo failed: " + f.Err.Error(), Trigger: "reload"}
	t.warn(t.lock.AddHistory(g, settings.Default().KeepGenerations))
}

func (t *transaction) warn(w *state.Warning) {
	if w != nil {
		t.res.Warnings = append(t.res.Warnings, w.Error())
	}
}

// situation is what is asked for, and what is recorded.
type situation struct {
	settings settings.Settings
	unit     string
	flags    Flags
	record   *state.Record // never nil; zero where there is none
	memory   *state.Memory
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
