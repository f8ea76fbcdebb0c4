package unitfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParse has the vectors of systemd's test-conf-parser and what they leave
// out. Values are those of key "s" in [S].
func TestParse(t *testing.T) {
	long := strings.Repeat("ABCD", 1000)
	for _, c := range []struct {
		name, text string
		want       []string
		warnings   int
	}{
		{"plain", "[S]\ns=1\n", []string{"1"}, 0},
		{"no newline at the end", "[S]\ns=1", []string{"1"}, 0},
		{"blank lines", "\n\n\n\n[S]\n\n\ns=1", []string{"1"}, 0},
		{"repeated", "[S]\n[S]\ns=1\ns= 2 \t\ns=    1\n", []string{"1", "2", "1"}, 0},
		{"reset", "[S]\ns=1\ns=\ns=1\n", []string{"1", "", "1"}, 0},
		{"continuation", "[S]\ns=1\\\n2\\\n3\n", []string{"1 2 3"}, 0},
		{"comment does not continue", "[S]\n#hoge\\\ns=1\\\n2\\\n3\n", []string{"1 2 3"}, 0},
		{"comment in a continuation", "[S]\ns=1\\\n#hoge\\\n2\\\n3\n", []string{"1 2 3"}, 0},
		{"semicolon comment in a continuation", "[S]\ns=1\\\n;hoge\n2\\\n3\n", []string{"1 2 3"}, 0},
		{"indented", "[S]\n   #hoge\\\n   s=1\\\n2\\\n3\n", []string{"1 2 3"}, 0},
		{"indented comment in a continuation", "[S]\n   s=1\\\n   #hoge\\\n2\\\n3\n", []string{"1 2 3"}, 0},
		{"backslash on the last line", "[S]\ns=1\\\n2\\\n3\\\n", []string{"1 2 3"}, 0},
		{"backslash at the very end", "[S]\ns=1\\\n2\\", []string{"1 2"}, 0},
		{"escaped backslashes", "[S]\ns=1\\\\\\\n\\\\2\n", []string{`1\\ \\2`}, 0},
		{"two backslashes do not continue", "[S]\ns=1\\\\\ns=2\n", []string{`1\\`, "2"}, 0},
		{"blank line ends a continuation", "[S]\ns=1\\\n\ns=2\n", []string{"1", "2"}, 0},
		{"spaces around a continuation stay", "[S]\ns=a \\\n  b\n", []string{"a    b"}, 0},
		{"long line", "[S]\ns=" + long + "\n", []string{long}, 0},
		{"long continuation", "[S]\ns=" + long + "\\\nfoobar", []string{long + " foobar"}, 0},
		{"crlf", "[S]\r\ns=1\\\r\n2\r\n\r\ns=3\r\n", []string{"1 2", "3"}, 0},
		{"cr alone", "[S]\rs=1\rs=2", []string{"1", "2"}, 0},
		{"nul ends a line", "[S]\ns=1\x00s=2\x00\ns=3", []string{"1", "2", "3"}, 0},
		{"byte order mark", "\uFEFF[S]\ns=1", []string{"1"}, 0},
		{"byte order mark before a comment", "\uFEFF# c\n[S]\ns=1", []string{"1"}, 0},
		{"spaces around =", "[S]\n s \t=  a = b ", []string{"a = b"}, 0},
		{"no =", "[S]\nfoo\ns=1", []string{"1"}, 1},
		{"no key", "[S]\n=foo\ns=1", []string{"1"}, 1},
		{"before a section", "s=0\nfoo\n[S]\ns=1", []string{"1"}, 2},
		{"include", "[S]\n.include /x\ns=1", []string{"1"}, 1},
		{"other section", "[S]\ns=2\n[T]\ns=3\n[X-T]\ns=3\n", []string{"2"}, 0},
		{"comment after a value is none", "[S]\ns=1 # 2 ; 3", []string{"1 # 2 ; 3"}, 0},
		{"quoted newline is none", "[S]\ns=\"1\ns=2\"", []string{`"1`, `2"`}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("u", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range f.Assignments {
				if a.Section == "S" && a.Key == "s" {
					got = append(got, a.Value)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("values (-want +got):\n%s", d)
			}
			if len(f.Warnings) != c.warnings {
				t.Errorf("warnings %v, want %d", f.Warnings, c.warnings)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		line             int
	}{
		{"open header", "[S]\n[T\ns=1", `invalid section header "[T"`, 2},
		{"bracket alone", "[", `invalid section header "["`, 1},
		{"quote in header", "\n\n[a\"b]", "invalid character in section header", 3},
		{"line too long", "[S]\ns=" + strings.Repeat("ABCDE", 1000*1000/4), "line too long", 2},
		{"continuation too long", "[S]\ns=" + strings.Repeat("abc\\\n", 1000*1000), "continued line too long", 262145},
		{"not UTF-8", "[S]\ns=\xff", "not valid UTF-8", 2},
	} {
		_, err := Parse("/x/u", []byte(c.text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.File != "/x/u" || syntax.Line != c.line || !strings.Contains(syntax.Msg, c.want) {
			t.Errorf("%s: %v, want line %d %q", c.name, err, c.line, c.want)
		}
	}
}

func TestParsePlaces(t *testing.T) {
	f, err := Parse("/x/u", []byte("# c\n[S]\na=1\\\n # c\n 2\nbad\r\nb=3\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Assignment{
		{Section: "S", Key: "a", Value: "1   2", File: "/x/u", Line: 3},
		{Section: "S", Key: "b", Value: "3", File: "/x/u", Line: 7},
	}
	want[0].Value = "1  2"
	if d := cmp.Diff(want, f.Assignments); d != "" {
		t.Errorf("assignments (-want +got):\n%s", d)
	}
	if w := f.Warnings[0]; w.String() != `/x/u:6: missing "=" in "bad": line ignored` || w.Section != "S" {
		t.Errorf("warning %v in %q", w, w.Section)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"[S]\ns=1\\\n#c\\\n2\n", "\uFEFF[S]\r\na=b\r\n", "[", "[]\n=\n", "a\x00[S]\x00\x00b=c\\", "[S]\ns=\\\\\\\n", "\n\r\n\r[S]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("u", data)
		if err != nil {
			if !errors.As(err, new(*SyntaxError)) {
				t.Fatalf("%v is no SyntaxError", err)
			}
			return
		}
		for _, a := range file.Assignments {
			if a.Line < 1 || strings.ContainsAny(a.Value, "\n\r\x00") || a.Value != strings.Trim(a.Value, whitespace) || strings.Contains(a.Key, "=") {
				t.Errorf("assignment %+v", a)
			}
		}
	})
}
