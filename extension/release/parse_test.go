package release

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want map[string]string
	}{
		"os-release": {
			"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID=\"13\"\nID_LIKE='a b'\n",
			map[string]string{"PRETTY_NAME": "Debian GNU/Linux 13 (trixie)", "ID": "debian", "VERSION_ID": "13", "ID_LIKE": "a b"},
		},
		"trailing blanks":        {"ID=the-id  \nNAME=the-name", map[string]string{"ID": "the-id", "NAME": "the-name"}},
		"the last one counts":    {"ID=\"ignored\"  \nID=\"the-id\"  \nNAME='the-name'", map[string]string{"ID": "the-id", "NAME": "the-name"}},
		"continuations":          {"a=a\nb=b\\\nc\nd=d\\\ne\\\nf\ng=g\\ \nh=h\ni=i\\", map[string]string{"a": "a", "b": "bc", "d": "def", "g": "g ", "h": "h", "i": "i"}},
		"backslash at the end":   {"a=a\\\n", map[string]string{"a": "a"}},
		"no comment lines on":    {"#A=\"-d \\\n#B   \\\nnormal=line \\\n;x=y\n", map[string]string{"normal": "line ;x=y"}},
		"comments":               {"# c\n\n  ; d=e\n  A=\"b c\"\n\n# f\nG=h", map[string]string{"A": "b c", "G": "h"}},
		"empty values":           {"a=\nb=", map[string]string{"a": "", "b": ""}},
		"line without =":         {"a\nb=c\nd", map[string]string{"b": "c"}},
		"blanks around":          {" a\t=  b \nc d = e", map[string]string{"a": "b", "c d": "e"}},
		"CRLF":                   {"a=b\r\nc='d'\r\n", map[string]string{"a": "b", "c": "d"}},
		"joined quotes":          {`a="x " 'y' z ` + "\n", map[string]string{"a": "x yz"}},
		"quotes in the middle":   {`a=x "y" 'z'`, map[string]string{"a": `x "y" 'z'`}},
		"escapes in double":      {`a="\"\\\$\` + "`" + `\n\` + "\n" + `x"`, map[string]string{"a": "\"\\$`\\nx"}},
		"no escapes in single":   {`a='\"\n'`, map[string]string{"a": `\"\n`}},
		"line end in quotes":     {"a='x\ny'\nb=c", map[string]string{"a": "x\ny", "b": "c"}},
		"quote without end":      {"a=\"x\nb=c", map[string]string{"a": "x\nb=c"}},
		"escaped blank":          {"a= \\ x\\  \n", map[string]string{"a": " x "}},
		"key that starts with =": {"=a=b", map[string]string{"=a": "b"}},
		"nothing":                {"", map[string]string{}},
		"UTF-8":                  {"NAME=Ünïcode", map[string]string{"NAME": "Ünïcode"}},
	} {
		got, err := Parse([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"ID=a\nNAME=\xff\n":                "line 2: \"NAME=\\xff\" is not valid UTF-8",
		"ID=a\x00":                         "a NUL byte",
		strings.Repeat("a", MaxSize+1):     "too many for a release file",
		"\x28\xb5\x2f\xfd\x00\x00\x00\x00": "a NUL byte",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.20q…) gives %v, want %q", text, err, want)
		}
	}
}

// FuzzParse shows that the parser is total, and that a value which it read,
// written in single quotes, reads the same again.
func FuzzParse(f *testing.F) {
	f.Add([]byte("ID=debian\nVERSION_ID=\"13\"\n"))
	f.Add([]byte("a=b\\\nc\n#x\\\nd='e' \"f\\$\"\r\n=;=\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := Parse(data)
		if err != nil {
			return
		}
		for key, value := range fields {
			if strings.Contains(value, "'") {
				continue
			}
			again, err := Parse([]byte(key + "='" + value + "'"))
			if err != nil || again[key] != value {
				t.Fatalf("%q=%q reads as %q, %v", key, value, again, err)
			}
		}
	})
}
