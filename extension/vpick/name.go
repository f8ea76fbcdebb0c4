package vpick

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/extexec/extexec/extension/architecture"
	"github.com/extexec/extexec/extension/version"
)

// Unlimited is the number of tries of an entry whose name counts none.
const Unlimited uint = math.MaxUint

// parseName reads an entry's name: BASENAME_VERSION[_ARCH][+LEFT[-DONE]]SUFFIX.
// It says false for a name that is no candidate at all. A candidate that cannot
// be used has Why set.
func (p place) parseName(name string) (Candidate, bool) {
	rest := name
	if p.basename != "" {
		var ok bool
		if rest, ok = strings.CutPrefix(name, p.basename+"_"); !ok {
			return Candidate{}, false
		}
	}
	rest, ok := strings.CutSuffix(rest, p.suffix)
	if !ok {
		return Candidate{}, false
	}
	c := Candidate{Path: join(p.dir, name), Name: name}
	rest, c.TriesLeft, c.TriesDone = cutTries(rest)
	// systemd cuts an unknown word off as well: foo_bar_1.0 has version "bar".
	if at := strings.LastIndexByte(rest, '_'); at >= 0 {
		if word := rest[at+1:]; architecture.Known(word) {
			c.Arch = word
		}
		rest = rest[:at]
	}
	c.Version = rest
	switch {
	case temporary(name):
		c.Why = "has the name of an unfinished file"
	case !version.Valid(rest):
		c.Why = fmt.Sprintf("has no valid version in its name (%q)", rest)
	}
	return c, true
}

// Entry is what a name means as an entry of the versioned directory that a path uses
// under a filter. It says false for a name that is no candidate, and for a path that
// uses none. A candidate that is never picked has Why set.
func Entry(path string, f Filter, name string) (Candidate, bool) {
	p := f.locate(path)
	if p.dir == "" {
		return Candidate{}, false
	}
	c, ok := p.parseName(name)
	if _, usable := newPreference(f.Arch, architecture.Native()).rank(c.Arch); ok && !usable && c.Why == "" {
		c.Why = fmt.Sprintf("is for architecture %s", archText(c.Arch))
	}
	return c, ok
}

// CutTries takes the suffix and the counter of tries off a name. It says false
// where the name does not end in the suffix. Both tries are [Unlimited] where the
// name counts none.
func CutTries(name, suffix string) (stem string, left, done uint, ok bool) {
	stem, ok = strings.CutSuffix(name, suffix)
	if !ok {
		return "", 0, 0, false
	}
	stem, left, done = cutTries(stem)
	return stem, left, done, true
}

// cutTries cuts +LEFT[-DONE] off. A "+" that does not start a counter stays, and
// makes the version invalid.
func cutTries(name string) (stem string, left, done uint) {
	if at := strings.LastIndexByte(name, '+'); at >= 0 {
		if left, done, ok := parseTries(name[at+1:]); ok {
			return name[:at], left, done
		}
	}
	return name, Unlimited, Unlimited
}

// WithoutTries takes a boot counter off the end of a path whose suffix was taken off.
func WithoutTries(path string) string {
	at := strings.LastIndexByte(path, '+')
	if at < 0 {
		return path
	}
	if _, _, ok := parseTries(path[at+1:]); !ok {
		return path
	}
	return path[:at]
}

// parseTries reads LEFT or LEFT-DONE.
func parseTries(s string) (left, done uint, ok bool) {
	leftText, doneText, both := strings.Cut(s, "-")
	if left, ok = parseCount(leftText); !ok {
		return 0, 0, false
	}
	if both {
		if done, ok = parseCount(doneText); !ok {
			return 0, 0, false
		}
	}
	return left, done, true
}

// parseCount reads a number of 32 bits, as systemd's counters have, without a
// sign.
func parseCount(s string) (uint, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint(n), err == nil
}

// temporary says whether a name is one that tools give to what they have not
// finished yet.
func temporary(name string) bool {
	return strings.HasPrefix(name, ".#") || strings.HasPrefix(name, ".sysupdate.") ||
		strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, "~")
}
