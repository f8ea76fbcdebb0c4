package hierarchy

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// Exchange makes the staged tree the one that lookups see. First it detaches
// what an interrupted exchange left on top. Then the new tree goes beneath the old
// one, which nobody sees, and the old one is detached, which is atomic for every
// lookup. Where beneath is refused, the new tree goes on top: no gap either, but
// the old one stays.
//
// Must be called on a thread in the target namespace whose working directory
// nobody relies on. It notes in s how far it came: who has given up waiting for it, see
// [nsmount.Do], may do no more with s than close it.
func (s *Staged) Exchange() error {
	if s.mode == untouched {
		return nil
	}
	for range s.Survey.leftovers() {
		if err := s.detach(); err != nil {
			return s.wrap("detach what an interrupted reload left", err)
		}
		s.uncovered = true
	}
	switch s.mode {
	case unpeel:
		if err := s.detach(); err != nil {
			return s.wrap("unpeel", err)
		}
		s.done = unpeel
		return nil
	case beneath:
		did, err := s.swap(s.tree)
		s.done = did
		return s.wrap("exchange", err)
	}
	if err := s.cover(s.tree); err != nil {
		return s.wrap("attach", err)
	}
	s.done = s.mode
	return nil
}

// ExchangeBack undoes Exchange, also one that failed, with the kept clone of the
// old tree. A covered mount cannot be removed (every path and descriptor leads to the
// top of a stack), so the way back from an exchange is an exchange.
func (s *Staged) ExchangeBack() error {
	did, uncovered := s.done, s.uncovered
	s.done, s.uncovered = untouched, false
	var err error
	switch did {
	case beneath:
		_, err = s.swap(s.Survey.old)
		return s.wrap("exchange back", err)
	case attach, onTop:
		err = s.detach()
	case unpeel:
		uncovered = true
	}
	if err == nil && uncovered {
		if s.Survey.old == nil {
			err = errors.New("the old tree has mounts that are not locked to it, and cannot be put back: restart the service")
		} else {
			err = s.cover(s.Survey.old)
		}
	}
	return s.wrap("exchange back", err)
}

// swap puts the tree beneath the top mount and detaches that. It tells what it
// came to: beneath, onTop where the kernel refuses beneath, or untouched when
// nothing visible has changed.
func (s *Staged) swap(tree *nsmount.Tree) (mode, error) {
	top, err := s.open()
	if err != nil {
		return untouched, err
	}
	defer top.Close()
	err = tree.AttachBeneath(top)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, nsmount.ErrNotSupported) {
		if err := tree.Attach(top); err != nil {
			return untouched, err
		}
		return onTop, nil
	}
	if err != nil {
		return untouched, err
	}
	if err := nsmount.DetachTop(top); err != nil {
		return untouched, err
	}
	return beneath, nil
}

func (s *Staged) cover(tree *nsmount.Tree) error {
	top, err := s.open()
	if err != nil {
		return err
	}
	defer top.Close()
	return tree.Attach(top)
}

func (s *Staged) detach() error {
	top, err := s.open()
	if err != nil {
		return err
	}
	defer top.Close()
	return nsmount.DetachTop(top)
}

func (s *Staged) open() (*os.File, error) {
	return nsmount.OpenInRoot(s.Survey.Path, unix.O_PATH|unix.O_DIRECTORY)
}

func (s *Staged) wrap(what string, err error) error {
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: the service's mount namespace is full: raise the sysctl fs.mount-max, or find out what mounts so much there", err)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", what, s.Survey.Path, err)
}

// Landed checks in the target's mount table that the hierarchy's top is the
// staged tree. A namespace in which somebody mounts at the same time may show
// something else.
func (s *Staged) Landed(table *nsmount.Table) error {
	if s.mode == untouched || s.mode == unpeel {
		return nil
	}
	covering := map[int]bool{}
	for i := range table.Mounts {
		if table.Mounts[i].Point == s.Survey.Point {
			covering[table.Mounts[i].Parent] = true
		}
	}
	for i := range table.Mounts {
		m := &table.Mounts[i]
		if m.Point != s.Survey.Point || covering[m.ID] {
			continue
		}
		if s.is(m) {
			return nil
		}
		return fmt.Errorf("check %q: its top is %q, not %q: somebody else mounted there during the exchange", s.Survey.Path, m.Source, s.name())
	}
	return fmt.Errorf("check %q: nothing is mounted there after the exchange, %q should be: somebody else unmounted it", s.Survey.Path, s.name())
}
