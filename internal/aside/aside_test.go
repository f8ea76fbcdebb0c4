package aside_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/extexec/extexec/internal/aside"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestSweep: what nobody holds goes, whatever it is; what is held stays, and so does what
// has another name, or is no file and no directory.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	held, err := aside.Dir(dir, ".part.")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, make := range []func(dir, prefix string) (*os.File, error){aside.Dir, aside.File} {
		f, err := make(dir, ".part.")
		if err != nil {
			t.Fatal(err)
		}
		f.Close() // as by a kill
	}
	if err := os.Symlink("other", dir+"/.part.link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/other", 0o755); err != nil {
		t.Fatal(err)
	}
	removed := 0
	for range 2 {
		if err := aside.Sweep(dir, ".part.", func(path string) error { removed++; return os.Remove(path) }); err != nil {
			t.Error(err)
		}
	}
	want := []string{filepath.Base(held.Name()), ".part.link", "other"}
	slices.Sort(want)
	if got := names(t, dir); removed != 2 || !slices.Equal(got, want) {
		t.Errorf("%d were removed, and %q are left; want %q", removed, got, want)
	}
	if err := aside.Sweep(dir+"/none", "", nil); err != nil {
		t.Errorf("a sweep where nothing is: %v", err)
	}
}

// TestSweepMeanwhile: what is made while others sweep is there when it has been made.
func TestSweepMeanwhile(t *testing.T) {
	dir := t.TempDir()
	var sweepers, makers sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := aside.Sweep(dir, "x", os.Remove); err != nil {
					t.Errorf("sweep: %v", err)
				}
			}
		})
	}
	for _, make := range []func(dir, prefix string) (*os.File, error){aside.Dir, aside.File} {
		makers.Go(func() {
			for range 500 {
				f, err := make(dir, "x")
				if err != nil {
					t.Errorf("make: %v", err)
					return
				}
				if err := os.Remove(f.Name()); err != nil {
					t.Errorf("what was made: %v", err)
				}
				f.Close()
			}
		})
	}
	makers.Wait()
	close(over)
	sweepers.Wait()
}
