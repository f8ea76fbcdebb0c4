package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/reload/state"
)

// PlanOptions say what to plan, and how closely to look.
type PlanOptions struct {
	Options

	Checksum bool // read the files that have the same size, not only their metadata
	Diff     bool // text diffs of the files that differ
	MaxFiles int  // that are listed of a hierarchy, the rest is counted; 0: 100,000
}

// PlanSchema is the version of the JSON form of [PlanResult]. Fields may be added
// without a new number.
const PlanSchema = 1

// PlanResult is what a reload would come to.
type PlanResult struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	Unit   string `json:"unit,omitempty"` // "" without a unit

	Action Action `json:"action,omitempty"`
	Why    string `json:"why,omitempty"` // for new overlays although the extensions are the same

	// Generation is the one that is live; its number is 0 where none is recorded of
	// this run of the service.
	Generation  state.Generation   `json:"generation"`
	Refs        []PlannedRef       `json:"refs"`
	Reordered   bool               `json:"reordered,omitempty"` // the same extensions, in another order
	Hierarchies []PlannedHierarchy `json:"hierarchies"`
	Warnings    []string           `json:"warnings,omitempty"`
}

// Action is what a reload would do with the hierarchies.
type Action string

// The actions.
const (
	NoAction Action = "nothing"
	// Refresh makes the overlays of the same generation once more, because their
	// base can be written to, or because an image was seen to be damaged.
	Refresh  Action = "refresh"
	Exchange Action = "exchange" // a new generation
)

// Changes says whether the service would see anything else than now. Whether files
// of a base were replaced, which a refresh would show, is not looked at.
func (r *PlanResult) Changes() bool {
	return r.Action == Exchange || slices.ContainsFunc(r.Hierarchies, func(h PlannedHierarchy) bool { return h.Added+h.Changed+h.Removed > 0 })
}

// PlannedRef is one ref: what it means now and what it meant.
type PlannedRef struct {
	Ref    string   `json:"ref"`
	Kind   string   `json:"kind"`
	Origin string   `json:"origin,omitempty"`
	State  RefState `json:"state"`

	Picked *PlannedExtension `json:"picked,omitempty"`
	Now    *PlannedExtension `json:"now,omitempty"` // what is live of it
	// Candidates are all versions, the best first, each with the reason why it is
	// not the one.
	Candidates []PlannedCandidate `json:"candidates,omitempty"`
}

// RefState holds what is picked against what is live.
type RefState string

// The states of a ref.
const (
	RefSame     RefState = "same"
	RefNew      RefState = "new"
	RefReplaced RefState = "other version" // another path
	RefChanged  RefState = "changed"       // the same path, another identity
	RefNothing  RefState = "none"          // nothing is picked, nothing is live
	RefGone     RefState = "removed"       // something is live, nothing is picked
)

// PlannedExtension is an extension that is picked, or live.
type PlannedExtension struct {
	Path     string `json:"path"`
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Identity string `json:"identity"`
	// Changed is when its file was last changed, where the identity does not say that.
	Changed string `json:"changed,omitempty"`
}

// same tells whether two are the same, see [state.Extension.Same].
func (e *PlannedExtension) same(o *PlannedExtension) bool {
	x := state.Extension{Path: e.Path, Identity: e.Identity, Changed: e.Changed}
	return x.Same(&state.Extension{Path: o.Path, Identity: o.Identity, Changed: o.Changed})
}

// PlannedCandidate is a version that a ref could mean.
type PlannedCandidate struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
	Why     string `json:"why,omitempty"` // why it is not picked; "" for the one that is
}

// Plan finds out what a reload would come to now, and which files the service
// would see changed. It changes nothing and takes no lock: a reload that is at work
// meanwhile makes it out of date. It fails where a reload would fail before its
// check; the result then has what was found until then.
func Plan(ctx context.Context, o PlanOptions) (res *PlanResult, err error) {
	if o.MaxFiles == 0 {
		o.MaxFiles = 100_000
	}
	t := &transaction{Options: o.Options, run: &steps.Run{Hook: o.Hook}, res: &Result{Name: o.Name}}
	p := &planner{transaction: t, options: o, plan: &PlanResult{
		Schema: PlanSchema, Name: o.Name, Refs: []PlannedRef{}, Hierarchies: []PlannedHierarchy{},
	}}
	defer func() {
		err = errors.Join(err, t.run.Close())
		p.plan.Warnings = append(t.res.Warnings, p.plan.Warnings...)
		if err != nil {
			err = fmt.Errorf("plan %q: %w", p.plan.Name, explainFiles(err, t.is))
		}
	}()
	return p.plan, p.do(ctx)
}

