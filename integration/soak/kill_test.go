package soak

import (
	"bytes"
	"errors"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// kill kills a reload or a rollback at a random moment. Afterwards each file is of the old set or of the new one.
func (w *world) kill() {
	s := one(w, w.services)
	verb := "reload"
	if w.chance(15) {
		verb = "rollback"
	}
	w.note("kill %s %s", verb, s.name)
	w.interrupt(s, verb, syscall.SIGKILL)
	w.tally.count(&w.tally.kills)
}

// term ends one in good order: it takes back what it did.
func (w *world) term() {
	s := one(w, w.services)
	w.note("terminate reload %s", s.name)
	was := s.interrupted
	w.interrupt(s, "reload", syscall.SIGTERM)
	w.tally.count(&w.tally.terms)
	if was || w.t.Failed() {
		return
	}
	if s.interrupted {
		w.errorf(s, "SIGTERM has left something to put in order: %s", s.model)
	}
	s.settled()
	if err := s.view(); err != nil {
		w.errorf(s, "after SIGTERM: %v", err)
	}
}

// interrupt sends a signal to extexec at a random moment.
func (w *world) interrupt(s *service, verb string, signal syscall.Signal) {
	before, after := s.clone(), s.clone()
	predict(after, verb, nil)
	if s.interrupted {
		after.settle()
	}
	if tried, ok := s.tried(verb); ok {
		s.maybe(tried)
	}
	cmd := s.command(verb)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		w.errorf(s, "%v", err)
		return
	}
	time.Sleep(time.Duration(w.random.Float64() * 1.3 * float64(w.took)))
	_ = cmd.Process.Signal(signal) // it may have ended
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		w.errorf(s, "%v", err)
	}
	now, err := s.recorded()
	if err != nil {
		w.errorf(s, "after signal %d: %v\n%s", signal, err, out.String())
		return
	}
	// What is remembered is what was, or what would have become of it.
	for what, ok := range map[string]bool{
		"the generation":  slices.Equal(now.current(), before.current()) || slices.Equal(now.current(), after.current()),
		"what is refused": equal(now.refused, before.refused) || equal(now.refused, after.refused),
		"what is held":    equal(now.holds, before.holds) || equal(now.holds, after.holds),
	} {
		if !ok {
			w.errorf(s, "after signal %d, %s is neither old nor new: %s; was %s, would be %s\n%s", signal, what, now.model, before, after, out.String())
		}
	}
	s.accept(now)
	s.maybe(s.current())
	if err := s.view(); err != nil {
		w.errorf(s, "after signal %d: %v\n%s", signal, err, out.String())
	}
	if now.interrupted {
		w.tally.count(&w.tally.killedHalf)
	}
	if !slices.Equal(now.current(), before.current()) {
		w.tally.count(&w.tally.killedLive)
	}
}

func equal[K, V comparable](a, b map[K]V) bool {
	for k, v := range a {
		if got, ok := b[k]; !ok || got != v {
			return false
		}
	}
	return len(a) == len(b)
}

// tried is what a verb makes live, if only for a moment; ok is false where it does not come as far.
func (s *service) tried(verb string) (tried set, ok bool) {
	if verb == "rollback" {
		tried = s.back()
		return tried, tried != nil
	}
	if tried, ok = s.wanted(false); !ok {
		return nil, false
	}
	for i, v := range tried {
		if !s.shelves[i].flaws[v].mayBeSeen() {
			return nil, false
		}
	}
	return tried, true
}

// settleAll reloads every service to its end; what a reload refuses makes way for the next version.
func (w *world) settleAll() {
	for _, s := range w.services {
		for range 20 {
			if want, ok := s.wanted(false); ok && slices.Equal(want, s.current()) {
				break
			}
			w.transact(s, "reload")
			if w.t.Failed() {
				return
			}
			if want, ok := s.wanted(false); !ok || !s.open(want) {
				break // only a new version can help
			}
		}
		w.transact(s, "reload")
	}
}

func (s *service) open(all set) bool {
	for i, v := range all {
		if !s.shelves[i].flaws[v].opens() {
			return false
		}
	}
	return true
}

// atOnce reloads one service many times at once, while new versions are installed.
func (w *world) atOnce() {
	s := one(w, w.services)
	for _, shelf := range s.shelves {
		shelf.install(sound)
	}
	w.note("reload %s at once", s.name)
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		if i == n/2 {
			for _, shelf := range s.shelves {
				shelf.install(sound)
			}
		}
		wg.Go(func() {
			if code, out := s.run("reload"); code != done && code != locked {
				w.errorf(s, "one of many reloads: exit code %d\n%s", code, out)
			}
			w.tally.count(&w.tally.atOnce)
		})
	}
	wg.Wait()
	now, err := s.recorded()
	if err != nil {
		w.errorf(s, "%v", err)
		return
	}
	want, _ := s.wanted(false)
	if !slices.Equal(now.current(), want) || now.interrupted {
		w.errorf(s, "after many reloads at once, recorded is %s, want %v", now.model, want)
	}
	s.accept(now)
	s.settled()
	if err := s.view(); err != nil {
		w.errorf(s, "after many reloads at once: %v", err)
	}
}
