package integration

import (
	"math/rand/v2"
	"strings"
)

// The oracle tests give generated cases to systemd's own tools and to our packages, and want one answer. The
// cases come from fixed seeds: a failure is there again in the next run.

// newRand returns a source of numbers that is the same in every run.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 20260801)) }

// pick returns one of the words.
func pick(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

// several joins up to n words.
func several(r *rand.Rand, n int, words ...string) string {
	var b strings.Builder
	for range r.IntN(n + 1) {
		b.WriteString(pick(r, words...))
	}
	return b.String()
}

// quote makes a string one word of a shell script.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}
