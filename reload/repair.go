package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/recorded"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// RepairOptions say what to repair.
type RepairOptions struct {
	Options // but for the name

	Names  []string // none: whatever has a record or runs as a service
	DryRun bool     // look only
}

// Repaired is a service that did not see what it should.
type Repaired struct {
	Name  string  `json:"name"`
	PID   int     `json:"pid,omitempty"`
	Stale []Stale `json:"stale"`
	// Done says that all of it was exchanged.
	Done     bool     `json:"done"`
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"`
	Err      error    `json:"-"`
}

// Stale is a hierarchy in a mount namespace of a service that shows something else
// than it should.
type Stale struct {
	Path   string `json:"path"`
	PIDs   []int  `json:"pids,omitempty"` // in another namespace than the main one
	Shows  string `json:"shows"`
	Wanted string `json:"wanted"`
}

// Repair finds running services whose mount namespaces do not show what they should,
// and exchanges it there, without a restart. What has a record should show its
// current generation, over what the host has merged with systemd-sysext or
// systemd-confext. Hierarchies without overlay of ours should show that in the main
// namespace of every service. Every service is a transaction of its own: what went
// wrong with one is in its Err.
func Repair(ctx context.Context, o RepairOptions) ([]Repaired, error) {
	if os.Geteuid() != 0 { // who may not look finds nothing to repair
		return nil, errors.New("extexec repair needs root to look into the mount namespaces of services: use sudo")
	}
	host, err := hostView(startedBySystemd())
	if err != nil {
		return nil, err
	}
	defer host.Close()
	merged, err := hierarchy.TakeHost(ctx, host)
	if err != nil {
		return nil, err
	}
	defer merged.Close()
	r := &repairer{RepairOptions: o, host: host, merged: merged, known: map[string]bool{}}
	if err := r.records(ctx); err != nil {
		return nil, err
	}
	if err := r.merges(ctx); err != nil {
		return r.all, err
	}
	for _, name := range o.Names {
		if !r.known[name] && !r.known[name+".service"] {
			r.add(Repaired{Name: name, Err: fmt.Errorf("find %q: it has no record, and no running service has that name and a mount namespace of its own", name)})
		}
	}
	return r.all, ctx.Err()
}

// repairer is a repair on its way.
type repairer struct {
	RepairOptions
	host   *nsmount.Namespace
	merged *hierarchy.Host
	known  map[string]bool
	all    []Repaired
}

func (r *repairer) asked(name string) bool {
	return len(r.Names) == 0 || slices.Contains(r.Names, name) || slices.Contains(r.Names, strings.TrimSuffix(name, ".service"))
}

// add notes what was found of a service, with what was found of it before.
func (r *repairer) add(one Repaired) {
	if len(one.Stale) == 0 && one.Err == nil && len(one.Warnings) == 0 {
		return
	}
	if one.Err != nil {
		one.Error = one.Err.Error()
	}
	i := slices.IndexFunc(r.all, func(b Repaired) bool { return b.Name == one.Name })
	if i < 0 {
		r.all = append(r.all, one)
		return
	}
	b := &r.all[i]
	b.Stale, b.Warnings = append(b.Stale, one.Stale...), append(b.Warnings, one.Warnings...)
	b.Done = b.Done && one.Done
	if one.Err != nil {
		b.Err = errors.Join(b.Err, one.Err)
		b.Error = b.Err.Error()
	}
}

// records repairs what has a record.
func (r *repairer) records(ctx context.Context) error {
	names, err := nsmount.Do(ctx, r.host, r.Dirs.Names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !r.asked(name) {
			continue
		}
		r.known[name] = true
		o := r.Options
		o.Name = name
		t := &transaction{Options: o, trigger: triggerRepair, repaired: &Repaired{Name: name}, merged: r.merged}
		res, err := t.transact(ctx, func(ctx context.Context) error { return t.repair(ctx, r.DryRun) })
		if t.repaired.Err = err; res != nil {
			t.repaired.Done, t.repaired.Warnings = res.Exchanged, res.Warnings
		}
		r.add(*t.repaired)
	}
	return nil
}

