package portable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Detach takes away what is attached of the images, which need not be there any more:
// all units, or on failure none. Images themselves are never touched.
func (h Host) Detach(ctx context.Context, r Request) (*Result, error) {
	return h.locked(ctx, r, func() (*Result, error) { return h.detach(ctx, r) })
}

func (h Host) detach(ctx context.Context, r Request) (*Result, error) {
	a, err := h.attached(given(r.Base, r.Extensions))
	if err != nil {
		return nil, err
	}
	running, enabled, err := h.states(ctx, a)
	if err != nil {
		return nil, err
	}
	if len(running) > 0 && !r.Now && (!r.Force || r.Clean) {
		return nil, fmt.Errorf("detach %q: %s runs: stop it, or give --now", r.Base, strings.Join(running, ", "))
	}
	e := &edit{dir: h.attachedDir(a.Runtime), shelf: &shelf{dir: h.linkDir(a.Runtime)}}
	if err := e.remove(a.Units); err != nil {
		return nil, fmt.Errorf("detach %q: %w", r.Base, err)
	}
	others, err := h.othersThan(a)
	if err != nil {
		return nil, err
	}
	kept, err := e.shelf.clearOf(a.Marker, others, len(running) > 0 && !r.Now)
	if err != nil {
		return nil, fmt.Errorf("detach %q: %w", r.Base, err)
	}
	result := &Result{Changes: e.all(), Units: a.Units, Notes: stays(kept)}
	for _, u := range enabled {
		if !r.Enable {
			result.Notes = append(result.Notes, fmt.Sprintf("%q stays enabled, so that a unit that gets this name starts at a boot: give --enable to have it disabled", u))
		}
	}
	if r.DryRun {
		return result, nil
	}
	j := jobs{runtime: a.Runtime, reload: !r.NoReload}
	if r.Clean {
		j.clean = slices.DeleteFunc(slices.Clone(a.Units), isTemplate)
	}
	if r.Now {
		j.stop = running
	}
	if r.Enable {
		j.disable = enabled
	}
	left, err := h.commit(ctx, e, j)
	if err != nil {
		return nil, fmt.Errorf("detach %q: %w", r.Base, err)
	}
	result.Notes = append(result.Notes, left...)
	return result, nil
}

// Reattach attaches an image in the place of what is attached of it, an older version
// say. The units change in one step; what is not attached is attached.
func (h Host) Reattach(ctx context.Context, r Request) (*Result, error) {
	return h.locked(ctx, r, func() (*Result, error) {
		old, err := h.attached(given(r.Base, r.Extensions))
		if errors.Is(err, ErrNotAttached) {
			return h.attach(ctx, r, nil)
		}
		if err != nil {
			return nil, err
		}
		r.Runtime = old.Runtime
		return h.attach(ctx, r, old)
	})
}
