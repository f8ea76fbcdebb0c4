package version

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// chains are lists in which every element is older than all that follow it.
var chains = map[string][]string{
	"systemd": {
		"~1", "", "ab", "abb", "abc", "0001", "002", "12", "122", "122.9", "123~rc1", "123", "123-a", "123-a.1",
		"123-a1", "123-a1.1", "123-3", "123-3.1", "123^patch1", "123^1", "123.a-1", "123.1-1", "123a-1", "124",
	},
	"UAPI.10": {
		"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1",
		"123a-1", "124-1",
	},
}

func TestChains(t *testing.T) {
	for name, chain := range chains {
		for i, a := range chain {
			for j, b := range chain {
				check(t, name, a, b, sign(i-j))
			}
		}
	}
}

// pairs are lines "a OP b ..." of the systemd, UAPI.10 and RPM vectors. A word
// in double quotes stands for itself, so that the empty string can be written.
var pairs = map[string]string{
	"systemd": `
		123.45-67.88 < 123.45-67.89
		123.45-67.89 < 123.45-67.89a
		123.45-67.ab < 123.45-67.89
		123.45-67.9 < 123.45-67.89
		123.45-67 < 123.45-67.89
		123.45-66.89 < 123.45-67.89
		123.45-9.99 < 123.45-67.89
		123.42-99.99 < 123.45-67.89
		123-99.99 < 123.45-67.89
		123~rc1-99.99 < 123.45-67.89
		123~rc1-99.99 < 123-45.67.89
		123~rc1-99.99 < 123~rc2-67.89
		123~rc1-99.99 < 123^aa2-67.89
		123~rc1-99.99 < 123aa2-67.89
		123-99.99 < 123^aa2-67.89
		123-99.99 < 123aa2-67.89
		123^45-67.89 < 123.45-67.89
		123^aa1-99.99 < 123^aa2-67.89
		123^aa2-67.89 < 123aa2-67.89
		123.aa2-67.89 < 123aa2-67.89
		123.aa2-67.89 < 123.ab2-67.89
	`,
	"corner": `
		123_aa2-67.89 = 123aa+2-67.89
		123. > 123
		12_3 < 123
		12_3 > 12
		12_3 > 12.3
		123.0 > 123
		123_0 > 123
		123..0 < 123.0
		"" = ""
		0_ = 0
		_0_ = 0
		_0 = 0
		0 = 0___
		"" = _
		_ = _
		"" > ~
		~ = ~
		1 = 1٠١٢٣٤٥٦٧٨٩
		1 = 1๐๑๒๓๔๕๖๗๘๙
	`,
	"UAPI.10": `
		11 = 11
		systemd-123 = systemd-123
		bar-123 < foo-123
		123a > 123
		123.a > 123
		123.a < 123.b
		123a > 123.a
		11α = 11β
		B < a
		"" < 0
		0. > 0
		0.0 > 0
		0 > ~
		1_ = 1
		_1 = 1
		1_ < 1.2
		1_2_3 > 1.3.3
		1+ = 1
		+1 = 1
		1+ < 1.2
		1+2+3 > 1.3.3
	`,
	"rpm": `
		1.0 = 1.0
		1.0 < 2.0
		2.0.1 = 2.0.1
		2.0 < 2.0.1
		2.0.1a = 2.0.1a
		2.0.1a > 2.0.1
		5.5p1 < 5.5p2
		5.5p1 < 5.5p10
		10xyz > 10.1xyz
		xyz10 < xyz10.1
		xyz.4 < 8
		xyz.4 < 2
		5.5p2 < 5.6p1
		5.6p1 < 6.5p1
		6.0.rc1 > 6.0
		10b2 > 10a1
		10a2 < 10b2
		1.0aa = 1.0aa
		1.0a < 1.0aa
		10.0001 = 10.0001
		10.0001 = 10.1
		10.0001 < 10.0039
		4.999.9 < 5.0
		20101121 < 20101122
		2_0 = 2_0
		2.0 < 2_0
		a = a
		a+ = a_
		+a = _a
		+_ = _+
		+ = _
		1.0~rc1 < 1.0
		1.0~rc1 < 1.0~rc2
		1.0~rc1~git123 < 1.0~rc1
		1.0^ > 1.0
		1.0^git1 > 1.0
		1.0^git1 < 1.0^git2
		1.0^git1 < 1.01
		1.0^20160101 < 1.0.1
		1.0^20160102 > 1.0^20160101^git1
		1.0~rc1^git1 > 1.0~rc1
		1.0^git1 > 1.0^git1~pre
		1b.fc17 > 1.fc17
		1g.fc17 > 1.fc17
		1.1.α = 1.1.β
		1.1.αα = 1.1.ββ
		1.1.α = 1.1.ββ
	`,
	"long": `
		99999999999999999999998 < 99999999999999999999999
		00000000000000000000001 < 2
		100000000000000000000000000000000 > 99999999999999999999999999999999
	`,
}

