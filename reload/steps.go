package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/recorded"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// The steps of a reload, each with its inverse, in the order of the list.

func (t *transaction) identify() steps.Step[*subject] {
	return steps.Step[*subject]{Do: func(ctx context.Context) (*subject, error) {
		s, err := nsmount.Do(ctx, t.host, func() (*subject, error) { return identify(t.Dirs, t.Name) })
		if err == nil {
			t.run.Own(s)
		}
		return s, err
	}}
}

func (t *transaction) takeLock(s *subject) steps.Step[*state.Lock] {
	return steps.Step[*state.Lock]{Do: func(ctx context.Context) (*state.Lock, error) {
		l, err := nsmount.Do(ctx, t.host, func() (*state.Lock, error) {
			u, err := t.Dirs.Unit(s.name)
			if err != nil {
				return nil, err
			}
			return u.Lock(ctx, t.LockWait)
		})
		if err == nil {
			t.run.Own(l)
		}
		return l, err
	}}
}

// read runs under the lock, so that of many reloads at once the last one to get
// it sees the last state.
func (t *transaction) read(s *subject) steps.Step[*situation] {
	return steps.Step[*situation]{Do: func(ctx context.Context) (*situation, error) {
		is, err := nsmount.Do(ctx, t.host, func() (*situation, error) { return readSituation(s.name, t.lock) })
		t.res.Warnings = append(t.res.Warnings, is.warnings()...)
		if err == nil { // whoever committed may have been killed before it came to that
			t.warn(overcome(t.lock, is.memory, is.record, false))
		}
		return is, err
	}}
}

func (t *transaction) find(s *subject, is *situation) steps.Step[*target] {
	return steps.Step[*target]{Do: func(ctx context.Context) (*target, error) {
		found, err := find(ctx, s, is.record, t.Manager)
		if err != nil {
			return nil, err
		}
		t.run.Own(found)
		if found.fresh {
			// Started anew since: what the record says of a generation is over. Whoever
			// committed it may have been killed before it came to its line of history.
			if t.lock != nil {
				t.warn(t.lock.Complete(&is.record.Current, is.settings.KeepGenerations))
			}
			is.record.Current, is.record.Pending = state.Generation{}, nil
		}
		is.hierarchies, err = hierarchiesOf(is.settings, is.record.Current)
		return found, err
	}}
}

func (t *transaction) survey(target *target, is *situation) steps.Step[*hierarchy.View] {
	return steps.Step[*hierarchy.View]{Do: func(ctx context.Context) (*hierarchy.View, error) {
		if err := target.enter(); err != nil {
			return nil, err
		}
		v, err := t.look(ctx, target, is)
		if err != nil {
			return nil, err
		}
		if left := v.Left(placesOf(is.record)); len(left) > 0 {
			// They get no layer, so they come off.
			is.hierarchies = append(is.hierarchies, left...)
			if v, err = t.look(ctx, target, is); err != nil {
				return nil, err
			}
		}
		if !t.restoring && (v.Interrupted() || is.record.Pending != nil) {
			t.res.Warnings = append(t.res.Warnings, "an earlier reload was interrupted: a reload puts all hierarchies in order")
		}
		return v, nil
	}}
}

func (t *transaction) look(ctx context.Context, target *target, is *situation) (*hierarchy.View, error) {
	v, err := hierarchy.Take(ctx, target.ns, target.live, hierarchy.Options{
		Hierarchies: is.hierarchies, Limits: t.Limits, FromBase: fromBase(is.record), Host: t.merged,
	})
	if err == nil {
		t.run.Own(v)
	}
	return v, err
}

func (t *transaction) pick(is *situation) steps.Step[[]*extension.Picked] {
	return steps.Step[[]*extension.Picked]{Do: func(ctx context.Context) ([]*extension.Picked, error) {
		if t.back != nil {
			return t.pickBack(ctx, is)
		}
		all, err := nsmount.Do(ctx, t.host, func() (picks, error) {
			t.corrupted = corrupted(is.record.Current)
			return pickAll(is.settings, is.memory, pickRules{force: t.Force, anyPath: is.flags.AnyPath, live: &is.record.Current})
		})
		t.res.Warnings = append(t.res.Warnings, all.warnings...)
		t.tried = attemptOf(all.picked)
		return all.picked, err
	}}
}

