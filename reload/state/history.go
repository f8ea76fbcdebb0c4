package state

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
)

var newline = []byte{'\n'}

// A History is what generations a name had, oldest first, with what was refused or
// taken back. In its file each line has
// the schema, as a newer program can append to what an older one began.
type History []Generation

// LastGood returns the last generation that passed its checks, nil where there is
// none.
func (h History) LastGood() *Generation {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Good {
			return &h[i]
		}
	}
	return nil
}

// KnownGood says whether exactly these extensions, in this layer order, were a
// generation that passed its checks.
func (h History) KnownGood(extensions []Extension) bool {
	return slices.ContainsFunc(h, func(g Generation) bool {
		return g.Good && slices.EqualFunc(g.Extensions, extensions, func(a, b Extension) bool { return a.Same(&b) })
	})
}

// Number returns the last generation of that number, nil where there is none.
func (h History) Number(n uint64) *Generation {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Number == n {
			return &h[i]
		}
	}
	return nil
}

// With adds the generation of the record where the history lacks it, as [Lock.Complete]
// will: whoever committed it was killed before it came to that. What was tried since
// stays the last.
func (h History) With(current *Generation) History {
	if !lacks(current.Number, len(h), func(i int) (uint64, error) { return h[i].Number, nil }) {
		return h
	}
	at := slices.IndexFunc(h, func(g Generation) bool { return g.Number > current.Number })
	if at < 0 {
		at = len(h)
	}
	return slices.Insert(slices.Clone(h), at, *current)
}

// lacks says whether a generation that was committed is none of n, whose numbers go up,
// but for those that have none. Where one cannot be read, it says false.
func lacks(current uint64, n int, number func(i int) (uint64, error)) bool {
	if current == 0 {
		return false
	}
	for i := n - 1; i >= 0; i-- {
		is, err := number(i)
		if err != nil || is == current {
			return false
		}
		if is > 0 && is < current {
			break
		}
	}
	return true
}

func loadHistory(d dir) (History, error) {
	lines, err := readLines(d)
	if err != nil {
		return nil, err
	}
	h := make(History, len(lines))
	for i, b := range lines {
		g, err := decodeGeneration(d.path(historyFile), b)
		if err != nil {
			return nil, err
		}
		h[i] = *g
	}
	return h, nil
}

func readLines(d dir) ([][]byte, error) {
	b, err := d.read(historyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return splitLines(b), nil
}

// splitLines returns the lines that are not empty, without what ends them.
func splitLines(b []byte) [][]byte {
	lines := bytes.Split(b, newline)
	return slices.DeleteFunc(lines, func(l []byte) bool { return len(bytes.TrimSpace(l)) == 0 })
}

// refuseNewer looks at the last line only: schemas never go down.
func refuseNewer(d dir, lines [][]byte) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := decodeNumber(d.path(historyFile), lines[len(lines)-1])
	var newer *SchemaError
	if errors.As(err, &newer) {
		return newer
	}
	return nil
}

// sameRefusal says whether the same extensions were refused for the same reason.
func sameRefusal(a, b *Generation) bool {
	return a.Outcome == b.Outcome && a.Why == b.Why && a.Trigger == b.Trigger && slices.Equal(a.Identities(), b.Identities())
}

// trim keeps the last keep generations that were committed, and what failed since
// the first of these, keep at most; fewer where they are too much to read again. Of
// the others it keeps the last good one where none of those that stay is good.
// lastGood says that the last line is.
func trim(lines [][]byte, keep int, lastGood bool) [][]byte {
	if len(lines) <= keep && size(lines) <= maxHistory {
		return lines
	}
	var kept [][]byte // last first
	committed, failed, i := 0, 0, len(lines)-1
	for ; i >= 0 && committed < keep; i-- {
		if len(kept) > 0 && size(kept)+len(lines[i]) >= maxHistory {
			break
		}
		if decodeCommitted(lines[i]) {
			committed++
		} else if failed++; failed > keep {
			continue
		}
		kept = append(kept, lines[i])
	}
	if !lastGood && !slices.ContainsFunc(kept, isGood) {
		for ; i >= 0; i-- {
			if isGood(lines[i]) {
				kept = append(kept, lines[i])
				break
			}
		}
	}
	slices.Reverse(kept)
	return kept
}

func isGood(line []byte) bool {
	g, err := decodeGeneration("", line)
	return err == nil && g.Good
}

func size(lines [][]byte) int {
	n := 0
	for _, l := range lines {
		n += len(l) + 1
	}
	return n
}