func TestPairs(t *testing.T) {
	for name, text := range pairs {
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if len(fields) == 0 {
				continue
			}
			if len(fields) != 3 {
				t.Fatalf("%s: bad vector %q", name, line)
			}
			check(t, name, unquote(fields[0]), unquote(fields[2]), strings.Index("<=>", fields[1])-1)
		}
	}
}

func unquote(word string) string {
	if s, err := strconv.Unquote(word); err == nil {
		return s
	}
	return word
}

// check compares both ways round, so that every vector also shows antisymmetry.
func check(t *testing.T, name, a, b string, want int) {
	t.Helper()
	if got := Compare(a, b); got != want {
		t.Errorf("%s: Compare(%q, %q) = %d, want %d", name, a, b, got, want)
	}
	if got := Compare(b, a); got != -want {
		t.Errorf("%s: Compare(%q, %q) = %d, want %d", name, b, a, got, -want)
	}
}

// TestAgainstSystemd shows that the vectors are systemd's own answers, where a
// systemd is at hand. The integration tests do the same under every release.
func TestAgainstSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here: the vectors are not compared with it")
		return
	}
	for i, a := range chains["systemd"][1:] {
		for _, b := range chains["systemd"][1+i:] {
			// systemd-analyze: status 0 equal, 11 newer, 12 older.
			out, _ := exec.Command(analyze, "compare-versions", "--", a, b).Output()
			want := map[int]string{-1: "<", 0: "==", 1: ">"}[Compare(a, b)]
			if !strings.Contains(string(out), " "+want+" ") {
				t.Errorf("systemd-analyze says %q; we say %q", strings.TrimSpace(string(out)), want)
			}
		}
	}
}

func TestValid(t *testing.T) {
	for s, want := range map[string]bool{
		"1": true, "1.2-3~rc^x": true, "abc": true, "": false, "1_2": false, "1+2": false, "1 2": false, "1/2": false, "α": false,
	} {
		if got := Valid(s); got != want {
			t.Errorf("Valid(%q) = %v, want %v", s, got, want)
		}
	}
}

// FuzzCompare asserts what holds for every pair: the answer is one of three, the
// order is antisymmetric, and a string equals itself. Transitivity does not hold
// on odd input and is not asserted.
func FuzzCompare(f *testing.F) {
	for _, chain := range chains {
		for i := 1; i < len(chain); i++ {
			f.Add(chain[i-1], chain[i])
		}
	}
	f.Add("a\x00b", "\xff~")
	f.Fuzz(func(t *testing.T, a, b string) {
		order := Compare(a, b)
		if order < -1 || order > 1 {
			t.Fatalf("Compare(%q, %q) = %d", a, b, order)
		}
		if back := Compare(b, a); back != -order {
			t.Fatalf("Compare(%q, %q) = %d, but the other way round %d", a, b, order, back)
		}
		if Compare(a, a) != 0 {
			t.Fatalf("Compare(%q, itself) != 0", a)
		}
	})
}
