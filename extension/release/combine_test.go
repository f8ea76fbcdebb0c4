package release

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCombine(t *testing.T) {
	type fields = map[string]string
	for _, c := range []struct {
		name    string
		a, b    fields
		want    fields
		problem string // the field of the conflict
	}{
		{"any", fields{"ID": "_any", "VERSION_ID": "1"}, fields{"ID": "_any"}, fields{"ID": "_any"}, ""},
		{"one any", fields{"ID": "_any"}, fields{"ID": "debian", "VERSION_ID": "13"}, fields{"ID": "debian", "VERSION_ID": "13"}, ""},
		{"same", fields{"ID": "debian", "VERSION_ID": "13"}, fields{"ID": "debian", "VERSION_ID": "13"}, fields{"ID": "debian", "VERSION_ID": "13"}, ""},
		{"ids", fields{"ID": "debian"}, fields{"ID": "ubuntu"}, nil, "ID"},
		{"versions", fields{"ID": "a", "VERSION_ID": "1"}, fields{"ID": "a", "VERSION_ID": "2"}, nil, "VERSION_ID"},
		{"no version", fields{"ID": "a", "VERSION_ID": "1"}, fields{"ID": "a"}, nil, "VERSION_ID"},
		{"levels", fields{"ID": "a", "SYSEXT_LEVEL": "1"}, fields{"ID": "a", "SYSEXT_LEVEL": "2"}, nil, "SYSEXT_LEVEL"},
		{"level and none", fields{"ID": "a", "SYSEXT_LEVEL": "1"}, fields{"ID": "a"}, nil, "SYSEXT_LEVEL"},
		{"level over versions", fields{"ID": "a", "SYSEXT_LEVEL": "1", "VERSION_ID": "1"}, fields{"ID": "a", "SYSEXT_LEVEL": "1", "VERSION_ID": "2"},
			fields{"ID": "a", "SYSEXT_LEVEL": "1"}, ""},
		{"architecture", fields{"ID": "_any", "ARCHITECTURE": "arm64"}, fields{"ID": "_any", "ARCHITECTURE": "_any"}, fields{"ID": "_any", "ARCHITECTURE": "arm64"}, ""},
		{"architectures", fields{"ID": "_any", "ARCHITECTURE": "arm64"}, fields{"ID": "_any", "ARCHITECTURE": "x86-64"}, nil, "ARCHITECTURE"},
		{"scope", fields{"ID": "_any", "SYSEXT_SCOPE": "initrd system"}, fields{"ID": "_any"}, fields{"ID": "_any", "SYSEXT_SCOPE": "system"}, ""},
		{"scopes", fields{"ID": "_any", "SYSEXT_SCOPE": "initrd"}, fields{"ID": "_any"}, nil, "SYSEXT_SCOPE"},
		{"lists", fields{"ID": "_any", "EXTENSION_RESTART_UNITS": "a b", "EXTENSION_RELOAD_MANAGER": "no"},
			fields{"ID": "_any", "EXTENSION_RESTART_UNITS": "b c", "EXTENSION_RELOAD_MANAGER": "true"},
			fields{"ID": "_any", "EXTENSION_RESTART_UNITS": "a b c", "EXTENSION_RELOAD_MANAGER": "1"}, ""},
		{"rest", fields{"ID": "_any", "NAME": "x", "VENDOR": "v"}, fields{"ID": "_any", "NAME": "y"}, fields{"ID": "_any", "VENDOR": "v"}, ""},
	} {
		for _, order := range [][2]fields{{c.a, c.b}, {c.b, c.a}} {
			got, err := Combine(Sysext, []Demand{{"one", order[0]}, {"two", order[1]}})
			var conflict *ConflictError
			if c.problem != "" {
				if !errors.As(err, &conflict) || conflict.Field != c.problem {
					t.Errorf("%s: %v, %v", c.name, got, err)
				}
				continue
			}
			if c.name == "lists" && order[0]["EXTENSION_RESTART_UNITS"] == "b c" {
				continue // another order of the units
			}
			if d := cmp.Diff(c.want, got); d != "" || err != nil {
				t.Errorf("%s: %v\n%s", c.name, err, d)
			}
		}
	}
}

// TestCombineMatches takes what Match says of every system as the oracle: the one file fits where all fit.
func TestCombineMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	random := func(level string) map[string]string {
		f := map[string]string{"ID": pick("_any", "a", "a", "b"), "VERSION_ID": pick("", "1", "2"), level: pick("", "1", "2"),
			"ARCHITECTURE": pick("", "_any", "x86-64", "arm64"), "CONFEXT_SCOPE": pick("", "system", "initrd portable", "system portable")}
		for key, value := range f {
			if value == "" {
				delete(f, key)
			}
		}
		return f
	}
	combined := 0
	for range 5000 {
		demands := []Demand{{"one", random("CONFEXT_LEVEL")}, {"two", random("CONFEXT_LEVEL")}, {"three", random("CONFEXT_LEVEL")}}
		got, err := Combine(Confext, demands)
		if err == nil {
			combined++
		}
		for host := range systems() {
			all := true
			for _, d := range demands {
				all = all && Release{Class: Confext, Fields: d.Fields}.Match(d.Extension, host) == nil
			}
			one := err == nil && Release{Class: Confext, Fields: got}.Match("all", host) == nil
			if err == nil && one != all {
				t.Fatalf("%v\ngive %v; of %+v they say %v, it says %v", demands, got, host, all, one)
			}
		}
	}
	if combined < 100 {
		t.Errorf("only %d of 5000 could be combined", combined)
	}
}

func systems() func(yield func(Host) bool) {
	return func(yield func(Host) bool) {
		for i := range 4 * 3 * 3 * 2 * 4 {
			at := func(n int, words ...string) string {
				w := words[i%n]
				i /= n
				return w
			}
			fields := map[string]string{"ID": at(4, "a", "b", "c", "x"), "VERSION_ID": at(3, "", "1", "2"), "CONFEXT_LEVEL": at(3, "", "1", "2")}
			if fields["ID"] == "x" {
				fields["ID_LIKE"] = "a b"
			}
			for key, value := range fields {
				if value == "" {
					delete(fields, key)
				}
			}
			if !yield(Host{OS: OS{Fields: fields}, Architecture: at(2, "x86-64", "arm64"), Scope: at(4, "", "system", "initrd", "portable")}) {
				return
			}
		}
	}
}

func TestFormat(t *testing.T) {
	fields := map[string]string{"VERSION_ID": "13", "ID": "debian", "NAME": "a \"b\" $c `d` \\e 'f' ü ", "EMPTY": ""}
	text, err := Format(fields)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ID=debian\nEMPTY=\"\"\nNAME=\"a \\\"b\\\" \\$c \\`d\\` \\\\e 'f' ü \"\nVERSION_ID=13\n"; string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
	got, err := Parse(text)
	if d := cmp.Diff(fields, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, bad := range []map[string]string{{"ID": "a\nb"}, {"A B": "c"}, {"": "c"}, {"ID": "a\x00"}} {
		if text, err := Format(bad); err == nil {
			t.Errorf("%q: %s", bad, text)
		}
	}
}