// planner is a reload that goes no further than the staged trees, which nobody
// sees.
type planner struct {
	*transaction
	options PlanOptions
	plan    *PlanResult
}

func (p *planner) do(ctx context.Context) error {
	t, run := p.transaction, p.run
	var err error
	if t.host, err = hostView(startedBySystemd()); err != nil {
		return err
	}
	run.Own(t.host)
	who, err := steps.Do(ctx, run, "identify", t.identify())
	if err != nil {
		return err
	}
	t.res.Name, p.plan.Name = who.name, who.name
	is, err := steps.Do(ctx, run, "read", p.read(who))
	if err != nil {
		return err
	}
	t.is, p.plan.Unit = is, is.unit
	running, err := steps.Do(ctx, run, "find", t.find(who, is))
	if err != nil {
		return err
	}
	p.plan.Generation = is.record.Current
	look, err := steps.Do(ctx, run, "survey", t.survey(running, is))
	if err != nil {
		return err
	}
	lived := p.lived(ctx, is)
	picked, err := steps.Do(ctx, run, "pick", t.pick(is))
	old := <-lived
	if err != nil {
		return err
	}
	todo := t.compare(is, running, look, picked)
	p.compared(is, running, look, picked, todo)
	all, err := steps.Do(ctx, run, "open", t.open(is, look, picked))
	if err != nil {
		return err
	}
	if len(all.extensions) < len(picked) { // what was left out may be what was left out before
		if todo != nothing {
			todo = t.compare(is, running, look, all.picked())
		}
		p.compared(is, running, look, all.picked(), todo)
	}
	layers, err := steps.Do(ctx, run, "stage", p.stage(running, is, look, all))
	if err != nil {
		return err
	}
	_, err = steps.Do(ctx, run, "look", p.look(is, running, look, all, layers, old))
	return err
}

// remembered is what is on record of a name: with the lock or without it.
type remembered interface {
	Load() (*state.Record, error)
	Memory() (*state.Memory, error)
}

// readSituation finds out what is asked for, and what is recorded. On an error it
// returns how far it got. Must run in the host view.
func readSituation(name string, from remembered) (*situation, error) {
	is := &situation{unit: name}
	return is, is.read(name, from)
}

// warnings are those of the settings, as far as they were read.
func (is *situation) warnings() []string {
	if is == nil {
		return nil
	}
	return is.settings.Warnings
}

func (is *situation) read(name string, from remembered) (err error) {
	is.record, err = from.Load()
	if noRecord(err) {
		is.record, err = &state.Record{Name: name, Unit: name}, nil
	}
	if err != nil {
		return err
	}
	if is.memory, err = from.Memory(); err != nil {
		return err
	}
	is.unit, is.flags = is.record.Unit, flagsOf(is.record)
	is.settings, err = settingsFor(is.unit, is.flags)
	return err
}

// read reads without the lock.
func (p *planner) read(s *subject) steps.Step[*situation] {
	return steps.Step[*situation]{Do: func(ctx context.Context) (*situation, error) {
		u, err := p.Dirs.Unit(s.name)
		if err != nil {
			return nil, err
		}
		busy, err := nsmount.Do(ctx, p.host, func() (string, error) {
			if pid, held := u.Holder(); held {
				return fmt.Sprintf("a reload is at work (process %d): afterwards this is out of date", pid), nil
			}
			return "", nil
		})
		if busy != "" {
			p.addWarning(busy)
		}
		if err != nil {
			return nil, err
		}
		is, err := nsmount.Do(ctx, p.host, func() (*situation, error) { return readSituation(s.name, u) })
		if err == nil {
			is.memory.Settle(is.record, version.Compare)
		}
		p.res.Warnings = append(p.res.Warnings, is.warnings()...)
		return is, err
	}}
}

// lived picks what the current generation has, as far as it is still to be had.
// That can take as long as the pick itself, so it is done beside it, on a thread of
// its own in the host view.
func (p *planner) lived(ctx context.Context, is *situation) <-chan []*extension.Picked {
	result := make(chan []*extension.Picked, 1)
	current := is.record.Current
	go func() {
		var picked []*extension.Picked
		host, err := hostView(startedBySystemd())
		if err == nil {
			// What is missing is told of by what it is missing for.
			picked, _ = nsmount.Do(ctx, host, func() ([]*extension.Picked, error) { return pickRecorded(current) })
			_ = host.Close()
		}
		result <- picked
	}()
	return result
}