// repair is a reload to the current generation, in a namespace that does not show
// it.
func (t *transaction) repair(ctx context.Context, dry bool) (err error) {
	if t.host, err = hostView(startedBySystemd()); err != nil {
		return err
	}
	t.run.Own(t.host)
	is, err := t.readRecord(ctx, dry)
	if err != nil || is == nil {
		return err
	}
	if limit := is.settings.ReloadTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within ReloadTimeoutSec=%s", limit))
		defer cancel()
	}
	running, err := steps.Do(ctx, t.run, "find", t.find(&subject{name: t.Name}, is))
	if err != nil {
		return err
	}
	t.repaired.PID = running.process.PID()
	look, err := steps.Do(ctx, t.run, "survey", t.survey(running, is))
	if err != nil {
		return err
	}
	t.repaired.Stale = t.stale(is, look)
	if is.settings.AllNamespaces {
		if err := t.staleElsewhere(ctx, running, is, look); err != nil {
			return err
		}
	}
	if len(t.repaired.Stale) == 0 || dry {
		return nil
	}
	picked, err := steps.Do(ctx, t.run, "pick", t.pickCurrent(is))
	if err != nil {
		return err
	}
	return t.goLive(ctx, is, running, look, picked, refresh)
}

// readRecord reads what is on record, with the lock unless nothing is to be done. It
// is nil where nothing runs that the record means, or nothing was ever committed.
func (t *transaction) readRecord(ctx context.Context, dry bool) (is *situation, err error) {
	who := &subject{name: t.Name}
	t.res.Name = t.Name
	u, err := t.Dirs.Unit(t.Name)
	if err != nil {
		return nil, err
	}
	record, err := nsmount.Do(ctx, t.host, u.Load)
	if noRecord(err) {
		return nil, nil // locked once, and never started
	}
	if err != nil {
		return nil, err
	}
	alive, err := nsmount.Do(ctx, t.host, func() (*service.Process, error) { return recorded.Any(record) })
	if alive == nil {
		return nil, err
	}
	if err := alive.Close(); err != nil {
		return nil, err
	}
	if dry {
		is, err = nsmount.Do(ctx, t.host, func() (*situation, error) { return readSituation(t.Name, u) })
	} else if t.lock, err = steps.Do(ctx, t.run, "lock", t.takeLock(who)); err == nil {
		is, err = steps.Do(ctx, t.run, "read", t.read(who))
	}
	if err != nil || len(is.record.Current.Hierarchies) == 0 {
		return nil, err
	}
	t.is = is
	// What is on record counts, whatever the unit says by now.
	is.settings.Hierarchies = nil
	for _, h := range is.record.Current.Hierarchies {
		is.settings.Hierarchies = append(is.settings.Hierarchies, h.Path)
	}
	return is, nil
}

// stale lists the hierarchies of the main namespace that do not show the current
// generation.
func (t *transaction) stale(is *situation, v *hierarchy.View) (all []Stale) {
	current := is.record.Current
	wanted := fmt.Sprintf("generation %d", current.Number)
	for _, s := range v.Surveys {
		i := slices.IndexFunc(current.Hierarchies, func(h state.Hierarchy) bool { return h.Path == s.Path })
		if shows := showsOf(s); s.Interrupted() {
			all = append(all, Stale{Path: s.Path, Shows: shows + ", of an interrupted reload", Wanted: wanted})
		} else if i < 0 || !showsThis(s, current, current.Hierarchies[i]) {
			all = append(all, Stale{Path: s.Path, Shows: shows, Wanted: wanted})
		} else if behind := s.Behind(); behind != "" {
			all = append(all, Stale{Path: s.Path, Shows: shows + " over " + behind, Wanted: wanted + " over the host's merge"})
		}
	}
	if len(all) == 0 && is.record.Pending != nil {
		all = append(all, Stale{Shows: wanted, Wanted: fmt.Sprintf("an end of generation %d, which was begun", is.record.Pending.Number)})
	}
	return all
}

// showsOf says what a hierarchy shows.
func showsOf(s *hierarchy.Survey) string {
	top, covered := s.Top()
	switch {
	case !covered:
		return "no overlay"
	case top.Owner == hierarchy.Ours:
		return fmt.Sprintf("generation %d", top.Source.Generation)
	}
	return "systemd's overlay"
}

