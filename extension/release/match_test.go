package release

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

// fields reads "A=b C=d" with "+" for a blank in a value.
func fields(text string) map[string]string {
	m := map[string]string{}
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		m[key] = strings.ReplaceAll(value, "+", " ")
	}
	return m
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		name      string
		class     Class
		os, ext   string
		scope     string
		wantField string // "-" matches, "" the file is empty
		want, got string
	}{
		{"same", Sysext, "ID=debian VERSION_ID=13", "ID=debian VERSION_ID=13", "", "-", "", ""},
		{"empty file", Sysext, "ID=debian", "", "", "", "", ""},
		{"empty file before scope", Sysext, "ID=debian", "", "system", "", "", ""},

		{"no scope asked for", Sysext, "ID=a", "ID=a SYSEXT_SCOPE=initrd", "", "-", "", ""},
		{"default scope", Sysext, "ID=a", "ID=a", "system", "-", "", ""},
		{"default scope, portable", Confext, "ID=a", "ID=a", "portable", "-", "", ""},
		{"default scope, initrd", Sysext, "ID=a", "ID=a", "initrd", "SYSEXT_SCOPE", "initrd", ""},
		{"scope of a list", Sysext, "ID=a", "ID=a SYSEXT_SCOPE=initrd+system", "system", "-", "", ""},
		{"scope missing in the list", Sysext, "ID=a", "ID=_any SYSEXT_SCOPE=initrd", "system", "SYSEXT_SCOPE", "system", "initrd"},
		{"scope of the other class", Confext, "ID=a", "ID=a SYSEXT_SCOPE=initrd", "system", "-", "", ""},
		{"scope of a confext", Confext, "ID=a", "ID=a CONFEXT_SCOPE=initrd", "system", "CONFEXT_SCOPE", "system", "initrd"},

		{"architecture", Sysext, "ID=a", "ID=a ARCHITECTURE=x86-64", "", "-", "", ""},
		{"any architecture", Sysext, "ID=a", "ID=a ARCHITECTURE=_any", "", "-", "", ""},
		{"empty architecture", Sysext, "ID=a", "ID=a ARCHITECTURE=", "", "-", "", ""},
		{"other architecture", Sysext, "ID=a", "ID=a ARCHITECTURE=arm64", "", "ARCHITECTURE", "x86-64", "arm64"},
		{"secondary architecture", Sysext, "ID=a", "ID=a ARCHITECTURE=x86", "", "ARCHITECTURE", "x86-64", "x86"},
		{"architecture before any ID", Sysext, "ID=a", "ID=_any ARCHITECTURE=arm64", "", "ARCHITECTURE", "x86-64", "arm64"},

		{"no ID", Sysext, "ID=a", "VERSION_ID=1", "", "ID", "a", ""},
		{"empty ID", Sysext, "ID=a", "ID= VERSION_ID=1", "", "ID", "a", ""},
		{"no ID on either side", Sysext, "NAME=x", "VERSION_ID=1", "", "ID", "", ""},
		{"any ID", Sysext, "ID=a VERSION_ID=1", "ID=_any VERSION_ID=2", "", "-", "", ""},
		{"any ID without os-release", Sysext, "", "ID=_any", "", "-", "", ""},
		{"ID without os-release", Sysext, "", "ID=a", "", "ID", "", "a"},
		{"other ID", Sysext, "ID=a", "ID=b", "", "ID", "a", "b"},
		{"ID_LIKE of the host", Sysext, "ID=a ID_LIKE=b+c", "ID=c", "", "-", "", ""},
		{"not in ID_LIKE of the host", Sysext, "ID=a ID_LIKE=b+c", "ID=d", "", "ID", "a b c", "d"},
		{"ID_LIKE of the extension", Sysext, "ID=a", "ID=b ID_LIKE=a", "", "ID", "a", "b"},
		{"ID_LIKE goes on to the version", Sysext, "ID=a ID_LIKE=b VERSION_ID=1", "ID=b VERSION_ID=2", "", "VERSION_ID", "1", "2"},

		{"rolling release", Sysext, "ID=arch", "ID=arch VERSION_ID=5", "", "-", "", ""},
		{"level", Sysext, "ID=a SYSEXT_LEVEL=1 VERSION_ID=1", "ID=a SYSEXT_LEVEL=1 VERSION_ID=2", "", "-", "", ""},
		{"other level", Sysext, "ID=a SYSEXT_LEVEL=1 VERSION_ID=1", "ID=a SYSEXT_LEVEL=2 VERSION_ID=1", "", "SYSEXT_LEVEL", "1", "2"},
		{"level is no number", Sysext, "ID=a SYSEXT_LEVEL=1", "ID=a SYSEXT_LEVEL=1.0", "", "SYSEXT_LEVEL", "1", "1.0"},
		{"level on the host alone", Sysext, "ID=a SYSEXT_LEVEL=1", "ID=a", "", "-", "", ""},
		{"level on the host alone, version", Sysext, "ID=a SYSEXT_LEVEL=1 VERSION_ID=1", "ID=a VERSION_ID=2", "", "VERSION_ID", "1", "2"},
		{"level in the file alone", Sysext, "ID=a VERSION_ID=1", "ID=a SYSEXT_LEVEL=9 VERSION_ID=1", "", "-", "", ""},
		{"level of the other class", Confext, "ID=a SYSEXT_LEVEL=1 VERSION_ID=1", "ID=a SYSEXT_LEVEL=1", "", "VERSION_ID", "1", ""},
		{"level of a confext", Confext, "ID=a CONFEXT_LEVEL=1", "ID=a CONFEXT_LEVEL=2", "", "CONFEXT_LEVEL", "1", "2"},
		{"other version", Sysext, "ID=a VERSION_ID=13", "ID=a VERSION_ID=12", "", "VERSION_ID", "13", "12"},
		{"newer version", Sysext, "ID=a VERSION_ID=12", "ID=a VERSION_ID=13", "", "VERSION_ID", "12", "13"},
		{"no version in the file", Sysext, "ID=a VERSION_ID=13", "ID=a", "", "VERSION_ID", "13", ""},
		{"any as version", Sysext, "ID=a VERSION_ID=13", "ID=a VERSION_ID=_any", "", "VERSION_ID", "13", "_any"},
	} {
		r := Release{Class: c.class, File: "/rel", Fields: fields(c.ext)}
		host := Host{OS: OS{File: "/etc/os-release", Fields: fields(c.os)}, Architecture: "x86-64", Scope: c.scope}
		err := r.Match("ext", host)
		if c.wantField == "-" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var m *MismatchError
		if !errors.As(err, &m) || m.Field != c.wantField || m.Want != c.want || m.Got != c.got || m.Extension != "ext" || m.File != "/rel" {
			t.Errorf("%s: %#v, want a mismatch of %q, want %q, got %q", c.name, err, c.wantField, c.want, c.got)
		}
	}
}

