package unitfile

import (
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, c := range []struct{ in, prefix, instance, kind, template string }{
		{"foo.service", "foo", "", "service", ""},
		{"foo@.service", "foo", "", "service", "foo@.service"},
		{"foo@bar.service", "foo", "bar", "service", "foo@.service"},
		{"foo@a@b.c.socket", "foo", "a@b.c", "socket", "foo@.socket"},
		{`a.b:c_d-e\x2d.mount`, `a.b:c_d-e\x2d`, "", "mount", ""},
		{strings.Repeat("a", 247) + ".service", strings.Repeat("a", 247), "", "service", ""},
	} {
		n, err := ParseName(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if n.String() != c.in || n.Prefix() != c.prefix || n.Instance() != c.instance || n.Type() != c.kind || n.Template() != c.template {
			t.Errorf("%s: %+v", c.in, n)
		}
		if n.IsTemplate() != strings.Contains(c.in, "@.") || n.IsInstance() != (c.instance != "") {
			t.Errorf("%s: template %v instance %v", c.in, n.IsTemplate(), n.IsInstance())
		}
	}
	for _, in := range []string{
		"", "foo", ".service", "@.service", "@x.service", "foo.bar", "foo.", "foo.Service", "a b.service", "a/b.service",
		"ä.service", "a%i.service", strings.Repeat("a", 248) + ".service", "foo.service\n",
	} {
		if n, err := ParseName(in); err == nil {
			t.Errorf("%q is taken: %+v", in, n)
		}
	}
}

func TestUnescape(t *testing.T) {
	for want, in := range map[string]string{
		"": "", "a/b c": `a-b\x20c`, ".a.b@c": `\x2ea.b\x40c`, "-": `\x2d`, `\`: `\x5c`, "ä": `\xc3\xa4`, "a:b_c": "a:b_c",
	} {
		if got, err := Unescape(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`\`, `\x`, `\x2`, `\xzz`, `a\n`} {
		if got, err := Unescape(in); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}

func TestUnescapePath(t *testing.T) {
	for in, want := range map[string]string{"-": "/", "foo-bar": "/foo/bar", `\x2ex`: "/.x"} {
		if got, err := UnescapePath(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-a", "a-", "a--b", `\x2e`, `a-\x2e\x2e`, `\x`} {
		if got, err := UnescapePath(in); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	f.Add(`a-b\x2dc`)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Unescape(s)
		if err == nil && len(got) != len(s)-3*strings.Count(s, `\`) {
			t.Errorf("%q -> %q", s, got)
		}
	})
}