func (t *transaction) pickBack(ctx context.Context, is *situation) ([]*extension.Picked, error) {
	way, err := nsmount.Do(ctx, t.host, func() (wayBack, error) { return t.back.pick(t.lock, is) })
	if err != nil {
		return nil, err
	}
	t.back, t.res.Back, t.tried = &way.back, way.to.Number, attemptOf(way.picked)
	return way.picked, nil
}

// compare decides what is to be done. An overlay over a base that somebody can
// write to is made again even for the same extensions: a file that the host
// replaced by rename would stay old in it. So is one of an image in which the kernel
// has seen a changed block: its device keeps the file that it has, and what lies there
// by now may be good.
func (t *transaction) compare(is *situation, target *target, v *hierarchy.View, picked []*extension.Picked) todo {
	t.res.Difference = Compare(is.record.Current, picked)
	switch {
	case t.Force, target.fresh, is.record.Pending != nil, v.Interrupted(), !t.res.Difference.None(), !shows(v, is.record.Current), !fits(is, v):
		return exchange
	case len(t.corrupted) > 0:
		return refresh
	case t.IfChanged:
		return nothing
	}
	for _, s := range v.Surveys {
		if _, covered := s.Top(); covered && s.BaseWritable {
			return refresh
		}
	}
	return nothing
}

// shows tells whether every hierarchy has the overlay that the record says.
func shows(v *hierarchy.View, g state.Generation) bool {
	if len(v.Surveys) != len(g.Hierarchies) {
		return false
	}
	for i, s := range v.Surveys {
		if g.Hierarchies[i].Path != s.Path || !showsThis(s, g, g.Hierarchies[i]) {
			return false
		}
	}
	return true
}

// fits tells whether the overlays are where the settings want them by now, and as
// restricted.
func fits(is *situation, v *hierarchy.View) bool {
	loose := func(s *hierarchy.Survey) bool {
		_, covered := s.Top()
		return covered && !s.Has(restrictions(is.settings))
	}
	return !is.dropped() && !slices.ContainsFunc(v.Surveys, loose)
}

// dropped tells whether a hierarchy has layers that is not asked for any more.
func (is *situation) dropped() bool {
	return slices.ContainsFunc(is.record.Current.Hierarchies, func(h state.Hierarchy) bool {
		return h.Layers > 0 && !slices.Contains(is.settings.Hierarchies, h.Path)
	})
}

// restrictions are what the settings put on every overlay.
func restrictions(s settings.Settings) (a nsmount.Attr) {
	if s.NoExec {
		a |= nsmount.AttrNoExec
	}
	if s.NoSuid {
		a |= nsmount.AttrNoSuid
	}
	return a
}

func showsThis(s *hierarchy.Survey, g state.Generation, h state.Hierarchy) bool {
	top, covered := s.Top()
	if !covered {
		return h.Layers == 0
	}
	return top.Owner == hierarchy.Ours && top.Source.Generation == g.Number
}

func (t *transaction) open(is *situation, v *hierarchy.View, picked []*extension.Picked) steps.Step[*opened] {
	return steps.Step[*opened]{Do: func(ctx context.Context) (*opened, error) {
		osRelease, err := osOf(v)
		if err != nil {
			return nil, err
		}
		all, err := nsmount.Do(ctx, t.host, func() (*opened, error) { return openAll(ctx, is.settings, picked, osRelease) })
		if err != nil {
			return nil, err
		}
		t.run.Own(all)
		t.res.Warnings = append(t.res.Warnings, all.warnings...)
		return all, nil
	}}
}

// made is what was staged, with what it takes to stage it again.
type made struct {
	host   *nsmount.Namespace
	view   *hierarchy.View
	layers *layers
	staged []*hierarchy.Staged
	all    *opened
	source hierarchy.Source
	record *state.Record // that begin has written
}

