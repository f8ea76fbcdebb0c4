package textdiff

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnified(t *testing.T) {
	for _, tt := range []struct{ name, a, b, want string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"both empty", "", "", ""},
		{"new", "", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"gone", "a\n", "", "@@ -1 +0,0 @@\n-a\n"},
		{"one line", "a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		{"no newline", "a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{
			"two hunks", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", "x\n1\n2\n3\n4\n5\n6\n7\n8\ny\n",
			"@@ -1,4 +1,4 @@\n-0\n+x\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-9\n+y\n",
		},
		{
			"one hunk", "0\n1\n2\n3\n4\n5\n6\n7\n", "x\n1\n2\n3\n4\n5\n6\ny\n",
			"@@ -1,8 +1,8 @@\n-0\n+x\n 1\n 2\n 3\n 4\n 5\n 6\n-7\n+y\n",
		},
	} {
		want := tt.want
		if want != "" {
			want = "--- old\n+++ new\n" + want
		}
		if d := cmp.Diff(want, Unified("old", "new", []byte(tt.a), []byte(tt.b))); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestNothingInCommon: texts that are wholly different are replaced as a whole, in
// bounded time.
func TestNothingInCommon(t *testing.T) {
	var a, b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&a, "a%d\n", i)
		fmt.Fprintf(&b, "b%d\n", i)
	}
	got := Unified("old", "new", []byte("same\n"+a.String()), []byte("same\n"+b.String()))
	if !strings.HasPrefix(got, "--- old\n+++ new\n@@ -1,20001 +1,20001 @@\n same\n-a0\n") || !strings.HasSuffix(got, "+b19999\n") {
		t.Errorf("%.200s …", got)
	}
}

func TestIsText(t *testing.T) {
	for text, want := range map[string]bool{"": true, "a\n": true, "a\x00": false, "\xff\xfe": true, strings.Repeat("a", 9000) + "\x00": true} {
		if IsText([]byte(text)) != want {
			t.Errorf("%.10q: %t", text, !want)
		}
	}
}

// apply is a patch(1) that trusts nothing: every line of the old text must be where
// the diff says.
func apply(t *testing.T, a []byte, diff string) string {
	old := lines(a)
	var out strings.Builder
	at := 0
	body := strings.SplitAfter(diff, "\n")
	for i := 2; i < len(body) && body[i] != ""; {
		var from, n int
		head, _, _ := strings.Cut(strings.TrimPrefix(body[i], "@@ -"), " ")
		if c, _ := fmt.Sscanf(head, "%d,%d", &from, &n); c == 1 {
			n = 1
		}
		if n > 0 {
			from--
		}
		if from < at {
			t.Fatalf("a hunk begins at %d, we are at %d:\n%s", from, at, diff)
		}
		for ; at < from; at++ {
			out.WriteString(old[at])
		}
		for i++; i < len(body) && body[i] != "" && !strings.HasPrefix(body[i], "@@"); i++ {
			sign, line := body[i][0], body[i][1:]
			if i+1 < len(body) && strings.HasPrefix(body[i+1], `\`) {
				line = strings.TrimSuffix(line, "\n")
			}
			switch sign {
			case '\\':
			case '+':
				out.WriteString(line)
			default:
				if at >= len(old) || old[at] != line {
					t.Fatalf("line %d of the old text is not %q:\n%s", at, line, diff)
				}
				at++
				if sign == ' ' {
					out.WriteString(line)
				}
			}
		}
	}
	for ; at < len(old); at++ {
		out.WriteString(old[at])
	}
	return out.String()
}

// FuzzUnified checks that a diff leads from the one text to the other. Letters stand
// for lines, so that there is something in common.
func FuzzUnified(f *testing.F) {
	for _, s := range [][2]string{{"", ""}, {"abc", "axc"}, {"abcabba", "cbabac"}, {"abcdefghijklmnop", "xbcdefghijklmnoy"}, {"a\nb", "a\nb\n"}, {"\n\n", "\n"}} {
		f.Add(s[0], s[1], true)
		f.Add(s[0], s[1], false)
	}
	f.Fuzz(func(t *testing.T, a, b string, letters bool) {
		if letters {
			a, b = strings.Join(strings.Split(a, ""), "\n"), strings.Join(strings.Split(b, ""), "\n")
		}
		diff := Unified("old", "new", []byte(a), []byte(b))
		if a == b {
			if diff != "" {
				t.Fatalf("equal texts give %q", diff)
			}
			return
		}
		if got := apply(t, []byte(a), diff); got != b {
			t.Fatalf("applied to %q it gives %q, not %q:\n%s", a, got, b, diff)
		}
	})
}

// TestAsDiffDoes compares with diff(1), where the shortest script is not in doubt.
func TestAsDiffDoes(t *testing.T) {
	if _, err := exec.LookPath("diff"); err != nil {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("there is no diff(1)")
		}
		t.Skip("there is no diff(1)")
	}
	dir := t.TempDir()
	a := []byte("user www-data;\nworker_processes auto;\n\nevents {\n\tworker_connections 768;\n}\n\nhttp {\n\tsendfile on;\n\tgzip on;\n}\n")
	b := bytes.Replace(append([]byte("# new\n"), a...), []byte("768"), []byte("1024"), 1)
	for name, text := range map[string][]byte{"old": a, "new": b} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("diff", "-u", "--label", "old", "--label", "new", "old", "new")
	cmd.Dir = dir
	want, _ := cmd.Output() // 1: they differ
	if d := cmp.Diff(string(want), Unified("old", "new", a, b)); d != "" {
		t.Errorf("differs (-diff +ours):\n%s", d)
	}
}
