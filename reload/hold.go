package reload

import (
	"errors"
	"fmt"
	"time"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

// passOver has a pick pass over what was refused and what is held.
func passOver(memory *state.Memory, ref settings.Ref) extension.PickOptions {
	kind, text := ref.Kind.String(), ref.String()
	return extension.PickOptions{
		Refused: memory.IsRefused,
		Held: func(v, identity string) (string, bool) {
			return memory.IsHeld(kind, text, v, identity, version.Compare)
		},
	}
}

// allHeld judges a pick that found nothing to use. The generation that was gone back
// to may have had nothing of the ref: then there is nothing to use of it now, which
// is no error.
func allHeld(memory *state.Memory, ref settings.Ref, err error) (none bool, _ error) {
	hold := memory.HoldOf(ref.Kind.String(), ref.String())
	if hold == nil || !errors.Is(err, vpick.ErrNoMatch) {
		return false, err
	}
	if hold.Without {
		return true, nil
	}
	return false, fmt.Errorf("%w: install a newer version, or lift the hold: extexec unhold NAME %s", err, ref)
}

// heldBefore names the candidates better than the one that was picked which a
// rollback left.
func heldBefore(memory *state.Memory, p *extension.Picked) []string {
	hold := memory.HoldOf(p.Kind.String(), p.Ref.String())
	if hold == nil {
		return nil
	}
	var texts []string
	for _, c := range p.Candidates {
		if c.Why == "" {
			break
		}
		if c.Identity != "" && hold.Covers(c.Version, c.Identity, version.Compare) {
			texts = append(texts, fmt.Sprintf("%q is passed over: it %s", c.Path, c.Why))
		}
	}
	return texts
}

// holdsAfter is what is held once a generation is left for an older one: of every
// ref what is newer than the version that is gone back to, up to the one that is
// left, or to what was held before. It is pure.
func holdsAfter(old []state.Hold, left, to state.Generation, now time.Time) []state.Hold {
	var holds []state.Hold
	had, have := byRef(left), byRef(to)
	for _, h := range old {
		ref := refKey{h.Kind, h.Ref}
		if e, ok := had[ref]; !ok || version.Compare(h.Version, e.Version) > 0 {
			had[ref] = state.Extension{Kind: h.Kind, Ref: h.Ref, Version: h.Version, Identity: h.Identity}
		}
	}
	why := fmt.Sprintf("is held since the rollback to generation %d", to.Number)
	for _, e := range left.Extensions {
		if h, ok := hold(had[refOf(e)], have); ok {
			h.Why, h.Time = why, now
			holds = append(holds, h)
		}
		delete(had, refOf(e))
	}
	for _, h := range old {
		e, ok := had[refKey{h.Kind, h.Ref}]
		if !ok {
			continue // seen above
		}
		if _, ok := have[refKey{h.Kind, h.Ref}]; !ok {
			holds = append(holds, h) // neither generation has anything of it
		} else if n, ok := hold(e, have); ok {
			n.Why, n.Time = why, now
			holds = append(holds, n)
		}
	}
	return holds
}

// hold is what keeps an extension from coming back, now that its ref gives another.
func hold(left state.Extension, have map[refKey]state.Extension) (h state.Hold, ok bool) {
	h = state.Hold{Kind: left.Kind, Ref: left.Ref, Version: left.Version, Identity: left.Identity}
	to, ok := have[refOf(left)]
	if !ok {
		h.Without = true
		return h, true
	}
	if left.Identity == to.Identity {
		return h, false
	}
	if left.Version == "" || to.Version == "" {
		h.Version = ""
		return h, true
	}
	h.Above = to.Version
	return h, version.Compare(left.Version, to.Version) >= 0
}

// overcome forgets what a committed generation has overcome; with force, also the hold
// of any ref that it has something of. What was read is changed, and what is written down.
func overcome(lock *state.Lock, memory *state.Memory, r *state.Record, force bool) *state.Warning {
	change := func(m *state.Memory) {
		m.Settle(r, version.Compare)
		for _, e := range r.Current.Extensions {
			if force {
				m.Unhold(e.Kind, e.Ref)
			}
		}
	}
	holds, refused := len(memory.Holds), len(memory.Refused)
	change(memory)
	if len(memory.Holds) == holds && len(memory.Refused) == refused {
		return nil
	}
	return lock.Remember(change)
}