// Close gives up what was not attached, and gathers the trees that are about to be
// closed.
func (m *made) Close() error {
	m.gather()
	errs := []error{m.layers.Close()}
	for _, s := range m.staged {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// gather hangs what was cloned out of the service's namespace onto the extensions'
// trees, so that all goes at once. Those were made in the host view, and nothing can be
// hung onto them from elsewhere. Where the host view hangs, they go one by one.
func (m *made) gather() {
	trees := slices.Concat(m.all.trees(), m.view.Trees())
	ctx, cancel := context.WithTimeout(context.Background(), gatherBound)
	defer cancel()
	_ = m.host.Do(ctx, func() error { nsmount.Gather(trees); return nil })
}

const gatherBound = time.Second

func (t *transaction) stage(target *target, is *situation, v *hierarchy.View, all *opened, todo todo) steps.Step[*made] {
	return steps.Step[*made]{Do: func(ctx context.Context) (*made, error) {
		number := is.record.Current.Number
		if todo == exchange {
			var err error
			if number, err = t.lock.NextNumber(is.record); err != nil {
				return nil, err
			}
		}
		m := &made{host: t.host, view: v, all: all, source: hierarchy.Source{Generation: number, Serial: nextSerial(is.record, v), Name: t.res.Name}}
		l, err := layersOf(is, all, m.source)
		if err != nil {
			return nil, err
		}
		m.layers = l
		t.run.Own(m)
		if m.staged, err = hierarchy.Stage(ctx, v, l.wanted, len(is.settings.ReloadCheck) > 0); err != nil {
			return nil, err
		}
		t.res.Warnings = slices.Concat(t.res.Warnings, copies(m.staged), notThere(is.settings, v))
		return m, t.keepHidden(ctx, target, is, m.staged)
	}}
}

// copies warns of carried mounts that are copies from now on.
func copies(staged []*hierarchy.Staged) (warnings []string) {
	for _, s := range staged {
		for _, c := range s.Carried {
			if c.How == hierarchy.Copied {
				warnings = append(warnings, fmt.Sprintf("the source of the mount on %q was removed: what is carried on is a copy, until the service is restarted", path.Join(s.Survey.Path, c.Path)))
			}
		}
	}
	return warnings
}

func (t *transaction) begin(is *situation, target *target, m *made) steps.Step[*state.Record] {
	return steps.Step[*state.Record]{
		Do: func(ctx context.Context) (*state.Record, error) {
			t.try(ctx, is, m)
			err := t.intend(is, target, m)
			if err != nil {
				t.untry(ctx)
			}
			return m.record, err
		},
		Undo: func(ctx context.Context, _ *state.Record) error {
			t.untry(ctx)
			if is.record.Pending != nil {
				return nil // what an interrupted reload left is still to be put in order
			}
			return t.lock.Abort()
		},
	}
}

// intend writes down what is about to become live.
func (t *transaction) intend(is *situation, target *target, m *made) error {
	g := generationOf(is, m.source, t.trigger, m.all, m.layers, m.staged)
	carryOn(&g, is.record.Current)
	m.record = &state.Record{
		Unit: is.unit, MountNS: target.id, PID: target.process.PID(), StartTime: target.process.StartTime(), Boot: recorded.Boot(),
		Refs: refsOf(is.settings), Flags: is.flags.record(), Current: g,
	}
	return t.lock.Begin(m.record)
}

// maxRestage bounds how often the carried mounts may change under our hands.
const maxRestage = 5

func (t *transaction) exchange(target *target, is *situation, m *made) steps.Step[*made] {
	return steps.Step[*made]{
		Do: func(ctx context.Context) (*made, error) {
			begun := m.view
			if err := m.settle(ctx, target.ns, target.live, t.run.Own); err != nil {
				return nil, err
			}
			if m.view != begun { // staged again, over other mounts than were written down
				if err := t.intend(is, target, m); err != nil {
					return nil, err
				}
			}
			if err := t.show(ctx, target, m); err != nil {
				return nil, err
			}
			t.changed = true
			return m, t.landed(ctx, target, m)
		},
		Undo: func(ctx context.Context, m *made) error {
			return target.live.Do(ctx, func() error { return exchangeBack(m.staged) })
		},
	}
}

// exchangeBound is how long an exchange is waited for. It takes about a millisecond,
// unless a lookup hangs; more than ten seconds were seen once on a machine whose disk
// was overloaded, and to give up makes nothing better.
const exchangeBound = 30 * time.Second

// show makes the exchange. Once it has begun, the end of ctx does not end the wait:
// who does not know what the hierarchies show cannot take it back, and must not say
// that nothing was changed. That thread goes on until the process ends, and nobody
// looks at what it writes: the exchange is no step that was done, so its inverse is not
// called.
func (t *transaction) show(ctx context.Context, target *target, m *made) error {
	if ctx.Err() != nil {
		return fmt.Errorf("exchange: %w", context.Cause(ctx))
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeBound)
	defer cancel()
	err := target.live.Do(bounded, func() error { return exchangeAll(m.staged) })
	if err != nil && bounded.Err() != nil {
		return &steps.UndoError{Step: "exchange", Err: err}
	}
	return err
}

// settle looks at the carried mounts once more, and stages again as long as they
// change. Every view that it takes is handed to own.
func (m *made) settle(ctx context.Context, ns *os.File, live *nsmount.Namespace, own func(io.Closer)) error {
	for range maxRestage {
		same, err := m.view.Unchanged(live)
		if err != nil || same {
			return err
		}
		v, err := m.view.Again(ctx, ns, live)
		if err != nil {
			return err
		}
		own(v)
		staged, err := hierarchy.Stage(ctx, v, m.layers.wanted, false)
		if err != nil {
			return err
		}
		for _, s := range m.staged {
			_ = s.Close()
		}
		m.view, m.staged = v, staged
	}
	return fmt.Errorf("the mounts below the hierarchies changed %d times while the new trees were made: try again when they rest", maxRestage)
}

// exchangeAll exchanges hierarchy by hierarchy, back to back. A failure takes
// back those that were done, and what the failed one has come to.
func exchangeAll(staged []*hierarchy.Staged) error {
	for i, s := range staged {
		if err := s.Exchange(); err != nil {
			if back := exchangeBack(staged[:i+1]); back != nil {
				return errors.Join(err, &steps.UndoError{Step: "exchange", Err: back})
			}
			return err
		}
	}
	return nil
}

func exchangeBack(staged []*hierarchy.Staged) error {
	var errs []error
	for i := len(staged) - 1; i >= 0; i-- {
		errs = append(errs, staged[i].ExchangeBack())
	}
	return errors.Join(errs...)
}

// landed compares the top of every hierarchy with what was meant, and takes the
// exchange back where it is something else, or cannot be told.
func (t *transaction) landed(ctx context.Context, target *target, m *made) error {
	err := m.landed(target.live)
	if err == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeBound)
	defer cancel()
	back := target.live.Do(bounded, func() error { return exchangeBack(m.staged) })
	if back != nil {
		return errors.Join(err, &steps.UndoError{Step: "exchange", Err: back})
	}
	return err
}

func (m *made) landed(live *nsmount.Namespace) error {
	table, err := live.Table()
	if err != nil {
		return err
	}
	return allLanded(m.staged, table)
}

func allLanded(staged []*hierarchy.Staged, table *nsmount.Table) error {
	for _, s := range staged {
		if err := s.Landed(table); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) commit(is *situation, m *made, todo todo) steps.Step[state.Generation] {
	return steps.Step[state.Generation]{Do: func(ctx context.Context) (state.Generation, error) {
		if err := t.lock.Commit(); err != nil {
			return state.Generation{}, err
		}
		t.good(ctx, is, m.record, m.all.picked())
		g := m.record.Current
		t.res.Generation, t.res.Exchanged = g, true
		if todo == exchange {
			t.addHistory(g)
		}
		// Also of a generation that is put back: a rollback that was killed holds it.
		t.warn(overcome(t.lock, is.memory, m.record, t.Force && todo == exchange))
		return g, nil
	}}
}