// staleElsewhere adds the hierarchies of the unit's other namespaces that show an
// older exchange.
func (t *transaction) staleElsewhere(ctx context.Context, target *target, is *situation, v *hierarchy.View) error {
	o := &others{seen: map[uint64]bool{target.id: true}}
	more, err := o.find(target, is)
	if err != nil {
		return err
	}
	for _, ns := range more {
		found, err := t.olderIn(ctx, ns, is.record.Current, v)
		if err != nil && !errors.Is(err, service.ErrGone) {
			t.res.Warnings = append(t.res.Warnings, fmt.Sprintf("what %s in another mount namespace see is not known: %v", processes(ns.PIDs), err))
		}
		t.repaired.Stale = append(t.repaired.Stale, found...)
	}
	return nil
}

func (t *transaction) olderIn(ctx context.Context, ns service.MountNamespace, current state.Generation, v *hierarchy.View) ([]Stale, error) {
	ctx, cancel := context.WithTimeout(ctx, elsewhereBound)
	defer cancel()
	n, err := enterOther(ns)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	shown := hierarchy.Source{Generation: current.Number, Serial: current.Serial, Name: t.res.Name}
	if n.view, err = v.Elsewhere(ctx, n.live, shown); err != nil {
		return nil, err
	}
	var found []Stale
	for _, s := range n.view.Surveys {
		if s.Older() {
			found = append(found, Stale{Path: s.Path, PIDs: ns.PIDs, Shows: showsOf(s), Wanted: fmt.Sprintf("generation %d", current.Number)})
		}
	}
	return found, nil
}

// pickCurrent picks what the current generation has. The service has it already, as
// it was when it was opened; what lies there now may be another user's.
func (t *transaction) pickCurrent(is *situation) steps.Step[[]*extension.Picked] {
	return steps.Step[[]*extension.Picked]{Do: func(ctx context.Context) ([]*extension.Picked, error) {
		return nsmount.Do(ctx, t.host, func() ([]*extension.Picked, error) { return pickTrusted(is.record.Current, is.flags.AnyPath) })
	}}
}

// merges brings what the host has merged to services that do not see it.
func (r *repairer) merges(ctx context.Context) error {
	mains, err := service.MainNamespaces()
	if err != nil {
		return err
	}
	for _, m := range mains {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.asked(m.Unit) {
			r.known[m.Unit] = true
			r.add(r.merge(ctx, m))
		}
	}
	return nil
}

// merge is the transaction of one service.
func (r *repairer) merge(ctx context.Context, m service.MainNamespace) Repaired {
	one := Repaired{Name: m.Unit, PID: m.PIDs[0]}
	ctx, cancel := context.WithTimeout(ctx, elsewhereBound)
	defer cancel()
	n, err := enterOther(m.MountNamespace)
	if errors.Is(err, service.ErrGone) {
		return one
	}
	if err == nil {
		defer n.Close()
		if n.view, err = r.merged.Behind(ctx, n.live, hierarchy.Options{Limits: r.Limits}); err == nil {
			one.Stale = behind(n.view)
		}
		err = errors.Join(err, n.drop())
	}
	if err == nil && len(one.Stale) > 0 && !r.DryRun {
		if err = r.mergeLocked(ctx, n, m.Unit); err == nil {
			one.Done = true
		}
	}
	if err != nil {
		one.Err = fmt.Errorf("repair %q: %w", m.Unit, err)
	}
	return one
}

func (r *repairer) mergeLocked(ctx context.Context, n *other, name string) error {
	lock, err := nsmount.Do(ctx, r.host, func() (*state.Lock, error) {
		u, err := r.Dirs.Unit(name)
		if err != nil {
			return nil, err
		}
		return u.Lock(ctx, r.LockWait)
	})
	if err != nil {
		return err
	}
	err = n.exchange(ctx, make([]hierarchy.Wanted, len(r.merged.Merges)), func() (*hierarchy.View, error) {
		return r.merged.Behind(ctx, n.live, hierarchy.Options{Limits: r.Limits})
	})
	return errors.Join(err, lock.Close())
}

func behind(v *hierarchy.View) (all []Stale) {
	for _, s := range v.Surveys {
		if shows := s.Behind(); shows != "" {
			all = append(all, Stale{Path: s.Path, Shows: shows, Wanted: "the host's merge"})
		}
	}
	return all
}