func TestMatchTakesTheKernelsArchitecture(t *testing.T) {
	r := Release{Class: Sysext, Fields: fields("ID=_any ARCHITECTURE=nothing-has-this")}
	if err := r.Match("ext", Host{}); err == nil {
		t.Error("an unknown architecture matches")
	}
}

// TestMismatchText shows what a user reads: which extension, which file, which
// field, what was found and wanted, and what to do.
func TestMismatchText(t *testing.T) {
	base := MismatchError{Extension: "web_2", File: "/usr/lib/extension-release.d/extension-release.web", OSFile: "/etc/os-release"}
	for want, change := range map[string]func(*MismatchError){
		`"web_2" does not fit: /usr/lib/extension-release.d/extension-release.web has VERSION_ID="12", and the service root's ` +
			`/etc/os-release has "13": use one made for this version, or set ID=_any in it if it fits everywhere`: func(e *MismatchError) {
			e.Field, e.Want, e.Got = "VERSION_ID", "13", "12"
		},
		`"web_2" does not fit: /usr/lib/extension-release.d/extension-release.web has no ID=, and the service root's ` +
			`/etc/os-release has "debian": use one made for this system, or set ID=_any in it if it fits everywhere`: func(e *MismatchError) {
			e.Field, e.Want = "ID", "debian"
		},
		`"web_2" does not fit: /usr/lib/extension-release.d/extension-release.web has ARCHITECTURE="arm64", and x86-64 is wanted: ` +
			`use one made for this system, or set ARCHITECTURE=_any in it if it fits everywhere`: func(e *MismatchError) {
			e.Field, e.Want, e.Got, e.OSFile = "ARCHITECTURE", "x86-64", "arm64", ""
		},
		`"web_2" does not fit: /usr/lib/extension-release.d/extension-release.web has ID="a", and the service root's /etc/os-release ` +
			`has no ID: use one made for this system, or set ID=_any in it if it fits everywhere`: func(e *MismatchError) {
			e.Field, e.Got = "ID", "a"
		},
		`"web_2" does not fit: /usr/lib/extension-release.d/extension-release.web has no fields: it needs an ID= at least`: func(*MismatchError) {},
	} {
		e := base
		change(&e)
		if got := e.Error(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for file, want := range map[string]string{
		"foo.raw": "foo", "foo_1.2_x86-64+3.raw": "foo_1.2_x86-64+3", "foo.sysext.raw": "foo", "foo.confext.raw": "foo",
		"foo.raw.xz": "foo", "foo.img.gz": "foo", "foo.qcow2": "foo", "foo": "foo", "foo.raw.raw": "foo", "foo.tar": "foo.tar",
		"foo_1.0.bin": "foo_1.0",
	} {
		if got := ImageName(file); got != want {
			t.Errorf("ImageName(%q) = %q, want %q", file, got, want)
		}
	}
	for name, want := range map[string]string{
		"foo": "foo", "foo_1.2_x86-64+3": "foo", "my_app": "my", "foo+3": "foo", "foo_1.raw": "foo", "foo.raw": "foo", "_1": "",
		"foo.sysext.raw": "foo", "foo.confext.raw": "foo", "a.b_1": "a.b",
	} {
		if got := BaseName(name); got != want {
			t.Errorf("BaseName(%q) = %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]bool{
		"foo": true, "foo_1.2+3": true, "Ünïcode": true, ".hidden": true, "": false, ".": false, "..": false, "a/b": false, "a\nb": false,
		"\xff": false, ".#foo": false, "a\x7f": false, strings.Repeat("a", 256): false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestFieldsHelper(t *testing.T) {
	if !maps.Equal(fields("A=b+c D="), map[string]string{"A": "b c", "D": ""}) {
		t.Error("fields() is wrong")
	}
}
