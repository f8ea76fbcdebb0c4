package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/service"
)

// others are the other mount namespaces of the unit's processes.
type others struct {
	seen map[uint64]bool
	all  []*other
}

// other is one of them, held so that it can be exchanged back.
type other struct {
	service.MountNamespace
	ns     *os.File
	live   *nsmount.Namespace
	view   *hierarchy.View
	staged []*hierarchy.Staged
}

// Close lets go of the namespaces.
func (o *others) Close() error {
	var errs []error
	for _, n := range o.all {
		errs = append(errs, n.Close())
	}
	o.all = nil
	return errors.Join(errs...)
}

// Close gives up what was not attached, and ends the thread.
func (n *other) Close() error {
	return errors.Join(n.drop(), n.live.Close(), n.ns.Close())
}

// drop gives up what was staged.
func (n *other) drop() error {
	var errs []error
	for _, s := range n.staged {
		errs = append(errs, s.Close())
	}
	if n.view != nil {
		errs = append(errs, n.view.Close())
	}
	n.staged, n.view = nil, nil
	return errors.Join(errs...)
}

// maxRounds bounds how often the service's namespaces are listed: one that is made
// while others are exchanged may be a copy of one that was not yet.
const maxRounds = 5

// elsewhereBound is how long one other namespace may take: a file system in it may
// hang, which is no reason to take the whole reload back.
const elsewhereBound = 5 * time.Second

// elsewhere makes the exchange in the other mount namespaces of the unit's processes
// (Namespaces=unit). Those that follow the main one by propagation show the new
// state already. One that cannot be exchanged keeps the old state, and a warning
// names it.
func (t *transaction) elsewhere(target *target, is *situation, m *made) steps.Step[*others] {
	return steps.Step[*others]{
		Do: func(ctx context.Context) (*others, error) {
			o := &others{seen: map[uint64]bool{target.id: true}}
			t.run.Own(o)
			if err := t.exchangeElsewhere(ctx, target, is, m, o); err != nil {
				undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeBound)
				defer cancel()
				if back := o.exchangeBack(undo); back != nil {
					err = errors.Join(err, &steps.UndoError{Step: "elsewhere", Err: back})
				}
				return nil, err
			}
			return o, nil
		},
		Undo: func(ctx context.Context, o *others) error { return o.exchangeBack(ctx) },
	}
}

func (t *transaction) exchangeElsewhere(ctx context.Context, target *target, is *situation, m *made, o *others) error {
	for range maxRounds {
		more, err := o.find(target, is)
		if err != nil || len(more) == 0 {
			return err
		}
		for _, ns := range more {
			err := o.add(ctx, ns, m)
			switch {
			case ctx.Err() != nil:
				return errors.Join(fmt.Errorf("exchange in mount namespace %d: %w", ns.ID, context.Cause(ctx)), err)
			case errors.Is(err, service.ErrGone):
			case err != nil:
				t.res.Warnings = append(t.res.Warnings, fmt.Sprintf("%s in another mount namespace may see the old state, restart them: %v", processes(ns.PIDs), err))
			}
		}
	}
	t.res.Warnings = append(t.res.Warnings, fmt.Sprintf("the service makes mount namespaces faster than they can be exchanged: some may show the old state, see %s", t.lock.Unit().Hint("status")))
	return nil
}

// find lists the namespaces that were not seen yet. The host's is left out: it is
// that of a command which systemd runs for the unit, such as we are.
func (o *others) find(target *target, is *situation) ([]service.MountNamespace, error) {
	pids, err := service.InMountNamespace(target.id)
	if err != nil {
		return nil, err
	}
	all, err := service.MountNamespaces(pids, is.unit)
	if err != nil {
		return nil, err
	}
	var more []service.MountNamespace
	for _, ns := range all {
		host, err := service.IsHostNamespace(ns.ID)
		if err != nil {
			return nil, err
		}
		if !host && !o.seen[ns.ID] {
			more = append(more, ns)
		}
		o.seen[ns.ID] = true
	}
	return more, nil
}

// add makes the exchange in one namespace. When it fails, that one shows what it
// did before.
func (o *others) add(ctx context.Context, ns service.MountNamespace, m *made) error {
	ctx, cancel := context.WithTimeout(ctx, elsewhereBound)
	defer cancel()
	n, err := enterOther(ns)
	if err != nil {
		return err
	}
	err = n.exchange(ctx, m.layers.wanted, func() (*hierarchy.View, error) { return m.view.Elsewhere(ctx, n.live, m.source) })
	if err != nil {
		return errors.Join(err, n.Close())
	}
	o.all = append(o.all, n)
	return nil
}

func enterOther(ns service.MountNamespace) (*other, error) {
	f, err := ns.Open()
	if err != nil {
		return nil, err
	}
	live, err := nsmount.Enter(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &other{MountNamespace: ns, ns: f, live: live}, nil
}

// exchange surveys the namespace, stages what is wanted of each hierarchy and
// exchanges, again as long as the mounts change.
func (n *other) exchange(ctx context.Context, wanted []hierarchy.Wanted, survey func() (*hierarchy.View, error)) error {
	for range maxRestage {
		var err error
		if n.view, err = survey(); err != nil {
			return err
		}
		if n.staged, err = hierarchy.Stage(ctx, n.view, wanted, false); err != nil {
			return err
		}
		same, err := n.view.Unchanged(n.live)
		if err != nil {
			return err
		}
		if same {
			return n.show(ctx)
		}
		if err := n.drop(); err != nil {
			return err
		}
	}
	return fmt.Errorf("its mounts changed %d times while the new trees were made", maxRestage)
}

// show makes the exchange. Once it has begun, the end of ctx does not end the wait.
func (n *other) show(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), elsewhereBound)
	defer cancel()
	staged := n.staged // who gives up forgets it, while the thread may go on with it
	if err := n.live.Do(ctx, func() error { return exchangeAll(staged) }); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("what it shows is not known: %w", err)
		}
		return err
	}
	table, err := n.live.Table()
	if err == nil {
		err = allLanded(n.staged, table)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, n.exchangeBack(ctx))
}

func (n *other) exchangeBack(ctx context.Context) error {
	staged := n.staged
	err := n.live.Do(ctx, func() error { return exchangeBack(staged) })
	if err != nil {
		return fmt.Errorf("%s in another mount namespace: %w", processes(n.PIDs), err)
	}
	return nil
}

// processes names the first few.
func processes(pids []int) string {
	const some = 5
	if len(pids) > some {
		return fmt.Sprintf("%d processes (%v ...)", len(pids), pids[:some])
	}
	return fmt.Sprintf("processes %v", pids)
}

// exchangeBack takes the exchanges back, last first.
func (o *others) exchangeBack(ctx context.Context) error {
	var errs []error
	for i := len(o.all) - 1; i >= 0; i-- {
		errs = append(errs, o.all[i].exchangeBack(ctx))
	}
	return errors.Join(errs...)
}
