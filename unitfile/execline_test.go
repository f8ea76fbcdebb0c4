package unitfile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExecText(t *testing.T) {
	for in, want := range map[string][]string{
		`/bin/a -g 'b c; d' %i $X`:      {`/bin/a -g 'b c; d' %i $X`},
		`  -@:/bin/a "x\ty"  z  `:       {`/bin/a "x\ty"  z`},
		`/bin/a x ; -/bin/b \; ";" y ;`: {`/bin/a x`, `/bin/b \; ";" y`},
		`"-/bin/a b" c`:                 {`"/bin/a b" c`},
		`\x2d/bin/a`:                    {``},
		`; ; +/bin/a`:                   {`/bin/a`},
	} {
		got, err := ParseExec(in, nil)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		var texts []string
		for _, c := range got {
			texts = append(texts, c.Text)
		}
		if d := cmp.Diff(want, texts); d != "" {
			t.Errorf("%q (-want +got):\n%s", in, d)
		}
	}
}

// TestWithAndWithout: a drop-in that comes and goes leaves the unit as it was.
func TestWithAndWithout(t *testing.T) {
	f, err := Parse("/u/a.service", []byte("[Service]\nExecReload=/bin/a\nExecReload=-/bin/b ; /bin/c\n"))
	if err != nil {
		t.Fatal(err)
	}
	u := &Unit{Fragment: f.Path, Assignments: f.Assignments}
	with, err := u.With("/d/50.conf", []byte("[Service]\nExecReload=\nExecReload=+/bin/d\nwrong\n[X-A]\nb=c\n"))
	if err != nil {
		t.Fatal(err)
	}
	commands := func(u *Unit) (list []string) {
		lines, err := u.Exec("Service", "ExecReload")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			list = append(list, l.Prefix+l.Text)
		}
		return list
	}
	if d := cmp.Diff([]string{"+/bin/d"}, commands(with)); d != "" {
		t.Errorf("with (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"/bin/a", "-/bin/b", "/bin/c"}, commands(u)); d != "" {
		t.Errorf("the unit itself has changed (-want +got):\n%s", d)
	}
	if len(with.DropIns) != 1 || len(with.Sections) != 2 || len(with.Warnings) != 1 {
		t.Errorf("%+v", with)
	}
	if d := cmp.Diff(u, with.Without("/d/50.conf"), cmp.AllowUnexported(Name{})); d != "" {
		t.Errorf("without (-want +got):\n%s", d)
	}
}
