package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/units"
	"github.com/extexec/extexec/units/manager"
)

// A fakeSystemd reads the one file when it is told to.
type fakeSystemd struct {
	path    string
	read    string // what it has read last
	state   string // of the unit
	blind   bool   // it does not take the drop-in
	reloads int
}

func (f *fakeSystemd) DaemonReload(context.Context) error {
	text, _ := os.ReadFile(f.path)
	f.read = string(text)
	f.reloads++
	return nil
}

func (f *fakeSystemd) Unit(context.Context, string) (manager.Unit, error) {
	u := manager.Unit{LoadState: f.state}
	if !f.blind {
		u.DropIns = []string{f.path}
	}
	return u, nil
}

// TestChange: wherever it fails, the file is as it was, systemd has read that, and
// nothing is left.
func TestChange(t *testing.T) {
	boom := errors.New("boom")
	for _, before := range []string{"", "old\n"} {
		for _, c := range []struct {
			name   string
			text   []byte
			fail   string
			change func(*fakeSystemd)
			want   string // of the error
		}{
			{name: "write", text: []byte("new\n")},
			{name: "remove"},
			{name: "before the write", text: []byte("new\n"), fail: "before write", want: "boom"},
			{name: "after the write", text: []byte("new\n"), fail: "after write", want: "boom"},
			{name: "before systemd", text: []byte("new\n"), fail: "before daemon-reload", want: "boom"},
			{name: "after systemd", text: []byte("new\n"), fail: "after daemon-reload", want: "boom"},
			{name: "after the removal", fail: "after daemon-reload", want: "boom"},
			{name: "a bad unit", text: []byte("new\n"), change: func(f *fakeSystemd) { f.state = "bad-setting" }, want: `"bad-setting": see journalctl`},
			{name: "not taken", text: []byte("new\n"), change: func(f *fakeSystemd) { f.blind = true }, want: "does not take"},
		} {
			dir := t.TempDir()
			path := filepath.Join(dir, "web.service.d/50-extexec.conf")
			if before != "" {
				must(t, put(path, []byte(before)))
			}
			f := &fakeSystemd{path: path, state: "loaded", read: before}
			if c.change != nil {
				c.change(f)
			}
			err := change{unit: "web.service", path: path, text: c.text, hook: func(point string) error {
				if point == c.fail {
					return boom
				}
				return nil
			}}.apply(t.Context(), f)
			want := string(c.text)
			if c.want != "" {
				want = before
			}
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s over %q: %v, want %q", c.name, before, err, c.want)
			}
			got, _ := os.ReadFile(path)
			if string(got) != want || f.read != want {
				t.Errorf("%s over %q: the file is %q and systemd has read %q, want %q", c.name, before, got, f.read, want)
			}
			left, err := filepath.Glob(dir + "/*/.extexec-*")
			must(t, err)
			if _, err := os.Stat(filepath.Dir(path)); len(left) > 0 || want == "" && err == nil {
				t.Errorf("%s over %q: left behind: %q, directory: %v", c.name, before, left, err)
			}
		}
	}
}

// TestPutUmask: others can look at what a unit has, whatever the umask is.
func TestPutUmask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.service.d", units.DropInName)
	defer unix.Umask(unix.Umask(0o077))
	must(t, put(path, []byte("[Service]\n")))
	for name, mode := range map[string]os.FileMode{filepath.Dir(path): 0o755, path: 0o644} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}
