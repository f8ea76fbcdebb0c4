package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// check runs ReloadCheck= before the command is executed, unless this very set
// passed it before. Where it fails, the last set that passed and can still be had is
// used instead: what a reload refused must not be what the next restart runs with, nor
// the next boot.
func (s *start) check(is *situation, who *identity, m *made) steps.Step[*made] {
	return steps.Step[*made]{Do: func(ctx context.Context) (*made, error) {
		if len(is.settings.ReloadCheck) == 0 {
			return m, nil
		}
		history, err := s.lock.History()
		if err != nil {
			return nil, err
		}
		err = s.passes(ctx, is, who, history, m)
		var failed *CommandError
		if err == nil || !errors.As(err, &failed) {
			return m, err
		}
		s.refuse(ctx, is, m, history.LastGood(), failed)
		return s.fallBack(ctx, is, who, history, err)
	}}
}

// passes runs the check, unless this very set passed it before.
func (s *start) passes(ctx context.Context, is *situation, who *identity, history state.History, m *made) error {
	if history.KnownGood(attemptOf(m.all.picked())) {
		return nil
	}
	return s.rehearse(ctx, is, who, m)
}

// rehearse runs the check in a copy of our own namespace, as the user that the
// command will have.
func (s *start) rehearse(ctx context.Context, is *situation, who *identity, m *made) error {
	self, err := service.Open(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	in := service.Place{Process: self, Environ: os.Environ()}
	if who != nil {
		status, err := self.Status()
		if err != nil {
			return err
		}
		c := who.user.Credential(status.Credential)
		in.Credential = &c
	}
	return rehearseIn(ctx, s.ns, m.staged, is.settings.ReloadCheck, in, func(text string) { s.warn(text) })
}

// refuse remembers the extensions that the last good set did not have, and that this
// set was tried.
func (s *start) refuse(ctx context.Context, is *situation, m *made, good *state.Generation, why error) {
	var passed []string
	if good != nil {
		passed = good.Identities()
	}
	trial := s.take(ctx, is, m, passed)
	w := s.lock.Remember(func(memory *state.Memory) {
		for _, e := range m.all.extensions {
			if good != nil && verdict(why) && !slices.Contains(passed, e.Identity) && !slices.Contains(trial, e) {
				memory.Refuse(refusal(e.Picked, why))
			}
		}
	})
	if w == nil {
		g := generationOf(is, m.source, triggerRun, m.all, m.layers, nil)
		g.Outcome, g.Why, g.Good = state.OutcomeRefused, why.Error(), false
		w = s.lock.AddHistory(g, is.settings.KeepGenerations)
	}
	s.warnOf(w)
}

// maxFallBack bounds how many earlier sets a start tries to have.
const maxFallBack = 10

// fallBack makes the last set that passed the check, or where that cannot be had any
// more, the one before. One whose images were changed since, under the identity that
// they had, has to pass it again. why is what the check said of the newest.
func (s *start) fallBack(ctx context.Context, is *situation, who *identity, history state.History, why error) (*made, error) {
	good, err := s.goodSets(history)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("%w; no set of extensions has passed it before, so there is none to start with: mend the extension", why)
	}
	var lost []error
	for i := range good {
		m, err := s.makeAgain(ctx, is, &good[i])
		if err == nil {
			if err = s.passes(ctx, is, who, history, m); err != nil {
				err = fmt.Errorf("it is no longer what passed: %w", err)
			}
		}
		if err == nil {
			s.fellBack(is, m, good[i].Number, fmt.Sprintf("%v; starting with generation %d, the last that passed%s", why, good[i].Number, exceptFor(lost)))
			return m, nil
		}
		if extension.Shortage(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("%w; start with generation %d: %w", why, good[i].Number, err)
		}
		lost = append(lost, fmt.Errorf("generation %d: %w", good[i].Number, err))
	}
	return nil, fmt.Errorf("%w; of what passed it before nothing can be had any more (%w): mend the extension, or install what is gone again", why, errors.Join(lost...))
}

// exceptFor names the generations that could not be had.
func exceptFor(lost []error) string {
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf(" and can be had (not %v)", errors.Join(lost...))
}

// goodSets are the generations that passed the checks, the last one first, each set of
// extensions once. One that has something in it which was held or refused since is not
// among them.
func (s *start) goodSets(history state.History) (good []state.Generation, err error) {
	memory, err := s.lock.Memory()
	if err != nil {
		return nil, err
	}
	for _, g := range slices.Backward(history) {
		same := func(o state.Generation) bool {
			return slices.EqualFunc(o.Extensions, g.Extensions, func(a, b state.Extension) bool { return a.Identity == b.Identity && a.Path == b.Path })
		}
		if g.Good && !unwanted(&g, memory) && !slices.ContainsFunc(good, same) && len(good) < maxFallBack {
			good = append(good, g)
		}
	}
	return good, nil
}

// makeAgain opens and stages the extensions of an earlier generation.
func (s *start) makeAgain(ctx context.Context, is *situation, g *state.Generation) (*made, error) {
	picked, err := nsmount.Do(ctx, s.host, func() ([]*extension.Picked, error) { return pickTrusted(*g, is.flags.AnyPath) })
	if err != nil {
		return nil, err
	}
	// Staging has used the carried mounts of the view before up.
	v, err := s.survey(is).Do(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.open(is, v, picked).Do(ctx)
	if err != nil {
		return nil, err
	}
	return s.stage(is, v, all).Do(ctx)
}
