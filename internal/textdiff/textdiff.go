package textdiff

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// DevNull names the side that does not exist.
const DevNull = "/dev/null"

// context is how many equal lines are shown around a difference.
const context = 3

// maxEdits bounds the search for the shortest script: it costs time and memory by
// its square.
const maxEdits = 1000

// IsText says whether a diff of these bytes is of use to a reader: there is no NUL
// in the first 8000 of them, which is how git tells.
func IsText(b []byte) bool { return bytes.IndexByte(b[:min(len(b), 8000)], 0) < 0 }

// Unified returns the unified diff of two texts, "" where they are equal.
func Unified(oldName, newName string, a, b []byte) string {
	x, y := lines(a), lines(b)
	edits := compare(x, y)
	if len(edits) == 0 {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && edits[n].a-edits[n-1].endA <= 2*context {
			n++
		}
		writeHunk(&out, x, y, edits[:n])
		edits = edits[n:]
	}
	return out.String()
}

// lines splits a text after each newline.
func lines(text []byte) []string {
	all := strings.SplitAfter(string(text), "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// An edit replaces lines a to endA of the old text by lines b to endB of the new.
type edit struct{ a, endA, b, endB int }

func writeHunk(out *strings.Builder, x, y []string, edits []edit) {
	first, last := edits[0], edits[len(edits)-1]
	before := min(context, first.a)
	after := min(context, len(x)-last.endA)
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(first.a-before, last.endA+after), span(first.b-before, last.endB+after))
	at := first.a - before
	for _, e := range edits {
		write(out, " ", x[at:e.a])
		write(out, "-", x[e.a:e.endA])
		write(out, "+", y[e.b:e.endB])
		at = e.endA
	}
	write(out, " ", x[at:at+after])
}

func write(out *strings.Builder, sign string, lines []string) {
	for _, l := range lines {
		out.WriteString(sign)
		out.WriteString(l)
		if !strings.HasSuffix(l, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// span is a range of lines as a hunk's head has it: counted from 1, and an empty
// one named after the line before it.
func span(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

// compare finds the edits, in order, none next to another.
func compare(x, y []string) []edit {
	start := 0
	for start < len(x) && start < len(y) && x[start] == y[start] {
		start++
	}
	endX, endY := len(x), len(y)
	for endX > start && endY > start && x[endX-1] == y[endY-1] {
		endX, endY = endX-1, endY-1
	}
	if start == endX && start == endY {
		return nil
	}
	matches, ok := shortest(x[start:endX], y[start:endY])
	if !ok {
		return []edit{{start, endX, start, endY}}
	}
	var edits []edit
	a, b := start, start
	for _, m := range append(matches, match{endX - start, endY - start}) {
		if m.a+start > a || m.b+start > b {
			edits = append(edits, edit{a, m.a + start, b, m.b + start})
		}
		a, b = m.a+start+1, m.b+start+1
	}
	return edits
}

// A match is a line that both texts have.
type match struct{ a, b int }

// shortest finds the lines that a shortest script keeps: E. Myers, "An O(ND)
// Difference Algorithm and Its Variations", 1986, the greedy one. ok is false
// where that takes too many edits.
func shortest(x, y []string) (kept []match, ok bool) {
	limit := min(len(x)+len(y), maxEdits)
	reach := make([]int, 2*limit+3) // by diagonal: how far x is used up
	at := func(k int) *int { return &reach[k+limit+1] }
	var trace [][]int // reach[-d..d] before round d
	for d := 0; d <= limit; d++ {
		trace = append(trace, slices.Clone(reach[limit+1-d:limit+2+d]))
		for k := -d; k <= d; k += 2 {
			a := 0
			switch {
			case d == 0:
			case k == -d || k != d && *at(k - 1) < *at(k + 1):
				a = *at(k + 1)
			default:
				a = *at(k - 1) + 1
			}
			for a < len(x) && a-k < len(y) && x[a] == y[a-k] {
				a++
			}
			*at(k) = a
			if a >= len(x) && a-k >= len(y) {
				return walkBack(x, y, trace), true
			}
		}
	}
	return nil, false
}

// walkBack follows the trace from the end to the beginning.
func walkBack(x, y []string, trace [][]int) (kept []match) {
	a, b := len(x), len(y)
	for d := len(trace) - 1; d > 0; d-- {
		k := a - b
		reach := func(k int) int { return trace[d][k+d] }
		from := k - 1
		if k == -d || k != d && reach(k-1) < reach(k+1) {
			from = k + 1
		}
		wasA := reach(from)
		begin := wasA // of the equal lines that follow the edit
		if from < k {
			begin++
		}
		for a > begin {
			a, b = a-1, b-1
			kept = append(kept, match{a, b})
		}
		a, b = wasA, wasA-from
	}
	for a > 0 && b > 0 {
		a, b = a-1, b-1
		kept = append(kept, match{a, b})
	}
	slices.Reverse(kept)
	return kept
}
