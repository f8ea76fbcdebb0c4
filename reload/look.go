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
)

// Looked is what a look from outside comes to.
type Looked struct {
	// Same says that a reload would find what is live. Where that is not sure, it is
	// false: the reload then says what is wrong.
	Same bool
	// Fresh are the extensions that a reload would pick and that are not live.
	Fresh []*extension.Picked
}

// Look tells whether there is something to reload, without a lock, and without a
// visit to the service's namespace. It is for whoever watches the directories of
// extensions: a reload that systemd makes tells the service, changed or not.
func Look(ctx context.Context, o Options) (l Looked, err error) {
	t := &transaction{Options: o, run: &steps.Run{Hook: o.Hook}, res: &Result{Name: o.Name}}
	defer func() {
		err = errors.Join(err, t.run.Close())
		if err != nil {
			err = fmt.Errorf("look at %q: %w", o.Name, err)
		}
	}()
	if t.host, err = hostView(startedBySystemd()); err != nil {
		return l, err
	}
	t.run.Own(t.host)
	who, err := steps.Do(ctx, t.run, "identify", t.identify())
	if err != nil {
		return l, err
	}
	is, err := steps.Do(ctx, t.run, "read", (&planner{transaction: t}).read(who))
	if err != nil {
		return l, err
	}
	running, err := steps.Do(ctx, t.run, "find", t.find(who, is))
	if err != nil {
		return l, err
	}
	if _, l.Same = t.glance(ctx, running, is); l.Same {
		return l, nil
	}
	// What cannot be picked is for the reload to say.
	now, err := nsmount.Do(ctx, t.host, func() (p picks, err error) {
		p, _ = pickAll(is.settings, is.memory, pickRules{anyPath: is.flags.AnyPath, live: &is.record.Current})
		return p, nil
	})
	for _, p := range now.picked {
		live := func(e state.Extension) bool { return e.Identity == p.Identity || e.Path == p.Path }
		if !slices.ContainsFunc(is.record.Current.Extensions, live) {
			l.Fresh = append(l.Fresh, p)
		}
	}
	return l, err
}
