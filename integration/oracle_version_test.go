package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/integration/rig"
)

// TestOracleVersion compares version.Compare with systemd-analyze compare-versions.
func TestOracleVersion(t *testing.T) {
	pairs := versionPairs()
	var script strings.Builder
	for _, p := range pairs {
		// Exit status: 0 equal, 11 the first is newer, 12 the second.
		fmt.Fprintf(&script, "systemd-analyze compare-versions -- %s >/dev/null; echo $?\n", quoteAll(p[:]))
	}
	want := map[string]int{"0": 0, "11": 1, "12": -1}
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		answers := strings.Fields(c.Script(script.String()))
		if len(answers) != len(pairs) {
			t.Fatalf("%d answers to %d questions", len(answers), len(pairs))
		}
		for i, p := range pairs {
			oracle, known := want[answers[i]]
			if got := version.Compare(p[0], p[1]); !known || got != oracle {
				t.Errorf("compare %q with %q: %d, systemd says %d (exit status %s)", p[0], p[1], got, oracle, answers[i])
			}
		}
	})
}

// versionPairs are random strings of the bytes that matter, often alike at the start. Bytes beyond ASCII are
// left out: after a "~", systemd's answer hangs on the sign of the machine's char.
func versionPairs() [][2]string {
	r := newRand(1)
	word := func() string {
		return several(r, 5, "0", "1", "2", "10", "00", "a", "b", "B", "rc", "~", "^", ".", "-", "_", "+")
	}
	pairs := [][2]string{{"", ""}, {"", "~"}, {"1", ""}, {"123.", "123"}, {"1.0~rc1", "1.0"}, {"18446744073709551616", "18446744073709551617"}}
	for range 120 {
		common := word()
		pairs = append(pairs, [2]string{common + word(), common + word()})
	}
	return pairs
}
