package hierarchy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/extexec/extexec/nsmount"
)

// Elsewhere surveys another mount namespace of the service that v was taken of,
// after the exchange there: live is a thread in it, shown what was meant. A
// hierarchy that shows it already, by propagation, is left alone, and so is one
// that shows neither an older overlay of the same name or of systemd's, nor the
// very directory that is the base: a sandbox has put something of its own there.
//
// The base is the one of v, which must stay open: what the sandbox has bound from
// the service's tree lies over something else, and its mounts may be locked, so
// that nothing can be peeled. Carried is what is mounted there.
func (v *View) Elsewhere(ctx context.Context, live *nsmount.Namespace, shown Source) (*View, error) {
	e := &View{options: v.options, OSRelease: v.OSRelease, OSReleaseFile: v.OSReleaseFile}
	for _, s := range v.Surveys {
		e.Surveys = append(e.Surveys, &Survey{Path: s.Path, Base: s.Base, borrowed: true})
	}
	err := e.surveyElsewhere(ctx, live, shown)
	if err == nil && e.owner != v.owner {
		err = e.hidesAll(v)
	}
	if err != nil {
		_ = e.Close()
		return nil, err
	}
	return e, nil
}

// hidesAll refuses a namespace in which something is not mounted that is in the service's
// own. Who is root in a user namespace mounts there what he likes, an overlay with a
// source like ours too; and the base that the new one is to show has, beneath its mounts,
// what is hidden from the service.
func (v *View) hidesAll(own *View) error {
	for i, s := range v.Surveys {
		if s.leave {
			continue
		}
		for _, c := range own.Surveys[i].Carried {
			if !slices.ContainsFunc(s.Carried, func(there Carried) bool { return there.covers(c) }) {
				return fmt.Errorf("%q is mounted in the service's own namespace, and not there", path.Join(s.Path, c.Path))
			}
		}
	}
	return nil
}

// covers tells whether what the other mount hides does not show because of this one. A
// self-bind hides nothing.
func (c Carried) covers(other Carried) bool {
	if c.How == Rebuilt {
		return other.How == Rebuilt && c.Path == other.Path
	}
	return c.hides(other.Path)
}

// Older tells whether a hierarchy shows an older exchange than it should.
func (s *Survey) Older() bool { return !s.leave && len(s.Overlays) > 0 }

func (v *View) surveyElsewhere(ctx context.Context, live *nsmount.Namespace, shown Source) error {
	if err := v.openFDs(); err != nil {
		return err
	}
	defer v.fds.Close()
	seen, err := v.enter(ctx, live, func(s *Survey, own *carrySource) (err error) {
		s.leave, err = s.ownThing(own.dir, shown)
		return err
	})
	if err != nil {
		return err
	}
	defer seen.Close()
	kept, err := nsmount.Do(ctx, live, func() (*found, error) {
		f, err := v.keep(seen, v.table)
		return f.orClosed(err)
	})
	if err != nil {
		return err
	}
	v.take(kept)
	return v.each(func(i int, s *Survey) error {
		if s.leave {
			return nil
		}
		return v.carryElsewhere(ctx, s, seen[i])
	})
}

// enter opens the hierarchies in a namespace where nothing is to be peeled, and has
// each judged that is there; the others are left alone. The caller closes what it
// returns.
func (v *View) enter(ctx context.Context, live *nsmount.Namespace, judge func(*Survey, *carrySource) error) (carrySources, error) {
	var err error
	if v.table, err = live.Table(); err != nil {
		return nil, err
	}
	if v.owner, err = live.Owner(); err != nil {
		return nil, err
	}
	seen, err := nsmount.Do(ctx, live, v.open)
	if err != nil {
		return nil, err
	}
	err = v.each(func(i int, s *Survey) error {
		own := &seen[i]
		if s.leave = own.missing != nil; s.leave {
			return nil
		}
		if err := s.look(own, live, v.table); err != nil {
			return err
		}
		own.root = rootOf(s, own.top)
		s.prints = prints(v.table, s.Point)
		return judge(s, own)
	})
	if err != nil {
		return nil, errors.Join(err, seen.Close())
	}
	return seen, nil
}

// ownThing tells whether the hierarchy is to be left alone.
func (s *Survey) ownThing(dir *os.File, shown Source) (bool, error) {
	if top, covered := s.Top(); covered {
		return top.Owner == Ours && (top.Source.String() == shown.String() || !top.Source.Names(shown.Name)), nil
	}
	if s.Base == nil {
		return true, nil
	}
	here, err := nsmount.Locate(dir)
	if err != nil {
		return true, err
	}
	base, err := nsmount.Locate(s.Base.File())
	return here.File != base.File, err
}

// carryElsewhere finds the mounts to carry, which are all that are there.
func (v *View) carryElsewhere(ctx context.Context, s *Survey, own carrySource) error {
	err := s.bindable(own.table)
	if err != nil {
		return err
	}
	if s.Carried, err = v.collect(ctx, s, own, func(string) bool { return true }); err != nil {
		return err
	}
	return v.arrange(ctx, s, own, own)
}