// stage stages as a reload does, which shows what cannot be staged; the trees are
// given up at once, the layers stay open.
func (p *planner) stage(target *target, is *situation, v *hierarchy.View, all *opened) steps.Step[*layers] {
	return steps.Step[*layers]{Do: func(ctx context.Context) (*layers, error) {
		source := hierarchy.Source{Generation: is.record.Current.Number + 1, Serial: nextSerial(is.record, v), Name: p.res.Name}
		l, err := layersOf(is, all, source)
		if err != nil {
			return nil, err
		}
		p.run.Own(l)
		staged, err := hierarchy.Stage(ctx, v, l.wanted, false)
		if err == nil {
			err = p.keepHidden(ctx, target, is, staged)
		}
		for _, s := range staged {
			err = errors.Join(err, s.Close())
		}
		p.res.Warnings = append(p.res.Warnings, notThere(is.settings, v)...)
		return l, err
	}}
}

// compared notes what was picked, and what a reload would make of it.
func (p *planner) compared(is *situation, running *target, v *hierarchy.View, picked []*extension.Picked, todo todo) {
	p.plan.Action = [...]Action{nothing: NoAction, refresh: Refresh, exchange: Exchange}[todo]
	p.plan.Reordered, p.plan.Why, p.plan.Refs = p.res.Difference.Reordered, "", []PlannedRef{}
	p.refs(is, picked)
	if todo == refresh && len(p.corrupted) > 0 {
		p.plan.Why = "the kernel has seen a changed block in " + strings.Join(p.corrupted, ", ")
	}
	if todo != exchange || !p.res.Difference.None() {
		return
	}
	switch {
	case running.fresh && len(v.Surveys) > 0:
		p.plan.Why = "extexec has not exchanged anything in it yet"
	case is.record.Pending != nil, v.Interrupted():
		p.plan.Why = "an earlier reload was interrupted"
	case p.Force:
		p.plan.Why = "it is forced"
	case !fits(is, v):
		p.plan.Why = "the unit asks for other hierarchies by now, or for NoExec= or NoSuid="
	default:
		p.plan.Why = "its hierarchies are not as they were recorded"
	}
}

// refs lists the refs in layer order, and what is live of none of them.
func (p *planner) refs(is *situation, picked []*extension.Picked) {
	now := slices.Clone(is.record.Current.Extensions)
	left := slices.Clone(picked)
	for _, ref := range slices.Backward(is.settings.Refs) {
		r := PlannedRef{Ref: ref.String(), Kind: ref.Kind.String(), Origin: ref.Origin.String(), State: RefNothing}
		// Of a ref that is listed twice the last one counts.
		if i := slices.IndexFunc(left, func(p *extension.Picked) bool { return p.Ref.Equal(ref) }); i >= 0 {
			r.pick(left[i])
			left = slices.Delete(left, i, i+1)
		}
		if i := slices.IndexFunc(now, func(e state.Extension) bool { return e.Ref == r.Ref && e.Kind == r.Kind }); i >= 0 {
			r.Now = plannedOf(&now[i])
			now = slices.Delete(now, i, i+1)
		}
		r.judge()
		p.plan.Refs = append(p.plan.Refs, r)
	}
	slices.Reverse(p.plan.Refs)
	for i := range now {
		r := PlannedRef{Ref: now[i].Ref, Kind: now[i].Kind, Now: plannedOf(&now[i])}
		r.judge()
		p.plan.Refs = append(p.plan.Refs, r)
	}
}

func (r *PlannedRef) pick(p *extension.Picked) {
	r.Picked = &PlannedExtension{Path: p.Path, Name: p.Name, Version: p.Version, Identity: p.Identity, Changed: p.Changed}
	for _, c := range p.Candidates {
		r.Candidates = append(r.Candidates, PlannedCandidate{Path: c.Path, Version: c.Version, Why: c.Why})
	}
}

func (r *PlannedRef) judge() {
	switch {
	case r.Picked == nil && r.Now == nil:
		r.State = RefNothing
	case r.Picked == nil:
		r.State = RefGone
	case r.Now == nil:
		r.State = RefNew
	case r.Picked.same(r.Now):
		r.State = RefSame
	case r.Picked.Path == r.Now.Path:
		r.State = RefChanged
	default:
		r.State = RefReplaced
	}
}

func plannedOf(e *state.Extension) *PlannedExtension {
	return &PlannedExtension{Path: e.Path, Name: e.Name, Version: e.Version, Identity: e.Identity, Changed: e.Changed}
}
