package state

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemory(t *testing.T) {
	u := unit(t, In(t.TempDir()), "web")
	l := lock(t, u)
	defer unlock(t, l)
	noWarning(t, l.Remember(func(*Memory) {}))
	if _, err := os.Lstat(filepath.Join(u.memory, memoryFile)); err == nil {
		t.Error("nothing changed, and yet a file was written")
	}
	noWarning(t, l.Remember(func(m *Memory) {
		m.Refuse(Refused{Identity: "a", Why: "first"})
		m.Refuse(Refused{Identity: "b"})
		m.Refuse(Refused{Identity: "a", Why: "second"})
		m.Hold(Hold{Ref: "/srv/a.v", Version: "2"})
		m.Hold(Hold{Ref: "/srv/a.v", Version: "3"})
		m.Hold(Hold{Ref: "/srv/b.v", Version: "1"})
	}))
	noWarning(t, l.Remember(func(m *Memory) { m.Accept("b"); m.Unhold("", "/srv/b.v") }))
	want := &Memory{Schema: 1, Refused: []Refused{{Identity: "a", Why: "second"}}, Holds: []Hold{{Ref: "/srv/a.v", Version: "3"}}}
	for _, read := range []func() (*Memory, error){u.Memory, l.Memory} {
		m, err := read()
		must(t, err)
		if diff := cmp.Diff(want, m); diff != "" {
			t.Error(diff)
		}
		if why, refused := m.IsRefused("a"); !refused || why != "second" {
			t.Errorf("a: %q %v", why, refused)
		}
		if _, refused := m.IsRefused("b"); refused {
			t.Error("b is refused")
		}
	}
}

func TestRefusedIsBounded(t *testing.T) {
	m := &Memory{}
	for i := range maxRefused + 5 {
		m.Refuse(Refused{Identity: fmt.Sprint(i)})
	}
	if _, old := m.IsRefused("4"); old || len(m.Refused) != maxRefused || m.Refused[0].Identity != "5" {
		t.Errorf("%d kept, first %v", len(m.Refused), m.Refused[0])
	}
}

// numbers has "-" behind the number of a generation that is not good.
func numbers(h History) string {
	var s []string
	for _, g := range h {
		s = append(s, fmt.Sprint(g.Number)+map[bool]string{false: "-"}[g.Good])
	}
	return strings.Join(s, " ")
}

func TestHistoryIsTrimmed(t *testing.T) {
	for _, c := range []struct {
		name string
		keep int
		good string // one letter a generation
		want string
	}{
		{"all", 10, "ggg", "1 2 3"},
		{"last two", 2, "gggg", "3 4"},
		{"none asked", 0, "ggg", "3"},
		{"the last good one besides", 2, "ggbbb", "2 4- 5-"},
		{"still there after more", 2, "ggbbbbbb", "2 7- 8-"},
		{"a good one among the last", 3, "ggbgb", "3- 4 5-"},
		{"none good", 2, "bbbb", "3- 4-"},
	} {
		u := unit(t, In(t.TempDir()), "web")
		l := lock(t, u)
		for i, letter := range c.good {
			g := generation(uint64(i + 1))
			g.Good = letter == 'g'
			noWarning(t, l.AddHistory(g, c.keep))
		}
		unlock(t, l)
		h, err := u.History()
		must(t, err)
		if got := numbers(h); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		good := h.LastGood()
		if (good == nil) != !strings.Contains(c.good, "g") {
			t.Errorf("%s: last good %v", c.name, good)
		}
		if g := h.Number(h[0].Number); g != &h[0] {
			t.Errorf("%s: number %d is %v", c.name, h[0].Number, g)
		}
		if h.Number(99) != nil {
			t.Errorf("%s: number 99 is there", c.name)
		}
	}
}

func TestTrimBySize(t *testing.T) {
	big := []byte(strings.Repeat("x", maxHistory/2))
	lines := [][]byte{big, big, big, []byte("{}")}
	if got := trim(lines, 10, true); len(got) != 2 || size(got) > maxHistory {
		t.Errorf("%d lines, %d bytes", len(got), size(got))
	}
}

func TestKnownGood(t *testing.T) {
	bad := generation(2)
	bad.Good = false
	two := generation(3)
	two.Extensions = append(two.Extensions, Extension{Identity: "dir:top"})
	h := History{generation(1), bad, two}
	three := two.Extensions
	again := func(changed string) []Extension {
		e := slices.Clone(three)
		e[len(e)-1].Changed = changed
		return e
	}
	h[2].Extensions = again("1.5")
	for _, c := range []struct {
		extensions []Extension
		want       bool
	}{
		{h[0].Extensions, true},
		{bad.Extensions, false},
		{three, true},
		{[]Extension{three[1], three[0]}, false},
		{three[:1], false},
		{nil, false},
		{again("1.5"), true},
		{again("1.6"), false}, // written over in place
	} {
		if got := h.KnownGood(c.extensions); got != c.want {
			t.Errorf("%+v: %v", c.extensions, got)
		}
	}
	if !slices.Equal(h.LastGood().Identities(), two.Identities()) {
		t.Errorf("last good %v", h.LastGood())
	}
}
