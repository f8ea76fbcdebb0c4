package unitfile

import (
	"strings"
	"testing"
)

func specifiers(t testing.TB, unit string) Specifiers {
	t.Helper()
	n, err := ParseName(unit)
	if err != nil {
		t.Fatal(err)
	}
	return Specifiers{Unit: n, Fragment: "/etc/systemd/system/x@.service", Facts: Facts{
		Arch: "x86-64", MachineID: "mid", BootID: "bid", Hostname: "box.example.org", KernelRelease: "6.1.0",
		OSRelease: map[string]string{"ID": "debian", "VERSION_ID": "13"},
	}}
}

func TestSpecifiers(t *testing.T) {
	const unit = `a\x2db-c@d-e\x20f.service`
	for in, want := range map[string]string{
		"": "", "plain": "plain", "100%": "100%", "%%n": "%n", "a%-b%/": "a%-b%/",
		"%n": unit, "%N": `a\x2db-c@d-e\x20f`, "%p": `a\x2db-c`, "%P": "a-b/c", "%i": `d-e\x20f`, "%I": "d/e f",
		"%j": "c", "%J": "c", "%f": "/d/e f",
		"%t": "/run", "%S": "/var/lib", "%C": "/var/cache", "%L": "/var/log", "%E": "/etc", "%T": "/tmp", "%V": "/var/tmp", "%D": "/usr/share",
		"%u%U%g%G": "root0root0", "%h": "/root", "%s": "/bin/sh", "%d": "/run/credentials/" + unit,
		"%y": "/etc/systemd/system/x@.service", "%Y": "/etc/systemd/system",
		"%a": "x86-64", "%m": "mid", "%b": "bid", "%v": "6.1.0", "%H": "box.example.org", "%l": "box", "%q": "box.example.org",
		"%o%w%W%B%A%M.": "debian13.",
	} {
		if got, err := specifiers(t, unit).Expand(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	if got, err := specifiers(t, "a-b.service").Expand("[%i%I] %f %j"); err != nil || got != "[] /a/b b" {
		t.Errorf("plain unit: %q, %v", got, err)
	}
}

func TestSpecifierErrors(t *testing.T) {
	for in, want := range map[string]string{
		"a%Zb": `unknown specifier "%Z"`, "%c": `unknown specifier "%c"`, "%1": `unknown specifier "%1"`,
	} {
		if got, err := specifiers(t, "a.service").Expand(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	bare := Specifiers{Unit: specifiers(t, "a@-x.service").Unit}
	for _, in := range []string{"%a", "%m", "%b", "%v", "%H", "%l", "%q", "%o", "%f"} {
		if got, err := bare.Expand(in); err == nil || !strings.Contains(err.Error(), `specifier "`+in+`" cannot be resolved`) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := specifiers(t, strings.Repeat("a", 240)+".service").Expand(strings.Repeat("%n", 10000)); err == nil {
		t.Error("no limit of length")
	}
}

func FuzzSpecifiers(f *testing.F) {
	f.Add("%n-%i %% %Z 100%")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := specifiers(t, "a-b@c.service").Expand(s)
		if err == nil && !strings.Contains(s, "%") && got != s {
			t.Errorf("%q -> %q", s, got)
		}
	})
}
