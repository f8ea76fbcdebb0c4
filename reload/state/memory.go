package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	memoryFile  = "memory.json"
	historyFile = "history.jsonl"

	memoryMode = 0o600

	// maxRefused bounds how many refusals are remembered; the oldest go first.
	maxRefused = 200
	// maxHistory bounds the history file, whatever KeepGenerations= says.
	maxHistory = maxFile / 2
)

// Memory reads what is refused and held. Where nothing is remembered, or /var is
// not there, it is empty.
func (u *Unit) Memory() (*Memory, error) {
	m := &Memory{}
	err := u.inMemory(func(d dir) (err error) { m, err = loadMemory(d); return err })
	if err != nil {
		return nil, fmt.Errorf("read memory of %q: %w%s", u.name, err, remedyFor(err))
	}
	return m, nil
}

// Memory is [Unit.Memory] with the lock held, in any mount namespace.
func (l *Lock) Memory() (*Memory, error) {
	if l.memory.f == nil {
		return &Memory{}, nil
	}
	m, err := loadMemory(l.memory)
	if err != nil {
		return nil, fmt.Errorf("read memory of %q: %w", l.unit.name, err)
	}
	return m, nil
}

// History reads the generations of the unit, oldest first.
func (u *Unit) History() (History, error) {
	var h History
	err := u.inMemory(func(d dir) (err error) { h, err = loadHistory(d); return err })
	if err != nil {
		return nil, fmt.Errorf("read history of %q: %w%s", u.name, err, remedyFor(err))
	}
	return h, nil
}

// History is [Unit.History] with the lock held, in any mount namespace.
func (l *Lock) History() (History, error) {
	if l.memory.f == nil {
		return nil, nil
	}
	h, err := loadHistory(l.memory)
	if err != nil {
		return nil, fmt.Errorf("read history of %q: %w", l.unit.name, err)
	}
	return h, nil
}

// NextNumber returns the number that a new generation gets: one more than the
// highest of the record, which may be nil, and of the history.
func (l *Lock) NextNumber(r *Record) (uint64, error) {
	var last uint64
	if r != nil {
		last = r.Current.Number
		if r.Pending != nil {
			last = max(last, r.Pending.Number)
		}
	}
	if l.memory.f == nil {
		return last + 1, nil
	}
	lines, err := readLines(l.memory)
	if err != nil {
		return 0, fmt.Errorf("read history of %q: %w", l.unit.name, err)
	}
	// The last line has the highest number, unless it notes something that got none.
	for i := len(lines) - 1; i >= 0; i-- {
		n, err := decodeNumber(l.memory.path(historyFile), lines[i])
		if err != nil {
			return 0, fmt.Errorf("read history of %q: %w", l.unit.name, err)
		}
		if n > 0 {
			last = max(last, n)
			break
		}
	}
	return last + 1, nil
}

