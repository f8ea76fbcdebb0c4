package vdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// at makes an entry, a directory where the suffix is empty, and is the version of
// it.
func at(t *testing.T, dir, name, suffix string) *Version {
	t.Helper()
	path := filepath.Join(dir, name)
	var err error
	if suffix == "" {
		err = os.Mkdir(path, 0o755)
	} else {
		err = os.WriteFile(path, []byte(name), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return At(path, suffix, st.Dev, st.Ino)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// TestNames: the names are those that systemd-boot and systemd-bless-boot give.
func TestNames(t *testing.T) {
	for _, tt := range []struct{ name, suffix, tried, back, good string }{
		{"web_2+3.raw", ".raw", "web_2+2-1.raw", "web_2+3.raw", "web_2.raw"},
		{"web_2+2-1.raw", ".raw", "web_2+1-2.raw", "web_2+2-1.raw", "web_2.raw"},
		{"web_2+3", "", "web_2+2-1", "web_2+3", "web_2"},
		{"web_2_x86-64+3-0.raw", ".raw", "web_2_x86-64+2-1.raw", "web_2_x86-64+3.raw", "web_2_x86-64.raw"},
		{"web_2+1.raw", ".raw", "web_2+0-1.raw", "web_2+1.raw", "web_2.raw"},
		{"web_2+007.raw", ".raw", "web_2+6-1.raw", "web_2+7.raw", "web_2.raw"},
		{"web_2+1-4294967295.raw", ".raw", "web_2+0-4294967295.raw", "web_2+1-4294967294.raw", "web_2.raw"},
		{"web_2+0-3.raw", ".raw", "", "", "web_2.raw"}, // none left
		{"web_2.raw", ".raw", "", "", "web_2.raw"},     // counts none
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			v := at(t, dir, tt.name, tt.suffix)
			path, taken, err := v.Try()
			want := tt.tried
			if want == "" {
				want = tt.name
			}
			if err != nil || taken != (tt.tried != "") || path != filepath.Join(dir, want) || names(t, dir) != want {
				t.Errorf("Try: %q, %v, %v, and the directory has %q, want %q", path, taken, err, names(t, dir), want)
			}
			if taken {
				if err := v.GiveBack(); err != nil || names(t, dir) != tt.back {
					t.Errorf("GiveBack: %v, and the directory has %q, want %q", err, names(t, dir), tt.back)
				}
			}
			if path, err := v.Good(); err != nil || path != filepath.Join(dir, tt.good) || names(t, dir) != tt.good {
				t.Errorf("Good: %q, %v, and the directory has %q, want %q", path, err, names(t, dir), tt.good)
			}
		})
	}
}

// TestReplacesNothing: a name that another entry has is not taken from it, and
// another entry of the same version is not mistaken for this one.
func TestReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	v := at(t, dir, "web_2+3.raw", ".raw")
	at(t, dir, "web_2+2-1.raw", ".raw")
	if _, _, err := v.Try(); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "web_2+2-1.raw") {
		t.Errorf("Try onto another entry: %v", err)
	}
	at(t, dir, "web_2.raw", ".raw")
	if _, err := v.Good(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Good onto another entry: %v", err)
	}
	if got := names(t, dir); got != "web_2+2-1.raw web_2+3.raw web_2.raw" {
		t.Errorf("the directory has %q", got)
	}
	if err := os.Remove(dir + "/web_2+3.raw"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Path(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path of what is gone: %v", err)
	}
}

// TestNotParted: an image is not parted from the verity data beside it.
func TestNotParted(t *testing.T) {
	dir := t.TempDir()
	v := at(t, dir, "web_2+3.raw", ".raw")
	at(t, dir, "web_2+3.roothash", "x")
	if _, _, err := v.Try(); err == nil || !strings.Contains(err.Error(), `"web_2+3.roothash" belongs to it`) {
		t.Errorf("Try: %v", err)
	}
}

// TestLink renames the link, not what it leads to.
func TestLink(t *testing.T) {
	dir := t.TempDir()
	image := at(t, dir, "image", "image")
	if err := os.Symlink("image", dir+"/web_2+3.raw"); err != nil {
		t.Fatal(err)
	}
	v := At(dir+"/web_2+3.raw", ".raw", image.dev, image.ino)
	if _, taken, err := v.Try(); err != nil || !taken || names(t, dir) != "image web_2+2-1.raw" {
		t.Errorf("Try: %v, %v, and the directory has %q", taken, err, names(t, dir))
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"web_2+3.raw", "web_2.raw", "web_2+x.raw", "web_20.raw", "web_2+1-2.raw.bak"} {
		at(t, dir, n, ".raw")
	}
	got, err := Paths(dir+"/web_2+0-9.raw", ".raw")
	if want := []string{dir + "/web_2+3.raw", dir + "/web_2.raw"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Paths gives %q, %v; want %q", got, err, want)
	}
}

// TestMany: many that count at once lose nothing: as many tries are done as were
// taken and not given back.
func TestMany(t *testing.T) {
	const workers, rounds = 8, 20
	dir := t.TempDir()
	v := at(t, dir, "web_2+1000.raw", ".raw")
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range rounds {
				if _, taken, err := v.Try(); err != nil || !taken {
					t.Errorf("Try: %v, %v", taken, err)
				}
				if i%4 == 0 {
					if err := v.GiveBack(); err != nil {
						t.Errorf("GiveBack: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
	done := workers * rounds * 3 / 4
	if got, want := names(t, dir), fmt.Sprintf("web_2+%d-%d.raw", 1000-done, done); got != want {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}
