package state

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
)

var newline = []byte{'\n'}

// A History is what generations a name had, oldest first. In its file each line has
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
func (h History) KnownGood(identities []string) bool {
	return slices.ContainsFunc(h, func(g Generation) bool {
		return g.Good && slices.Equal(g.Identities(), identities)
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

// trim keeps the last keep lines, fewer where they are too much to read again, and
// of the others the last good one where none of those that stay is good. lastGood
// says that the last line is.
func trim(lines [][]byte, keep int, lastGood bool) [][]byte {
	first := max(len(lines)-keep, 0)
	for size(lines[first:]) > maxHistory && first < len(lines)-1 {
		first++
	}
	if first == 0 || lastGood {
		return lines[first:]
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if g, err := decodeGeneration("", lines[i]); err == nil && g.Good {
			if i < first {
				return append([][]byte{lines[i]}, lines[first:]...)
			}
			break
		}
	}
	return lines[first:]
}

func size(lines [][]byte) int {
	n := 0
	for _, l := range lines {
		n += len(l) + 1
	}
	return n
}
