package soak

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/testclient"
)

// Two worlds, each with steps of its own order, run side by side.
const (
	worlds        = 2
	stepsPerRound = 50
)

// TestSoak does random things until the time is over, and then prints what they were.
func TestSoak(t *testing.T) {
	p := newPlace(t)
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	fmt.Printf("soak for %s, seed %d\n", *lasts, *seed)
	tally := &tally{}
	var all []*world
	var services []*service
	for i := range worlds {
		w := newWorld(p, i, tally)
		all = append(all, w)
		services = append(services, w.services...)
	}
	for end := time.Now().Add(*lasts); time.Now().Before(end) && !t.Failed(); {
		var wg sync.WaitGroup
		for _, w := range all {
			wg.Go(func() { w.round(end) })
		}
		wg.Wait()
		if t.Failed() {
			break
		}
		for _, w := range all {
			w.settleAll()
		}
		tally.leak(t, lost(services), p.orphans(services...), p.stray())
		if want := squashfses(services); len(p.awaitLoops(want)) != want {
			tally.leak(t, p.loops(), []string{fmt.Sprintf("that are %d loop devices, want %d", len(p.loops()), want)})
		}
	}
	for _, s := range services {
		tally.look(t, s)
		s.stop()
	}
	tally.leak(t, p.orphans(), p.awaitLoops(0))
	fmt.Println(tally)
	if tally.failedLookups > 0 || tally.leaks > 0 {
		t.Errorf("%d failed lookups, %d leaks", tally.failedLookups, tally.leaks)
	}
	for _, w := range all {
		if t.Failed() {
			t.Logf("the last steps of world %d:\n%s", w.number, strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
		}
	}
}

// A tally is what is printed at the end.
type tally struct {
	mu                                                            sync.Mutex
	reloads, atOnce, refusals, takenBack, rollbacks, unholds      int
	repairs, plans, restarts                                      int
	kills, killedLive, killedHalf, terms, installs, bad, removals int
	lookups, failedLookups                                        uint64
	leaks                                                         int
}

func (c *tally) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

func (c *tally) String() string {
	return fmt.Sprintf("installed:      %d, %d of them bad; removed: %d\n", c.installs, c.bad, c.removals) +
		fmt.Sprintf("reloads:        %d, and %d at once with others\n", c.reloads, c.atOnce) +
		fmt.Sprintf("refusals:       %d\n", c.refusals) +
		fmt.Sprintf("rollbacks:      %d, and %d taken back by a failed verify; unholds: %d\n", c.rollbacks, c.takenBack, c.unholds) +
		fmt.Sprintf("restarts:       %d, plans: %d, repairs: %d\n", c.restarts, c.plans, c.repairs) +
		fmt.Sprintf("kills:          %d (%d were seen to have left something to put in order, %d changed something), SIGTERM: %d\n", c.kills, c.killedHalf, c.killedLive, c.terms) +
		fmt.Sprintf("failed lookups: %d of %d\n", c.failedLookups, c.lookups) +
		fmt.Sprintf("leaks:          %d", c.leaks)
}

func (c *tally) leak(t testing.TB, lists ...[]string) {
	for _, what := range slices.Concat(lists...) {
		t.Errorf("left behind: %s", what)
		c.leaks++
	}
}

// look asks a service what it has seen.
func (c *tally) look(t testing.TB, s *service) {
	r, err := testclient.Ask(s.control(), "forget")
	if err != nil {
		t.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range r.Files {
		c.lookups, c.failedLookups = c.lookups+f.Lookups, c.failedLookups+f.Failed
		if f.Failed > 0 {
			t.Errorf("%s: %d of %d lookups of %s failed, the first with %s", s.name, f.Failed, f.Lookups, f.Path, f.FirstError)
		}
		for content := range f.Contents {
			if _, what, ok := strings.Cut(content, " "); ok && strings.Contains(f.Path, "soak.") && !flaw(strings.TrimSpace(what)).mayBeSeen() {
				t.Errorf("%s: %s was seen to have %q", s.name, f.Path, content)
			}
		}
	}
}

// A world is some services with shelves that they share, and random steps.
type world struct {
	*place
	number   int
	random   *rand.Rand
	shelves  []*shelf
	services []*service
	tally    *tally
	log      []string
	took     time.Duration // a reload, about
}

func newWorld(p *place, number int, tally *tally) *world {
	w := &world{place: p, number: number, random: rand.New(rand.NewPCG(*seed, uint64(number))), tally: tally, took: 15 * time.Millisecond}
	add := func(name string, image, confext bool) *shelf {
		s := newShelf(p.t, filepath.Join(p.dir, fmt.Sprintf("world%d", number), name), name, image, confext)
		s.install(sound)
		w.shelves = append(w.shelves, s)
		return s
	}
	conf, confImage := add("conf", false, true), add("confimage", true, true)
	app, appImage := add("app", false, false), add("appimage", true, false)
	for i, shelves := range [][]*shelf{{appImage, conf}, {confImage, app}, {appImage, confImage, conf, app}} {
		w.services = append(w.services, start(p, fmt.Sprintf("world%d-%d", number, i), shelves...))
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) errorf(s *service, format string, args ...any) {
	w.t.Errorf("world %d, step %d, %s: %s", w.number, len(w.log), s.name, fmt.Sprintf(format, args...))
}

// chance is true so many times of a hundred.
func (w *world) chance(percent int) bool { return w.random.IntN(100) < percent }

func one[T any](w *world, of []T) T { return of[w.random.IntN(len(of))] }

// round does some steps, until the end at most.
func (w *world) round(end time.Time) {
	steps := []struct {
		weight int
		do     func()
	}{
		{20, w.install}, {8, w.remove}, {30, w.reload}, {25, w.kill}, {5, w.term}, {6, w.rollback}, {3, w.unhold}, {3, w.atOnce},
		{4, w.repair}, {4, w.plan}, {4, w.restart},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for range stepsPerRound {
		n := w.random.IntN(total)
		for _, s := range steps {
			if n -= s.weight; n < 0 {
				s.do()
				break
			}
		}
		if w.t.Failed() || time.Now().After(end) {
			break
		}
	}
	for _, s := range w.services {
		w.tally.look(w.t, s)
	}
}

func (w *world) install() {
	s := one(w, w.shelves)
	f := sound
	if w.chance(40) {
		f = one(w, []flaw{release, truncated, failsCheck, failsVerify})
	}
	if f == truncated && !s.image {
		f = release
	}
	w.note("install %s %d %s", s.name, s.install(f), f)
	w.tally.count(&w.tally.installs)
	if f != sound {
		w.tally.count(&w.tally.bad)
	}
}

func (w *world) remove() {
	s := one(w, w.shelves)
	if v := s.removable(); len(v) > 0 {
		gone := one(w, v)
		w.note("remove %s %d", s.name, gone)
		s.remove(gone)
		w.tally.count(&w.tally.removals)
	}
}

func (w *world) reload() {
	s := one(w, w.services)
	var args []string
	switch force := w.chance(10); {
	case force:
		args = []string{"--force"}
	case w.chance(30):
		args = []string{"--if-changed"}
	}
	w.transact(s, "reload", args...)
}

func (w *world) rollback() { w.transact(one(w, w.services), "rollback") }

func (w *world) unhold() {
	s := one(w, w.services)
	w.note("unhold %s", s.name)
	if code, out := s.run("unhold"); code != done {
		w.errorf(s, "unhold: exit code %d\n%s", code, out)
	}
	s.holds = map[int]hold{}
	w.tally.count(&w.tally.unholds)
}

// repair puts in order what a kill has left, and nothing else.
func (w *world) repair() {
	s := one(w, w.services)
	if s.interrupted && !s.there(s.current()) {
		return // it says so, and leaves that to a reload
	}
	w.note("repair %s: interrupted %v", s.name, s.interrupted)
	code, out := s.run("repair")
	now, err := s.recorded()
	if err != nil || code != done {
		w.errorf(s, "repair: exit code %d, %v\n%s", code, err, out)
		return
	}
	after := s.clone()
	if s.interrupted {
		after.settle()
	}
	w.compare(s, now, after)
	s.accept(now)
	s.settled()
	if err := s.view(); err != nil {
		w.errorf(s, "after repair: %v\n%s", err, out)
	}
	w.tally.count(&w.tally.repairs)
}

// plan says what a reload would pick.
func (w *world) plan() {
	s := one(w, w.services)
	want, ok := s.wanted(false)
	if !ok || !s.open(want) {
		return
	}
	w.note("plan %s: want %v", s.name, want)
	var plan struct {
		Action string
		Refs   []struct {
			Ref    string
			Picked *struct{ Path string }
		}
	}
	if err := s.ask("plan", &plan); err != nil {
		w.errorf(s, "%v", err)
		return
	}
	picked := make(set, len(s.shelves))
	for i, shelf := range s.shelves {
		for _, r := range plan.Refs {
			if r.Ref == shelf.ref() && r.Picked != nil {
				picked[i] = shelf.version(r.Picked.Path)
			}
		}
	}
	if changes := s.interrupted || !slices.Equal(want, s.current()); !slices.Equal(picked, want) || (plan.Action == "exchange") != changes {
		w.errorf(s, "it plans to %s to %v; live is %s, interrupted %v", plan.Action, picked, s.model, s.interrupted)
	}
	w.tally.count(&w.tally.plans)
}

// restart starts a service anew, also where a reload or a rollback was killed in the one before. What a start makes of
// sets that are not sound is left to the tests of package reload.
func (w *world) restart() {
	s := one(w, w.services)
	want, ok := s.wanted(false)
	if !ok || !s.sound(want) {
		return
	}
	w.note("restart %s: interrupted %v, want %v", s.name, s.interrupted, want)
	w.tally.look(w.t, s)
	s.stop()
	s.start(want)
	s.launch()
	w.tally.count(&w.tally.restarts)
}

func (s *service) sound(all set) bool {
	for i, v := range all {
		if s.shelves[i].flaws[v] != sound {
			return false
		}
	}
	return true
}

// predict has the model do what a verb does.
func predict(m *model, verb string, args []string) (code int) {
	if verb == "rollback" {
		return m.rollback()
	}
	return m.reload(slices.Contains(args, "--force"))
}

// transact runs a reload or a rollback to its end, and compares what is then with the model.
func (w *world) transact(s *service, verb string, args ...string) {
	after := s.clone()
	want := predict(after, verb, args)
	w.note("%s %s %v: want %d, interrupted %v, %v", verb, s.name, args, want, s.interrupted, after.current())
	began := time.Now()
	code, out := s.run(verb, args...)
	w.took = (7*w.took + time.Since(began)) / 8
	if code == undoFailed && s.interrupted && want != done && !s.there(s.current()) {
		w.renew(s)
		return
	}
	// What an interrupted one has left is put in order, whatever comes of this.
	if code != want && !(s.interrupted && want != done && code == takenBack) {
		w.errorf(s, "%s: exit code %d, want %d\n%s", verb, code, want, out)
		return
	}
	w.tally.ended(verb, code)
	now, err := s.recorded()
	if err != nil {
		w.errorf(s, "%v", err)
		return
	}
	if s.interrupted {
		// Whether the set that was there already is a new generation depends on how far the kill let it come.
		after.committed = append(now.committed[:len(now.committed)-1:len(now.committed)-1], after.current())
		after.settle()
	}
	w.compare(s, now, after)
	s.accept(now)
	s.settled()
	if err := s.view(); err != nil {
		w.errorf(s, "after %s: %v\n%s", verb, err, out)
	}
}

// renew does what is left to do after a kill has left a part of something new, which turns out to be bad, while
// the last good one was removed: it installs newer ones.
func (w *world) renew(s *service) {
	w.note("what %s had was removed: new versions", s.name)
	now, err := s.recorded()
	if err != nil {
		w.errorf(s, "%v", err)
		return
	}
	s.accept(now)
	for i, shelf := range s.shelves {
		s.shown[i][shelf.install(sound)] = true
	}
	w.transact(s, "reload")
}

// compare holds what extexec has recorded against the model.
func (w *world) compare(s *service, now *recorded, want *model) {
	if now.interrupted || now.number < s.number || !now.same(want) {
		w.errorf(s, "recorded is %s (interrupted: %v, generation %d, was %d), want %s", now.model, now.interrupted, now.number, s.number, want)
	}
}

func (m *model) String() string {
	return fmt.Sprintf("generations %v, refused %v, holds %v", m.committed, m.refused, m.holds)
}

func (c *tally) ended(verb string, code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case code == takenBack:
		c.takenBack++
	case code != done:
		c.refusals++
	case verb == "rollback":
		c.rollbacks++
	default:
		c.reloads++
	}
}