// Remember lets change change the memory, and writes it where that made a
// difference.
func (l *Lock) Remember(change func(*Memory)) *Warning {
	return l.warn(func() error {
		m, err := loadMemory(l.memory)
		if err != nil {
			return err
		}
		m.Schema = Schema
		old, err := json.Marshal(m)
		if err != nil {
			return err
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil || bytes.Equal(old, b) {
			return err
		}
		return l.memory.replaceSynced(memoryFile, append(b, '\n'))
	})
}

// AddHistory appends a generation to the history, and keeps the last keep of those
// that were committed, at least one, and of the others since then as many. The last
// good one is kept in addition: it is what a start falls back on. The same refusal
// again, as of a reload that is tried every minute, takes the place of the last one.
func (l *Lock) AddHistory(g Generation, keep int) *Warning {
	return l.warn(func() error {
		lines, err := readLines(l.memory)
		if err != nil {
			return err
		}
		if err := refuseNewer(l.memory, lines); err != nil {
			return err
		}
		if n := len(lines); n > 0 && g.Outcome == OutcomeRefused {
			last, err := decodeGeneration(l.memory.path(historyFile), lines[n-1])
			if err == nil && sameRefusal(last, &g) {
				g.Number, lines = last.Number, lines[:n-1]
			}
		}
		b, err := encodeLine(&g)
		if err != nil {
			return err
		}
		lines = trim(append(lines, b), max(keep, 1), g.Good)
		return l.memory.replaceSynced(historyFile, append(bytes.Join(lines, newline), '\n'))
	})
}

func (d dir) replaceSynced(name string, contents []byte) error {
	if err := d.replace(name, contents, memoryMode); err != nil {
		return err
	}
	return d.sync(name)
}

// Complete adds the generation of the record to the history where that lacks it:
// whoever committed it was killed before it came to that.
func (l *Lock) Complete(current *Generation, keep int) *Warning {
	if l.memory.f == nil {
		return nil // that it cannot be remembered is said elsewhere
	}
	lines, err := readLines(l.memory)
	if err != nil {
		return nil
	}
	number := func(i int) (uint64, error) { return decodeNumber(l.memory.path(historyFile), lines[i]) }
	if !lacks(current.Number, len(lines), number) {
		return nil
	}
	return l.AddHistory(*current, keep)
}

func (l *Lock) warn(write func() error) *Warning {
	if l.memory.f == nil {
		return l.warning
	}
	if err := write(); err != nil {
		return &Warning{Dir: l.unit.memory, Err: err}
	}
	return nil
}

// inMemory calls f with the memory's directory, and not at all where there is none.
func (u *Unit) inMemory(f func(dir) error) error {
	d, err := openDir(u.memory)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return f(dir{f: d})
}

func loadMemory(d dir) (*Memory, error) {
	b, err := d.read(memoryFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &Memory{}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeMemory(d.path(memoryFile), b)
}

// Settle forgets what the last committed generation of a record has overcome: that
// something of it was refused or is held, and the hold of a ref that gives something
// newer now. compare orders two versions. While a generation is pending, a rollback
// holds what is still the current one, so nothing is forgotten then.
func (m *Memory) Settle(r *Record, compare func(a, b string) int) {
	if r.Pending != nil {
		return
	}
	for _, e := range r.Current.Extensions {
		m.Accept(e.Identity)
		m.Holds = slices.DeleteFunc(m.Holds, func(h Hold) bool {
			newer := h.Version != "" && compare(e.Version, h.Version) > 0
			return h.Of(e.Kind, e.Ref) && (newer || h.Covers(e.Version, e.Identity, compare))
		})
	}
}

// IsRefused says whether an identity is refused, and why.
func (m *Memory) IsRefused(identity string) (why string, refused bool) {
	for i := range m.Refused {
		if m.Refused[i].Identity == identity {
			return m.Refused[i].Why, true
		}
	}
	return "", false
}

// Refuse remembers that an identity must not be picked. A second refusal replaces
// the first; beyond 200 the oldest is forgotten.
func (m *Memory) Refuse(r Refused) {
	m.Accept(r.Identity)
	m.Refused = append(m.Refused, r)
	if n := len(m.Refused) - maxRefused; n > 0 {
		m.Refused = slices.Delete(m.Refused, 0, n)
	}
}

// Accept forgets that an identity was refused.
func (m *Memory) Accept(identity string) {
	m.Refused = slices.DeleteFunc(m.Refused, func(r Refused) bool { return r.Identity == identity })
}

// IsHeld says whether a rollback left a candidate of a ref, and why; compare orders
// two versions.
func (m *Memory) IsHeld(kind, ref, version, identity string, compare func(a, b string) int) (why string, held bool) {
	h := m.HoldOf(kind, ref)
	if h == nil || !h.Covers(version, identity, compare) {
		return "", false
	}
	return h.Why, true
}

// HoldOf returns the hold of a ref, nil where there is none.
func (m *Memory) HoldOf(kind, ref string) *Hold {
	for i := range m.Holds {
		if m.Holds[i].Of(kind, ref) {
			return &m.Holds[i]
		}
	}
	return nil
}

// Hold sets the hold of a ref; it replaces the one that there was.
func (m *Memory) Hold(h Hold) {
	m.Unhold(h.Kind, h.Ref)
	m.Holds = append(m.Holds, h)
}

// Unhold removes the hold of a ref.
func (m *Memory) Unhold(kind, ref string) {
	m.Holds = slices.DeleteFunc(m.Holds, func(h Hold) bool { return h.Of(kind, ref) })
}
