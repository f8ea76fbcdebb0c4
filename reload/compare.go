package reload

import (
	"slices"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/reload/state"
)

// Difference is what a reload comes to.
type Difference struct {
	Added, Removed []string // paths of extensions
	Changed        []string // paths of those that have another version or identity now
	Reordered      bool
}

// None says that the same extensions are wanted in the same order.
func (d Difference) None() bool {
	return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 && !d.Reordered
}

// Compare holds what is picked, in layer order, against a generation. It is pure.
func Compare(current state.Generation, picked []*extension.Picked) Difference {
	var d Difference
	old := byRef(current)
	var had, have []string
	for _, e := range current.Extensions {
		had = append(had, e.Identity)
	}
	for _, p := range picked {
		have = append(have, p.Identity)
		ref := refOf(extensionOf(p))
		e, ok := old[ref]
		switch {
		case !ok:
			d.Added = append(d.Added, p.Path)
		case !same(e, p):
			d.Changed = append(d.Changed, p.Path)
		}
		delete(old, ref)
	}
	for _, e := range current.Extensions {
		if _, left := old[refOf(e)]; left {
			d.Removed = append(d.Removed, e.Path)
		}
	}
	d.Reordered = len(d.Added)+len(d.Removed)+len(d.Changed) == 0 && !slices.Equal(had, have)
	return d
}

// refKey tells refs apart: an image and a directory may be picked from one ".v/".
type refKey struct{ kind, text string }

func refOf(e state.Extension) refKey { return refKey{e.Kind, e.Ref} }

func byRef(g state.Generation) map[refKey]state.Extension {
	m := map[refKey]state.Extension{}
	for _, e := range g.Extensions {
		m[refOf(e)] = e
	}
	return m
}

// same tells whether a recorded extension is what was picked now.
func same(e state.Extension, p *extension.Picked) bool {
	x := extensionOf(p)
	return e.Same(&x)
}
