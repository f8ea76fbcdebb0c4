package units

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/unitfile"
)

func TestForWatch(t *testing.T) {
	name, err := unitfile.ParseName("postgresql@15-main.service")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ForWatch(name, []string{"/srv/b c.v", "/srv/a%i.v", "/srv/b c.v"})
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(d.Text, "\n\n")
	if want := "[Path]\nPathChanged=/srv/a%%i.v\nPathChanged=/srv/b c.v\nPathExists=%t/systemd/generator/extexec/%i\n"; lines != want {
		t.Errorf("%q, want %q", lines, want)
	}
	if want := "/etc/systemd/system/extexec-reload@postgresql@15-main.path.d/50-extexec.conf"; d.Path != want {
		t.Errorf("path %q, want %q", d.Path, want)
	}
	if kind, ours := Owner(d.Text); kind != Watch || !ours {
		t.Errorf("owner %q, %v", kind, ours)
	}
	for _, paths := range [][]string{nil, {"/srv/a\nb"}, {`/srv/a\`}, {"/srv/a "}} {
		if d, err := ForWatch(name, paths); err == nil {
			t.Errorf("%q: %q, want an error", paths, d.Text)
		}
	}
}
