package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/reload/state"
)

// Rollback is a reload to the extensions of an earlier generation, which become a
// new one: number, or where that is 0 the last committed one that had others than
// the service has now and that is not held. What is left is held: it is not picked
// again until something newer appears, or by force, or after [Unhold].
//
// It fails as [Reload] does.
func Rollback(ctx context.Context, o Options, number uint64) (*Result, error) {
	t := &transaction{Options: o, trigger: triggerRollback, back: &back{number: number}}
	return t.transact(ctx, t.reload)
}

// back is the way of a rollback.
type back struct {
	number   uint64           // asked for
	left, to state.Generation // settled by the pick
}

// wayBack is a way that was found, and what the generation had that it leads to.
type wayBack struct {
	back
	picked []*extension.Picked
}

// pick finds the generation to go back to, and picks what it had. Must run in the
// host view.
func (b back) pick(lock *state.Lock, is *situation) (wayBack, error) {
	none := wayBack{}
	history, err := lock.History()
	if err != nil {
		return none, err
	}
	b.left = is.record.Current
	history = history.With(&b.left)
	if is.record.Current.Number == 0 {
		// Systemd has started the unit since, with the newest that there was.
		now, err := pickAll(is.settings, &state.Memory{}, pickRules{force: true, anyPath: is.flags.AnyPath})
		if err != nil {
			return none, err
		}
		b.left = state.Generation{Extensions: attemptOf(now.picked)}
	}
	if b.to, err = b.choose(history, is.memory, lock.Unit()); err != nil {
		return none, err
	}
	picked, err := pickTrusted(b.to, is.flags.AnyPath)
	if err != nil {
		return none, fmt.Errorf("%w; or go back to another generation: %s", err, lock.Unit().Hint("history"))
	}
	return wayBack{b, picked}, nil
}

// choose finds the generation to go back to.
func (b *back) choose(history state.History, memory *state.Memory, u *state.Unit) (state.Generation, error) {
	if b.number != 0 {
		g := history.Number(b.number)
		if g == nil {
			return state.Generation{}, fmt.Errorf("there is no generation %d in the history of %q: see %s", b.number, u.Name(), u.Hint("history"))
		}
		if !g.Committed() {
			return state.Generation{}, fmt.Errorf("generation %d was %s: name one that was committed, see %s", g.Number, g.Outcome, u.Hint("history"))
		}
		return *g, nil
	}
	for i := len(history) - 1; i >= 0; i-- {
		g := &history[i]
		other := !slices.Equal(g.Identities(), b.left.Identities())
		if g.Committed() && other && g.Number < cmp.Or(b.left.Number, g.Number+1) && !unwanted(g, memory) {
			return *g, nil
		}
	}
	return state.Generation{}, fmt.Errorf("there is no earlier generation with other extensions that is neither held nor refused: name one, see %s", u.Hint("history"))
}

// unwanted tells whether a generation has an extension that a rollback left, or that
// failed a check since.
func unwanted(g *state.Generation, memory *state.Memory) bool {
	return slices.ContainsFunc(g.Extensions, func(e state.Extension) bool {
		_, held := memory.IsHeld(e.Kind, e.Ref, e.Version, e.Identity, version.Compare)
		_, refused := memory.IsRefused(e.Identity)
		return held || refused
	})
}

// hold holds what a rollback leaves. That is done before the exchange, so that a
// kill after it does not have the next reload go forward again.
func (t *transaction) hold(is *situation) steps.Step[[]state.Hold] {
	return steps.Step[[]state.Hold]{
		Do: func(context.Context) ([]state.Hold, error) {
			old := slices.Clone(is.memory.Holds)
			t.res.Holds = holdsAfter(old, t.back.left, t.back.to, time.Now().UTC())
			t.warn(t.lock.Remember(func(m *state.Memory) { m.Holds = t.res.Holds }))
			return old, nil
		},
		Undo: func(_ context.Context, old []state.Hold) error {
			t.warn(t.lock.Remember(func(m *state.Memory) { m.Holds = old }))
			return nil
		},
	}
}

// Unhold lifts the hold of a ref, or with "" all holds of a name, which need not be
// running. It returns what was lifted. lockWait is how long a reload is waited for.
func Unhold(ctx context.Context, u *state.Unit, ref string, lockWait time.Duration) (lifted []state.Hold, err error) {
	lock, err := u.Lock(ctx, lockWait)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	memory, err := lock.Memory()
	if err != nil {
		return nil, err
	}
	// Whoever committed may have been killed before it came to that. Where there is no
	// record, or none that can be read, all holds count.
	if r, err := lock.Load(); err == nil {
		memory.Settle(r, version.Compare)
	}
	for _, h := range memory.Holds {
		if ref == "" || h.Ref == ref {
			lifted = append(lifted, h)
		}
	}
	if len(lifted) == 0 {
		return nil, nil
	}
	w := lock.Remember(func(m *state.Memory) {
		for _, h := range lifted {
			m.Unhold(h.Kind, h.Ref)
		}
	})
	if w != nil {
		return nil, w
	}
	return lifted, nil
}
