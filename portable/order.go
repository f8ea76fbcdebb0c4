package portable

import (
	"context"
	"fmt"
	"slices"
)

// start starts units. systemd keeps to After= between those of which it has the jobs: so
// the ones that come first are asked for first.
func (h Host) start(ctx context.Context, units []string) error {
	units, err := h.inOrder(ctx, "start", units)
	if len(units) == 0 || err != nil {
		return err
	}
	return h.Manager.Start(ctx, units...)
}

// stop stops units, those first that come after others.
func (h Host) stop(ctx context.Context, units []string) error {
	units, err := h.inOrder(ctx, "stop", units)
	if len(units) == 0 || err != nil {
		return err
	}
	slices.Reverse(units)
	return h.Manager.Stop(ctx, units...)
}

// restart restarts units, in the order of start: systemd stops and starts those of which
// it has the jobs in the orders of both.
func (h Host) restart(ctx context.Context, units []string) error {
	units, err := h.inOrder(ctx, "restart", units)
	if len(units) == 0 || err != nil {
		return err
	}
	return h.Manager.Restart(ctx, units...)
}

// inOrder are units in the order in which they are to be started, as far as systemd knows
// them by now. The slice is the caller's.
func (h Host) inOrder(ctx context.Context, verb string, units []string) ([]string, error) {
	if len(units) == 0 {
		return nil, nil
	}
	if h.Manager == nil {
		return nil, fmt.Errorf("%s unit %q: %w", verb, units[0], errNoManager)
	}
	if len(units) == 1 {
		return slices.Clone(units), nil
	}
	after := map[string][]string{}
	for _, u := range units {
		first, then, err := h.Manager.Ordering(ctx, u)
		if err != nil {
			return nil, err
		}
		after[u] = append(after[u], first...)
		for _, v := range then {
			after[v] = append(after[v], u)
		}
	}
	return ordered(units, after), nil
}

// ordered puts units behind those of them that they come after, and leaves them as they
// are otherwise. A circle is broken where it is met, as systemd has to do, too.
func ordered(units []string, after map[string][]string) []string {
	left, list := slices.Clone(units), make([]string, 0, len(units))
	for len(left) > 0 {
		next := max(0, slices.IndexFunc(left, func(u string) bool {
			return !slices.ContainsFunc(after[u], func(v string) bool { return v != u && slices.Contains(left, v) })
		}))
		list = append(list, left[next])
		left = slices.Delete(left, next, next+1)
	}
	return list
}
