package portable

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

func TestMarker(t *testing.T) {
	for line, want := range map[string]Marker{
		"# Drop-in created for image '/srv/web.raw', do not edit.\n[Service]\n": {"/srv/web.raw"},
		"# Drop-in created for image '/b:/x/conf.v', do not edit.":              {"/b", "/x/conf.v"},
		`# Drop-in created for image '/b\x3ac:/x\x5cy', do not edit.`:           {"/b:c", `/x\y`},
		`# Drop-in created for image '/b\:c:/x', do not edit.`:                  {"/b:c", "/x"},
		`# Drop-in created for image '/it's:/\xzz\', do not edit.`:              {"/it's", `/\xzz\`},
	} {
		if m, ok := parseMarker(line); !ok || !slices.Equal(m, want) {
			t.Errorf("%q is %q, %v; want %q", line, m, ok, want)
		}
	}
	for _, line := range []string{"", "[Service]", "# Drop-in created for image '/a'", "x# Drop-in created for image '/a', do not edit."} {
		if m, ok := parseMarker(line); ok {
			t.Errorf("%q is the marker %q", line, m)
		}
	}
}

func FuzzMarker(f *testing.F) {
	f.Add("/srv/web_1.raw", "/x/conf.v")
	f.Add("/a:b", "\\x3a\n'")
	f.Fuzz(func(t *testing.T, a, b string) {
		want := Marker{a, b}
		line := want.line()
		if strings.Count(line, "\n") != 1 {
			t.Errorf("%q is not one line", line)
		}
		if got, ok := parseMarker(line); !ok || !slices.Equal(got, want) {
			t.Errorf("%q comes back as %q, %v", want, got, ok)
		}
		parseMarker(a) // total
	})
}

func TestMarkerMeans(t *testing.T) {
	attached := Marker{"/srv/web_1.raw", "/x/conf.v"}
	for _, c := range []struct {
		given string
		means bool
	}{
		{"web conf", true},
		{"/elsewhere/web_2.raw conf", true},
		{"web conf_7.raw", true},
		{"web", false},
		{"conf web", false},
		{"web conf conf", false},
		{"webd conf", false},
	} {
		if got := attached.means(strings.Fields(c.given)); got != c.means {
			t.Errorf("%q means %q: %v", c.given, attached, got)
		}
	}
}

func TestShortName(t *testing.T) {
	for image, want := range map[string]string{
		"/srv/web_1.2.raw": "web", "web.raw": "web", "web.raw.v": "web", "/srv/web.v": "web", "web": "web",
		"/srv/web.raw.v/web_1+2.raw": "web", "web.d": "web.d", ".raw": ".raw", "_x": "_x",
	} {
		if got := shortName(image); got != want {
			t.Errorf("%q: %q, want %q", image, got, want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for _, c := range []struct {
		unit, prefixes string
		want           bool
	}{
		{"web.service", "web", true},
		{"web-a.service", "web", true},
		{"web@.service", "web", true},
		{"webd.service", "web", false},
		{"web.service", "app web", true},
		{"web.service", "web.service", true},
		{"web.service", "we", false},
		{"web.service", "", true},
	} {
		if got := hasPrefix(c.unit, strings.Fields(c.prefixes)); got != c.want {
			t.Errorf("%q of %q: %v", c.unit, c.prefixes, got)
		}
	}
	if err := checkPrefixes([]string{"web", "db"}, []string{"web"}); err == nil || !strings.Contains(err.Error(), `"db"`) {
		t.Errorf("a prefix that is not allowed: %v", err)
	}
	if err := checkPrefixes([]string{"web"}, nil); err != nil {
		t.Error(err)
	}
}

func TestPin(t *testing.T) {
	for _, c := range []struct {
		guards []protection
		want   string
	}{
		{nil, ""},
		{[]protection{nil}, ""}, // a directory
		{[]protection{{"root": "signed"}}, "root=signed"},
		{[]protection{{"root": "signed"}, {"root": "verity"}}, "root=signed+verity"},
		{[]protection{{"root": "unprotected"}, {"usr": "signed"}}, "root=unprotected+absent:usr=signed+absent"},
	} {
		got := pin(c.guards)
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.guards, got, c.want)
		}
		if _, err := policy.Parse(got); err != nil {
			t.Errorf("%q is no policy: %v", got, err)
		}
	}
}

// TestCopyImage: what belongs to an image by its name is copied with it.
func TestCopyImage(t *testing.T) {
	nsmounttest.Root(t)
	dir, into := t.TempDir(), t.TempDir()
	for _, name := range []string{"tool_1.raw", "tool_1.roothash", "tool_1.verity", "tool_1.other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyImage(t.Context(), dir+"/tool_1.raw", into, into); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(into)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if is, err := lookAt(filepath.Join(into, e.Name())); err != nil || is.source != dir+"/tool_1.raw" {
			t.Errorf("%s is a copy of %q, %v", e.Name(), is.source, err)
		}
	}
	if want := []string{"tool_1.raw", "tool_1.roothash", "tool_1.verity"}; !slices.Equal(names, want) {
		t.Errorf("copied are %q, want %q", names, want)
	}
}

// TestJournalRefused: what leads elsewhere than into the directory of links is no journal.
func TestJournalRefused(t *testing.T) {
	at := filepath.Join(t.TempDir(), journalName)
	for _, text := range []string{
		"", "x", "[]", `{"Old":-1}`,
		`{"Staged":"../etc"}`, `{"Staged":"/etc"}`, `{"Staged":".."}`, `{"Staged":"web_1"}`, `{"Staged":".extexec-portable-/../x"}`,
		`{"Put":{"../x":1}}`, `{"Put":{"":1}}`, `{"Put":{".":1}}`, `{"Put":{"x":0}}`, `{"Put":{"x\u0000":1}}`,
		`{"Gone":[{"Name":"..","Source":"/x"}]}`, `{"Gone":[{"Name":"a/b","Source":"/x"}]}`, `{"Gone":[{"Name":"x"}]}`,
	} {
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if j, err := readJournal(at); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %+v, %v", text, j, err)
		}
	}
}

// TestJournal: what is written is read.
func TestJournal(t *testing.T) {
	want := &journal{Old: 1, New: 1 << 63, Reload: true, Staged: keptPrefix + "1-2", Put: map[string]uint64{"a b": 7}, Gone: []goneEntry{{"c", "/d"}}, at: filepath.Join(t.TempDir(), journalName)}
	if err := want.write(); err != nil {
		t.Fatal(err)
	}
	got, err := readJournal(want.at)
	if d := cmp.Diff(want, got, cmp.AllowUnexported(journal{})); d != "" || err != nil {
		t.Errorf("%v (-want):\n%s", err, d)
	}
	if err := want.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := readJournal(want.at); got != nil || err != nil {
		t.Errorf("none is %+v, %v", got, err)
	}
}

func TestOrdered(t *testing.T) {
	for _, c := range []struct {
		after map[string][]string
		want  string
	}{
		{nil, "a b c"},
		{map[string][]string{"a": {"b"}}, "b a c"},
		{map[string][]string{"a": {"c"}, "c": {"b", "x"}, "x": {"a"}}, "b c a"},
		{map[string][]string{"a": {"a"}}, "a b c"},
		{map[string][]string{"a": {"b"}, "b": {"a"}}, "c a b"}, // a circle
	} {
		if got := strings.Join(ordered(strings.Fields("a b c"), c.after), " "); got != c.want {
			t.Errorf("%v: %s, want %s", c.after, got, c.want)
		}
	}
}
