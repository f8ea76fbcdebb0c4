package unitfile

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// command is an ExecCommand as one string, for tables.
func command(c ExecCommand) string {
	return c.Prefix + "|" + c.Path + "|" + strings.Join(c.Argv, "|")
}

func TestParseExec(t *testing.T) {
	for _, c := range []struct {
		in       string
		want     []string
		warnings int
	}{
		{"", nil, 0},
		{"/bin/echo", []string{"|/bin/echo|/bin/echo"}, 0},
		{"/bin/echo a  b", []string{"|/bin/echo|/bin/echo|a|b"}, 0},
		{"//bin/./echo", []string{"|/bin/echo|//bin/./echo"}, 0},
		{"echo a", []string{"|echo|echo|a"}, 0},
		{`"/bin/e cho" "a b" 'c d' ""`, []string{"|/bin/e cho|/bin/e cho|a b|c d|"}, 0},
		{"-/bin/a", []string{"-|/bin/a|/bin/a"}, 0},
		{"-@:/bin/a b c", []string{"-@:|/bin/a|b|c"}, 0},
		{"@-/bin/a b", []string{"@-|/bin/a|b"}, 0},
		{"!!/bin/a", []string{"!!|/bin/a|/bin/a"}, 0},
		{"+-:/bin/a", []string{"+-:|/bin/a|/bin/a"}, 0},
		{"|/bin/a", []string{"||/bin/a|/bin/a"}, 0},
		{`/bin/a \; b\s;c ";" '\x41\101'`, []string{"|/bin/a|/bin/a|;|b ;c|;|AA"}, 0},
		{"/bin/a x ; /bin/b y ;", []string{"|/bin/a|/bin/a|x", "|/bin/b|/bin/b|y"}, 0},
		{"; ; /bin/a", []string{"|/bin/a|/bin/a"}, 0},
		{"/bin/a;/bin/b", []string{"|/bin/a;/bin/b|/bin/a;/bin/b"}, 0},
		{"/bin/a ;b", []string{"|/bin/a|/bin/a|;b"}, 0},
		{`/bin/a \q x\;y end\`, []string{`|/bin/a|/bin/a|\q|x\;y|end\`}, 3},
		{"/bin/a %n $FOO ${BAR} %%", []string{"|/bin/a|/bin/a|u.service|$FOO|${BAR}|%"}, 0},
		{"/bin/%N", []string{"|/bin/u|/bin/u"}, 0},
	} {
		got, err := ParseExec(c.in, specifiers(t, "u.service").Expand)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var list []string
		warnings := 0
		for _, e := range got {
			list = append(list, command(e))
			warnings += len(e.Warnings)
		}
		if d := cmp.Diff(c.want, list); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, d)
		}
		if warnings != c.warnings {
			t.Errorf("%q: %d warnings, want %d", c.in, warnings, c.warnings)
		}
	}
}

func TestParseExecErrors(t *testing.T) {
	for in, want := range map[string]string{
		"-": "no program", `""`: "no program", "--/bin/a": `"-/bin/a" is neither`, "+!/bin/a": "neither", "!!!/bin/a": "neither", "@@/bin/a": "neither",
		"./a": "neither", "..": "neither", "/bin/": "is a directory", `"/bin/a'b"`: "special characters", `/bin/a\n`: "special characters",
		"@/bin/a": "wants the program's own name", `@/bin/a ""`: "own name", `/bin/a "b`: "unbalanced quotes", `"/bin/a`: "unbalanced quotes",
		"/bin/a %Z": "unknown specifier", "/bin/%Z": "unknown specifier", "/" + strings.Repeat("a", 5000): "longer than",
		"/bin/a ; b/c": "neither",
	} {
		if got, err := ParseExec(in, specifiers(t, "u.service").Expand); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v; want %q", in, got, err, want)
		}
	}
}

func TestExpandEnv(t *testing.T) {
	env := map[string]string{"ONE": "one", "TWO": "two two", "Q": `a "b c" d`, "EMPTY": "", "OPEN": `x "y`}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	for _, c := range []struct{ in, want []string }{
		{[]string{"$ONE", "$TWO", "${TWO}"}, []string{"one", "two", "two", "two two"}},
		{[]string{"$Q", "${Q}"}, []string{"a", "b c", "d", `a "b c" d`}},
		{[]string{"$EMPTY", "${EMPTY}", "$NONE", "${NONE}", "$"}, []string{"", ""}},
		{[]string{"x$ONE", "x${ONE}y", "$$ONE", "$$", "a$$b", "a$", "$OPEN"}, []string{"x$ONE", "xoney", "$ONE", "$", "a$b", "a$", "x", "y"}},
		{[]string{"${ONE", "x${ONE", "${ONE}${TWO}", "$${ONE}", "${}", "$ONE/x"}, []string{"${ONE", "x${ONE", "onetwo two", "${ONE}", ""}},
	} {
		if d := cmp.Diff(c.want, ExpandEnv(c.in, lookup)); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, d)
		}
	}
}

func FuzzExec(f *testing.F) {
	for _, s := range []string{`-@/bin/a "b c" \; ; +/bin/d $X ${Y}`, `/bin/a \x4`, ";", `/bin/%n %i`, "!!!a", `/b "\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		commands, err := ParseExec(s, specifiers(t, "a@b.service").Expand)
		if err != nil {
			return
		}
		for _, c := range commands {
			if c.Path == "" || len(c.Argv) == 0 || c.Argv[0] == "" || strings.Trim(c.Prefix, "-@:+!|") != "" {
				t.Errorf("%q: %+v", s, c)
			}
			got := ExpandEnv(c.Argv[1:], func(string) (string, bool) { return "$$ v", true })
			if !slices.ContainsFunc(c.Argv[1:], func(w string) bool { return strings.Contains(w, "$") }) && !slices.Equal(got, c.Argv[1:]) {
				t.Errorf("%q: %q became %q", s, c.Argv, got)
			}
		}
	})
}
