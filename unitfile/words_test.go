package unitfile

import (
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestSplitter(t *testing.T) {
	quoted := Splitter{Unquote: true}
	c := Splitter{Unquote: true, CUnescape: true}
	for _, v := range []struct {
		name string
		x    Splitter
		in   string
		want []string
	}{
		{"empty", quoted, "", nil},
		{"blank", quoted, " \t\n\r", nil},
		{"words", quoted, "  foobar waldo\tx ", []string{"foobar", "waldo", "x"}},
		{"quotes", quoted, `"foobar" 'waldo' a"b c"d'e f'`, []string{"foobar", "waldo", "ab cde f"}},
		{"empty quotes", quoted, `"" '' a""`, []string{"", "", "a"}},
		{"quote in the other quote", quoted, `"it's" 'a "b"'`, []string{"it's", `a "b"`}},
		{"backslash drops", quoted, `a\b \"x "\""`, []string{"ab", `"x`, `"`}},
		{"quotes kept", Splitter{}, `"a b"`, []string{`"a`, `b"`}},
		{"escapes", c, `\a\b\f\n\r\t\v\\\"\'\s`, []string{"\a\b\f\n\r\t\v\\\"' "}},
		{"hex, octal, unicode", c, `\x41\101\u00e4\U0001F600 "\x20"`, []string{"AAä😀", " "}},
		{"a raw byte", c, `\xff\377`, []string{"\xff\xff"}},
		{"escaped space", c, `a\sb a\x20b`, []string{"a b", "a b"}},
		{"retain", Splitter{Unquote: true, RetainEscape: true}, `a\:b "c\" d`, []string{`a\:b`, `c\`, "d"}},
		{"relaxed escapes", Splitter{CUnescape: true, UnescapeRelax: true}, `a\qb \x4 end\`, []string{`a\qb`, `\x4`, `end\`}},
		{"relaxed quote", Splitter{Unquote: true, Relax: true}, `"a b`, []string{"a b"}},
		{"colons", fields(), `a:b::c\:d:\\e`, []string{"a", "b", "c:d", `\e`}},
		{"colons only", fields(), ":::", nil},
		{"quotes are not special between colons", fields(), `"a:b"`, []string{`"a`, `b"`}},
	} {
		got, err := v.x.All(v.in)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
		} else if d := cmp.Diff(v.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", v.name, d)
		}
	}
}

func fields() Splitter {
	return Splitter{Separators: ":", CUnescape: true, UnescapeSeparators: true}
}

func TestSplitterErrors(t *testing.T) {
	c := Splitter{Unquote: true, CUnescape: true}
	for _, v := range []struct {
		x    Splitter
		in   string
		want string
	}{
		{c, `"a`, "unbalanced quotes"},
		{c, `'a" b`, "unbalanced quotes"},
		{c, `"a\`, "unbalanced quotes"},
		{c, `a\`, "backslash at the end"},
		{c, `\q`, `unknown escape sequence "\\q"`},
		{c, `\ä`, `unknown escape sequence "\\ä"`},
		{c, `\x0`, `unknown escape sequence "\\x"`},
		{c, `\x00`, `unknown escape sequence "\\x"`},
		{c, `\xg1`, `unknown escape sequence "\\x"`},
		{c, `\000`, `unknown escape sequence "\\0"`},
		{c, `\400`, `unknown escape sequence "\\4"`},
		{c, `\18`, `unknown escape sequence "\\1"`},
		{c, `\u0000`, `unknown escape sequence "\\u"`},
		{c, `\ud800`, `unknown escape sequence "\\u"`},
		{c, `\U00110000`, `unknown escape sequence "\\U"`},
		{c, `\Uffffffff`, `unknown escape sequence "\\U"`},
		{Splitter{Unquote: true, CUnescape: true, UnescapeRelax: true}, `"a\`, "unbalanced quotes"},
		{fields(), `a\;b`, `unknown escape sequence "\\;"`},
	} {
		if _, err := v.x.All(v.in); err == nil || err.Error() != v.want {
			t.Errorf("%s: %v, want %s", v.in, err, v.want)
		}
	}
}

func TestSplitterRest(t *testing.T) {
	word, rest, ok, err := Splitter{Unquote: true}.Next(`  "a b"   c d`)
	if word != "a b" || rest != "c d" || !ok || err != nil {
		t.Errorf("%q %q %v %v", word, rest, ok, err)
	}
}

func FuzzSplitter(f *testing.F) {
	for _, s := range []string{`a "b c" 'd' \x41`, `"`, `\`, `a\:b:c`, `\U0001F600`, "", `'\''`} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, s string, flags uint8) {
		x := Splitter{
			Unquote: flags&1 != 0, CUnescape: flags&2 != 0, UnescapeSeparators: flags&4 != 0,
			RetainEscape: flags&8 != 0, UnescapeRelax: flags&16 != 0, Relax: flags&32 != 0,
		}
		if flags&64 != 0 {
			x.Separators = ":"
		}
		for rest := s; ; {
			word, after, ok, err := x.Next(rest)
			if err != nil {
				if !errors.Is(err, ErrUnbalancedQuotes) && !errors.As(err, new(*EscapeError)) {
					t.Fatalf("error %v", err)
				}
				if !utf8.ValidString(err.Error()) {
					t.Fatalf("message %q", err)
				}
				return
			}
			if !ok {
				return
			}
			if len(after) >= len(rest) || len(word) > len(rest) {
				t.Fatalf("%q -> %q, %q", rest, word, after)
			}
			rest = after
		}
	})
}
