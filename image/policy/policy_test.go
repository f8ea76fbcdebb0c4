package policy

import (
	"errors"
	"testing"
)

func mustParse(t *testing.T, s string) Policy {
	t.Helper()
	p, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEquivalence(t *testing.T) {
	for s, want := range map[string]string{
		"":        "-",
		"-":       "-",
		"=ignore": "-", "=absent+unused": "-", "=unused+absent": "-", "root=ignore:=ignore": "-",
		"*": "*", "=open": "*", "=": "*", "=-": "*",
		"=verity+signed+encrypted+encryptedwithintegrity+unprotected+unused+absent": "*",
		"=signed+verity+encrypted+encryptedwithintegrity+unused+unprotected+absent": "*",
		"~": "~", "=absent": "~",
	} {
		p := mustParse(t, s)
		for _, special := range []string{"*", "-", "~"} {
			if got := p.Equivalent(mustParse(t, special)); got != (special == want) {
				t.Errorf("%q equivalent to %q: %v", s, special, got)
			}
		}
		if p.String() != want {
			t.Errorf("%q prints as %q, want %q", s, p, want)
		}
	}
	if !(Policy{}).Equivalent(mustParse(t, "-")) {
		t.Error("the zero policy is not \"-\"")
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		in       string
		want     error
		graceful error // what stays an error
		warnings int
	}{
		{"pfft", ErrSyntax, ErrSyntax, 0},
		{"öäüß", ErrSyntax, ErrSyntax, 0},
		{":", ErrSyntax, ErrSyntax, 0},
		{"root=verity:", ErrSyntax, ErrSyntax, 0},
		{" *", ErrSyntax, ErrSyntax, 0},
		{"a=", ErrDesignator, nil, 1},
		{"=a", ErrFlag, nil, 1},
		{"==", ErrFlag, nil, 1},
		{"root=grbl", ErrFlag, nil, 1},
		{"root=verity+", ErrFlag, nil, 1},
		{"wowza=grbl", ErrDesignator, nil, 1},
		{"root=verity:root=encrypted", ErrDuplicate, ErrDuplicate, 0},
		{"=verity:=encrypted", ErrDuplicate, ErrDuplicate, 0},
		{"root=signed+lol:wut=wat+signed", ErrFlag, nil, 2},
	} {
		_, err := Parse(c.in)
		var pe *ParseError
		if !errors.Is(err, c.want) || !errors.As(err, &pe) || pe.Policy != c.in {
			t.Errorf("Parse(%q): %v, want %v", c.in, err, c.want)
		}
		_, warnings, err := ParseGraceful(c.in)
		if !errors.Is(err, c.graceful) || len(warnings) != c.warnings {
			t.Errorf("ParseGraceful(%q): %v, %v; want %d warnings, %v", c.in, warnings, err, c.warnings, c.graceful)
		}
	}
	p, _, err := ParseGraceful("root=signed+lol:wut=wat+signed")
	if err != nil || p != mustParse(t, "root=signed") {
		t.Errorf("graceful: %v, %v", p, err)
	}
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		policy string
		d      Designator
		want   string
	}{
		{" root = verity ", Root, "verity"},
		{"root= verity + signed ", Root, "verity+signed"},
		{"root=-", Root, "open"},
		{"root=", Root, "open"},
		{"*", Home, "encrypted+encryptedwithintegrity+unprotected+unused+absent"},
		{"*", RootVerity, "unprotected+unused+absent"},
		{"root=verity+absent", RootVerity, "unprotected+absent"},
		{"root=verity+absent", RootVeritySig, "ignore"},
		{"root=signed", RootVeritySig, "unprotected"},
		{"root=verity+read-only-on", RootVerity, "unprotected+read-only-on"},
		{"root=unprotected:=absent", RootVerity, "absent"},
		{"usr=signed:usr-verity=ignore", UsrVerity, "ignore"},
		{"swap=open:root=signed+read-only-on+growfs-off:=absent", Root, "signed+read-only-on+growfs-off"},
		{"swap=open:root=signed+read-only-on+growfs-off:=absent", Var, "absent"},
		{"home=unprotected+btrfs", Home, "unprotected+btrfs"},
		{"root=verity", Designator(99), "-"},
	} {
		if got := mustParse(t, c.policy).Allowed(c.d).String(); got != c.want {
			t.Errorf("%q allows %s: %s, want %s", c.policy, c.d, got, c.want)
		}
	}
}

func TestDefaultString(t *testing.T) {
	const want = "root=verity+signed+encrypted+encryptedwithintegrity+unprotected+absent:" +
		"usr=verity+signed+encrypted+encryptedwithintegrity+unprotected+absent"
	if got := Default().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, s := range []string{
		"", "-", "*", "~", "swap=open", "swap=open:root=signed",
		"swap=open:root=signed+read-only-on+growfs-off:=absent", "=-", "=",
		"root=ext4+squashfs+verity", "usr=encrypted+erofs+read-only-off", "home=unprotected+btrfs", "=vfat+erofs",
		"root=verity:=verity", "root=verity:root-verity=ignore",
	} {
		p := mustParse(t, s)
		if q := mustParse(t, p.String()); !p.Equivalent(q) {
			t.Errorf("%q printed as %q, which is not the same", s, p)
		}
	}
}

func TestFSType(t *testing.T) {
	for _, c := range []struct {
		policy string
		d      Designator
		want   string
		crypt  bool
	}{
		{"root=ext4+encrypted", Root, "ext4", true},
		{"usr=verity+erofs", Usr, "erofs", false},
		{"usr=verity+erofs", Root, "", false},
		{"root=ext4+erofs", Root, "", false},
		{"root=encrypted", Root, "", false},
		{"", Root, "", false},
		{"root=encrypted+signed+btrfs", Root, "btrfs", false},
	} {
		got, crypt, ok := mustParse(t, c.policy).FSType(c.d)
		if got != c.want || crypt != c.crypt || ok != (c.want != "") {
			t.Errorf("%q pins %s to %q, %v, %v", c.policy, c.d, got, crypt, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "-", "*", "~", "=", "==", ":", "root=verity:root=encrypted", "öäüß", " root = verity + signed ",
		"swap=open:root=signed+read-only-on+growfs-off:=absent", "root=ext4+squashfs+verity", "=vfat+erofs",
		"root=verity:=verity", "usr-verity-sig=unused:usr=signed", "home=verity",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		g, warnings, gerr := ParseGraceful(s)
		if err != nil {
			if p != (Policy{}) {
				t.Fatalf("%q: an error and a policy", s)
			}
			if gerr == nil && len(warnings) == 0 {
				t.Fatalf("%q: strict %v, graceful without a word", s, err)
			}
			return
		}
		if gerr != nil || g != p || len(warnings) > 0 {
			t.Fatalf("%q: graceful differs: %v, %v", s, warnings, gerr)
		}
		q, err := Parse(p.String())
		if err != nil || !q.Equivalent(p) {
			t.Fatalf("%q printed as %q: %v", s, p, err)
		}
	})
}
