package state

import (
	"errors"
	"fmt"
	"io/fs"
)

const (
	recordFile = "state.json"
	nextFile   = "state.json.next"

	recordMode = 0o644
)

// Load reads the record, without the lock: it may be changed while, but is never
// seen half written. Without a record the error is an [fs.ErrNotExist].
func (u *Unit) Load() (*Record, error) {
	f, err := openDir(u.record)
	if err != nil {
		return nil, fmt.Errorf("read record of %q: %w%s", u.name, err, remedyFor(err))
	}
	defer f.Close()
	r, err := load(dir{f: f})
	if err != nil {
		return nil, fmt.Errorf("read record of %q: %w", u.name, err)
	}
	return r, nil
}

// Load is [Unit.Load] with the lock held, in any mount namespace.
func (l *Lock) Load() (*Record, error) {
	r, err := load(l.record)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		l.checked = true
	}
	if err != nil {
		return nil, fmt.Errorf("read record of %q: %w", l.unit.name, err)
	}
	return r, nil
}

// load reads the committed record first: a commit in between then shows as an old
// record with nothing pending, which it was a moment ago.
func load(d dir) (*Record, error) {
	current, err := loadFile(d, recordFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	next, nextErr := loadFile(d, nextFile)
	switch {
	case errors.Is(nextErr, fs.ErrNotExist):
		return current, err
	case nextErr != nil:
		return nil, nextErr
	case current == nil:
		// The very first generation was interrupted.
		current = next
		pending := next.Current
		current.Pending, current.Current = &pending, Generation{}
		return current, nil
	}
	current.Pending = &next.Current
	return current, nil
}

func loadFile(d dir, name string) (*Record, error) {
	b, err := d.read(name)
	if err != nil {
		return nil, err
	}
	return decodeRecord(d.path(name), b)
}

// Save makes r the record. Its schema and name are set. What was pending stays so.
func (l *Lock) Save(r *Record) error {
	if err := l.put(recordFile, r); err != nil {
		return fmt.Errorf("save record of %q: %w%s", l.unit.name, err, remedyFor(err))
	}
	return nil
}

// Remove takes the record away: what it says was never to be seen.
func (l *Lock) Remove() error {
	if err := l.record.remove(recordFile); err != nil {
		return fmt.Errorf("remove record of %q: %w", l.unit.name, err)
	}
	return nil
}

// Begin writes next, whose Current is the generation that is about to become live,
// beside the record: until Commit or Abort, Load has that generation as Pending.
// One that was pending before is replaced.
func (l *Lock) Begin(next *Record) error {
	if err := l.put(nextFile, next); err != nil {
		return fmt.Errorf("begin generation %d of %q: %w%s", next.Current.Number, l.unit.name, err, remedyFor(err))
	}
	return nil
}

// Commit makes what Begin wrote the record. It is one rename: it needs no space
// and no memory.
func (l *Lock) Commit() error {
	err := l.record.rename(nextFile, recordFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = errNotPending
	}
	if err != nil {
		return fmt.Errorf("commit record of %q: %w", l.unit.name, err)
	}
	l.settle(recordFile)
	return nil
}

// Abort forgets what Begin wrote. Nothing pending is no error.
func (l *Lock) Abort() error {
	l.record.at("remove " + nextFile)
	if err := l.record.remove(nextFile); err != nil {
		return fmt.Errorf("abort generation of %q: %w", l.unit.name, err)
	}
	return nil
}

// put writes a record file, unless one of a newer schema is there.
func (l *Lock) put(name string, r *Record) error {
	if !l.checked {
		var newer *SchemaError
		if _, err := load(l.record); errors.As(err, &newer) {
			return newer
		}
		l.checked = true
	}
	r.Schema, r.Name = Schema, l.unit.name
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if err := l.record.replace(name, b, recordMode); err != nil {
		return err
	}
	l.settle(name)
	return nil
}

// settle tries to make a record survive a power cut. What is recorded is what everyone
// reads from now on, so a failure would come too late; and a power cut ends the service.
func (l *Lock) settle(name string) { _ = l.record.sync(name) }
