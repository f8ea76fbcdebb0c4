package hierarchy

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/extexec/extexec/nsmount"
)

// Rehearsal is a copy of the target's namespace in which the new state is live
// already. Nobody else sees it, and it goes with Close.
type Rehearsal struct {
	ns *nsmount.Namespace
}

// Rehearse makes the exchange in a copy of the namespace that ns means, with the
// second copy of each staged tree. An exchange that the kernel will refuse fails
// here. The copy is private before anything is done in it: a shared one would
// exchange the live namespace too.
func Rehearse(ctx context.Context, ns *os.File, staged []*Staged) (*Rehearsal, error) {
	copied, err := nsmount.EnterCopy(ns, nsmount.Private)
	if err != nil {
		return nil, fmt.Errorf("copy the mount namespace: %w", err)
	}
	r := &Rehearsal{ns: copied}
	err = copied.Do(ctx, func() error {
		for _, s := range staged {
			if s.mode != untouched && s.mode != unpeel && s.second == nil {
				return fmt.Errorf("%q was staged without a second tree", s.Survey.Path)
			}
			again := &Staged{Survey: s.Survey, Source: s.Source, tree: s.second, mode: s.mode}
			if err := again.Exchange(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rehearse: %w", err), r.Close())
	}
	return r, nil
}

// File opens the copy's mount namespace; the caller closes it.
func (r *Rehearsal) File() (*os.File, error) { return r.ns.File() }

// Close ends the copy, as far as nothing runs in it any more.
func (r *Rehearsal) Close() error { return r.ns.Close() }
