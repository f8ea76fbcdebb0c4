package soak

import (
	"maps"
	"slices"
)

// A model says what a service must have, from what was done. It knows nothing of how that comes about.
type model struct {
	shelves   []*shelf
	committed []set // as the history has them, the last one is the current one
	refused   map[item]bool
	holds     map[int]hold // by index of shelf
}

// A set is the version of each shelf.
type set []int

// An item is one version of one shelf.
type item struct{ shelf, version int }

// A hold is what a rollback left: the versions above the one that it went back to, up to another.
type hold struct{ above, upTo int }

// keep is KeepGenerations=.
const keep = 6

func newModel(shelves []*shelf) *model {
	m := &model{shelves: shelves, refused: map[item]bool{}, holds: map[int]hold{}}
	now, _ := m.wanted(false)
	m.committed = []set{now}
	return m
}

func (m *model) clone() *model {
	c := *m
	c.committed, c.refused, c.holds = slices.Clone(m.committed), maps.Clone(m.refused), maps.Clone(m.holds)
	return &c
}

func (m *model) current() set { return m.committed[len(m.committed)-1] }

func (m *model) same(o *model) bool {
	return slices.EqualFunc(m.lasting(), o.lasting(), func(a, b set) bool { return slices.Equal(a, b) }) &&
		maps.Equal(m.refused, o.refused) && maps.Equal(m.holds, o.holds)
}

// lasting are the committed generations but for one: where a reload was killed between its commit and its line of
// history, the file has one more that can be gone back to, until somebody adds the line.
func (m *model) lasting() []set { return m.committed[max(0, len(m.committed)-keep):] }

// wanted is what a reload picks: of each shelf the newest that is neither refused nor held.
func (m *model) wanted(force bool) (set, bool) {
	var all set
	for i, s := range m.shelves {
		best := 0
		for v := range s.versions {
			if h := m.holds[i]; !force && (m.refused[item{i, v}] || v > h.above && v <= h.upTo) {
				continue
			}
			best = max(best, v)
		}
		all = append(all, best)
	}
	return all, !slices.Contains(all, 0)
}

// Exit codes of extexec.
const (
	done      = 0
	failed    = 1
	checked   = 3
	takenBack = 4
	// undoFailed is right only where a kill came before, and what is to come back is gone.
	undoFailed = 5
	locked     = 75
)

// reload is what a reload must come to.
func (m *model) reload(force bool) (code int) {
	want, ok := m.wanted(force)
	if !ok {
		return failed
	}
	if code := m.goLive(want, force); code != done {
		return code
	}
	for i, v := range want {
		if force || v > m.holds[i].upTo {
			delete(m.holds, i)
		}
	}
	return done
}

// goLive takes a set through the checks.
func (m *model) goLive(want set, asked bool) (code int) {
	for i, v := range want {
		if !m.shelves[i].flaws[v].opens() {
			return failed
		}
	}
	for _, check := range []struct {
		fails flaw
		code  int
	}{{failsCheck, checked}, {failsVerify, takenBack}} {
		for i, v := range want {
			if m.shelves[i].flaws[v] == check.fails {
				m.refuse(want)
				return check.code
			}
		}
	}
	if asked || !slices.Equal(want, m.current()) {
		m.committed = append(m.committed, want)
		m.committed = m.committed[max(0, len(m.committed)-keep):]
	}
	for i, v := range want {
		if asked {
			delete(m.refused, item{i, v})
		}
	}
	return done
}

// refuse remembers what the current generation does not have.
func (m *model) refuse(want set) {
	for i, v := range want {
		if m.current()[i] != v {
			m.refused[item{i, v}] = true
		}
	}
}

// rollback is what a rollback must come to.
func (m *model) rollback() (code int) {
	left := m.current()
	to := m.back()
	if to == nil {
		return failed
	}
	if !m.there(to) {
		return failed
	}
	old := m.holds
	if code := m.goLive(to, true); code != done {
		return code
	}
	m.holds = map[int]hold{}
	for i, v := range to {
		if upTo := max(left[i], old[i].upTo); upTo > v {
			m.holds[i] = hold{above: v, upTo: upTo}
		}
	}
	return done
}

// start is what a start must come to with a sound set.
func (m *model) start(want set) {
	m.committed = append(m.committed, want)
	m.committed = m.committed[max(0, len(m.committed)-keep):]
	m.settle()
}

// settle forgets the holds of what is live, and of what something newer is live of. That is for the current generation
// that was put back after a kill: a rollback holds what it is to leave before it leaves it, so that the next reload goes
// on with it; where that cannot, the rollback is over, and what is live again is held no more.
func (m *model) settle() {
	for i, v := range m.current() {
		if m.holds[i].above < v {
			delete(m.holds, i)
		}
	}
}

// there tells whether a set can still be had.
func (m *model) there(all set) bool {
	for i, v := range all {
		if _, ok := m.shelves[i].versions[v]; !ok {
			return false
		}
	}
	return true
}

// back is the last generation with others than the current one has, none of them refused or held.
func (m *model) back() set {
	for i := len(m.committed) - 2; i >= 0; i-- {
		g := m.committed[i]
		if slices.Equal(g, m.current()) {
			continue
		}
		unwanted := false
		for i, v := range g {
			h := m.holds[i]
			unwanted = unwanted || m.refused[item{i, v}] || v > h.above && v <= h.upTo
		}
		if !unwanted {
			return g
		}
	}
	return nil
}
