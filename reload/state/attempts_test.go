package state

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What failed is kept as long as the generation that it came after, and never takes
// the place of one that can be gone back to.
func TestAttemptsAreTrimmed(t *testing.T) {
	for _, c := range []struct {
		name string
		keep int
		what string // c: committed, r: refused, t: taken back; each for a reason of its own
		want string
	}{
		{"few", 3, "crct", "1c 2r 3c 4t"},
		{"many refusals", 2, "ccrrrrr", "1c 2c 6r 7r"},
		{"older than the first", 2, "crcrcc", "5c 6c"},
		{"between", 2, "crcrtct", "3c 5t 6c 7t"},
		{"one", 1, "ccrt", "2c 4t"},
	} {
		u := unit(t, In(t.TempDir()), "web")
		l := lock(t, u)
		for i, letter := range c.what {
			g := generation(uint64(i + 1))
			if letter != 'c' {
				g.Good, g.Why = false, fmt.Sprint(i)
				g.Outcome = map[rune]string{'r': OutcomeRefused, 't': OutcomeTakenBack}[letter]
			}
			noWarning(t, l.AddHistory(g, c.keep))
		}
		unlock(t, l)
		h, err := u.History()
		must(t, err)
		var got []string
		for _, g := range h {
			got = append(got, fmt.Sprint(g.Number)+g.Outcome[:1])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A reload that is tried again and again is refused once.
func TestSameRefusal(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	l := lock(t, u)
	defer unlock(t, l)
	noWarning(t, l.AddHistory(generation(1), 10))
	add := func(why, outcome string) {
		t.Helper()
		n, err := l.NextNumber(nil)
		must(t, err)
		g := generation(n)
		g.Extensions = generation(1).Extensions
		g.Outcome, g.Why, g.Good = outcome, why, false
		noWarning(t, l.AddHistory(g, 10))
	}
	for range 5 {
		add("no release file", OutcomeRefused)
	}
	add("another reason", OutcomeRefused)
	for range 2 {
		add("exit 1", OutcomeTakenBack) // each was live
	}
	h, err := l.History()
	must(t, err)
	var got []string
	for _, g := range h {
		got = append(got, fmt.Sprint(g.Number)+" "+g.Why)
	}
	if want := "1 ; 2 no release file; 3 another reason; 4 exit 1; 5 exit 1"; strings.Join(got, "; ") != want {
		t.Errorf("%q, want %q", strings.Join(got, "; "), want)
	}
}

func TestCovers(t *testing.T) {
	h := Hold{Ref: "/x.v", Version: "3", Above: "1", Identity: "dir:3"}
	all := Hold{Ref: "/x.v", Version: "3", Identity: "dir:3", Without: true}
	bare := Hold{Ref: "/x", Identity: "dir:a"}
	for _, c := range []struct {
		hold              Hold
		version, identity string
		want              bool
	}{
		{h, "3", "dir:3", true}, {h, "3", "dir:other", true}, {h, "2", "dir:2", true},
		{h, "1", "dir:1", false}, {h, "0", "dir:0", false}, {h, "4", "dir:4", false},
		{h, "4", "dir:3", true}, {h, "", "dir:x", false},
		{all, "0", "dir:0", true}, {all, "4", "dir:4", false},
		{bare, "", "dir:a", true}, {bare, "", "dir:b", false}, {bare, "1", "dir:b", false},
	} {
		if got := c.hold.Covers(c.version, c.identity, strings.Compare); got != c.want {
			t.Errorf("%+v, version %q, %s: %v", c.hold, c.version, c.identity, got)
		}
	}
	m := &Memory{Holds: []Hold{h, bare}}
	if _, held := m.IsHeld("directory", "/y.v", "3", "dir:3", strings.Compare); held {
		t.Error("another ref is held")
	}
	if _, held := m.IsHeld("directory", "/x.v", "3", "dir:3", strings.Compare); !held {
		t.Error("the ref is not held")
	}
}

// Most lines are judged by their beginning.
func TestCommittedAtOnce(t *testing.T) {
	g := generation(1<<64 - 1)
	g.Serial, g.Time = 1<<64-1, time.Date(2026, 12, 31, 23, 59, 59, 123456789, time.FixedZone("", 5400))
	b, err := encodeLine(&g)
	must(t, err)
	if cut := b[:160]; !decodeCommitted(cut[:len(cut):len(cut)]) || !bytes.Contains(cut, []byte(`"outcome":"committed"`)) {
		t.Errorf("the outcome comes too late: %s", cut)
	}
	g.Outcome, g.Why = OutcomeRefused, `,"outcome":"committed"`
	b, err = encodeLine(&g)
	must(t, err)
	if decodeCommitted(b) {
		t.Errorf("committed: %s", b)
	}
}
