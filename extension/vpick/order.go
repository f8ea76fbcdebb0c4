package vpick

import (
	"cmp"
	"fmt"

	"github.com/extexec/extexec/extension/architecture"
	"github.com/extexec/extexec/extension/version"
)

// preference ranks architectures: the lower, the better.
type preference struct {
	words []string
}

// newPreference: an architecture that is asked for is the only one. Else the
// native one, the one that also runs here, or none in the name.
func newPreference(asked, native string) preference {
	if asked != "" {
		return preference{words: []string{asked}}
	}
	p := preference{words: []string{native}}
	if s := architecture.Secondary(native); s != "" {
		p.words = append(p.words, s)
	}
	p.words = append(p.words, "")
	return p
}

// rank says false for an architecture that cannot be used.
func (p preference) rank(arch string) (int, bool) {
	for i, word := range p.words {
		if word == arch {
			return i, true
		}
	}
	return len(p.words), false
}

// better orders candidates, the best first: negative when a is better than b.
func (p preference) better(a, b *Candidate) int {
	rankA, _ := p.rank(a.Arch)
	rankB, _ := p.rank(b.Arch)
	return -cmp.Or(
		compareBool(a.Why == "", b.Why == ""),
		compareBool(a.TriesLeft != 0, b.TriesLeft != 0),
		version.Compare(a.Version, b.Version),
		cmp.Compare(rankB, rankA),
		cmp.Compare(a.TriesLeft, b.TriesLeft),
		cmp.Compare(b.TriesDone, a.TriesDone),
		cmp.Compare(a.Name, b.Name),
	)
}

// whyWorse says why c was not picked although nothing is wrong with it.
func (p preference) whyWorse(c, picked *Candidate) string {
	switch {
	case c.TriesLeft == 0 && picked.TriesLeft != 0:
		return "has no tries left"
	case version.Compare(c.Version, picked.Version) < 0:
		return fmt.Sprintf("is older than %q", picked.Name)
	case c.Arch != picked.Arch && c.Version != "":
		return fmt.Sprintf("is for architecture %s, %q is preferred", archText(c.Arch), picked.Name)
	case c.TriesLeft != picked.TriesLeft || c.TriesDone != picked.TriesDone:
		return fmt.Sprintf("has been tried more often than %q", picked.Name)
	}
	return fmt.Sprintf("is the same version as %q", picked.Name)
}

func archText(arch string) string {
	if arch == "" {
		return "none"
	}
	return arch
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
