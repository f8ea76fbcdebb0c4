package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// With CountTries=yes the counter in the name of a version ("web_2+3.raw") is the
// memory of how it did: it counts down what is tried, and comes off what is good.
// systemd, which picks by itself when it starts an adopted unit, heeds it too.

// trial are the versions of which a try was taken.
type trial []*extension.Opened

// take takes a try of each version whose identity is not known. One that cannot be
// counted, in a read-only directory say, is a warning.
func take(ctx context.Context, host *nsmount.Namespace, all *opened, known []string) (taken trial, warnings []string) {
	fresh := newIn(all, known)
	tries, err := nsmount.Do(ctx, host, func() (tries []tried, err error) {
		for _, e := range fresh {
			tries = append(tries, tryOf(e.Picked))
		}
		return tries, nil
	})
	if err != nil {
		return nil, []string{fmt.Sprintf("count tries (CountTries=yes): %v", err)}
	}
	for i, e := range fresh {
		if err := tries[i].err; err != nil {
			warnings = append(warnings, fmt.Sprintf("a try of %q is not counted (CountTries=yes): %v", e.Path, err))
			continue
		}
		if e.Path = tries[i].path; tries[i].taken {
			e.Changed = tries[i].changed
			taken = append(taken, e)
		}
	}
	return taken, warnings
}

// newIn are the extensions whose identity is not known.
func newIn(all *opened, known []string) (fresh []*extension.Opened) {
	for _, e := range all.extensions {
		if !slices.Contains(known, e.Identity) {
			fresh = append(fresh, e)
		}
	}
	return fresh
}

// tried is what a try came to.
type tried struct {
	path, changed string // where it is afterwards, see [extension.Picked]
	taken         bool
	err           error
}

func tryOf(p *extension.Picked) (t tried) {
	if p.Entry == nil {
		return tried{path: p.Path}
	}
	if t.path, t.taken, t.err = p.Entry.Try(); t.taken {
		t.changed = p.Renamed(t.path)
	}
	return t
}

// giveBack gives back what was taken and not used. Must run in the host view.
func (t trial) giveBack() error {
	var errs []error
	for _, e := range t {
		errs = append(errs, e.Entry.GiveBack())
	}
	return errors.Join(errs...)
}

// uncounted are those of the extensions whose names do not keep count of a failure:
// where another service has found the version good meanwhile, too. Must run in the
// host view.
func (t trial) uncounted(all []*extension.Opened) (rest []*extension.Opened) {
	for _, e := range all {
		if slices.Contains(t, e) {
			if counted, err := e.Entry.Counted(); counted && err == nil {
				continue
			}
		}
		rest = append(rest, e)
	}
	return rest
}

// shortly bounds work in the host view that is done also when ctx is over.
func shortly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), exchangeBound)
}

// try takes the tries of a reload, once. What a path unit triggers (--if-changed)
// takes none: the rename would trigger it again.
func (t *transaction) try(ctx context.Context, is *situation, m *made) {
	if !is.settings.CountTries || t.IfChanged || len(t.trial) > 0 {
		return
	}
	ctx, cancel := shortly(ctx)
	defer cancel()
	var warnings []string
	t.trial, warnings = take(ctx, t.host, m.all, is.record.Current.Identities())
	t.res.Warnings = append(t.res.Warnings, warnings...)
}

// untry gives the tries back of what was never shown to the service.
func (t *transaction) untry(ctx context.Context) {
	if t.changed || len(t.trial) == 0 {
		return
	}
	ctx, cancel := shortly(ctx)
	defer cancel()
	t.warnOf("give tries back", t.host.Do(ctx, t.trial.giveBack))
	t.trial = nil
}

// good takes the counters off the names of what is live and did well, and writes
// the new paths into the record, which was committed.
func (t *transaction) good(ctx context.Context, is *situation, r *state.Record, live []*extension.Picked) {
	if !is.settings.CountTries {
		return
	}
	ctx, cancel := shortly(ctx)
	defer cancel()
	names, err := nsmount.Do(ctx, t.host, func() (map[string]tried, error) { return takeCountersOff(live) })
	t.warnOf("take the counter of tries off", err)
	renamed := false
	for i := range r.Current.Extensions {
		e := &r.Current.Extensions[i]
		if now := names[e.Identity]; now.path != "" {
			e.Path, e.Changed, renamed = now.path, now.changed, true
		}
	}
	if renamed {
		t.warnOf("write the new names down", t.lock.Save(r))
	}
}

// takeCountersOff returns the new names, by identity. Must run in the host view.
func takeCountersOff(live []*extension.Picked) (names map[string]tried, err error) {
	names = map[string]tried{}
	var errs []error
	for _, p := range live {
		if p.Entry == nil {
			continue
		}
		path, err := p.Entry.Good()
		if err == nil && path != p.Path {
			names[p.Identity] = tried{path: path, changed: p.Renamed(path)}
		}
		errs = append(errs, err)
	}
	// One that fails leaves the others as they are.
	return names, errors.Join(errs...)
}

// count takes the tries of a start. They come off the names when a reload finds the
// service running: nobody is left here to see how it does. What the command never
// came to see is given back.
func (s *start) count(is *situation, m *made) steps.Step[trial] {
	return steps.Step[trial]{
		Do: func(ctx context.Context) (trial, error) { return s.take(ctx, is, m, nil), nil },
		Undo: func(ctx context.Context, taken trial) error {
			if s.shown {
				return nil
			}
			if err := s.host.Do(ctx, taken.giveBack); err != nil {
				s.warn(fmt.Sprintf("give tries back (CountTries=yes): %v", err))
			}
			return nil
		},
	}
}

// take takes a try of each version whose identity is not known.
func (s *start) take(ctx context.Context, is *situation, m *made, known []string) trial {
	if !is.settings.CountTries {
		return nil
	}
	taken, warnings := take(ctx, s.host, m.all, known)
	s.warn(warnings...)
	return taken
}

func (t *transaction) warnOf(what string, err error) {
	if err != nil {
		t.addWarning(fmt.Sprintf("%s (CountTries=yes): %v", what, err))
	}
}

// lastResort names what is picked although its name says that it failed each time.
func lastResort(s settings.Settings, p *extension.Picked) []string {
	for _, c := range p.Candidates {
		if c.Why == "" && c.TriesLeft == 0 && s.CountTries {
			return []string{fmt.Sprintf("%q has no tries left, and there is no other version", c.Path)}
		}
	}
	return nil
}

func paths(g state.Generation) []string {
	var all []string
	for _, e := range g.Extensions {
		all = append(all, e.Path)
	}
	return all
}
