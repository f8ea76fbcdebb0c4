package vdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPart: a copy has all that the version has, is moved with what belongs to it,
// and is taken back wherever it is by then.
func TestPart(t *testing.T) {
	for name, move := range map[string]bool{"copied": false, "moved": true} {
		t.Run(name, func(t *testing.T) {
			from, into := t.TempDir(), t.TempDir()
			for _, name := range []string{"web_2.raw", "web_2.verity"} {
				if err := os.WriteFile(from+"/"+name, []byte(name), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			p, err := Copy(t.Context(), from+"/web_2.raw", into, []string{"web_2.verity"})
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(p.Path()) != "web_2.raw" || !strings.HasPrefix(p.Path(), into+"/.#web_2.raw.") {
				t.Errorf("the copy is %q", p.Path())
			}
			if move {
				path, err := p.Move()
				if err != nil || path != into+"/web_2.raw" {
					t.Errorf("moved to %q, %v", path, err)
				}
				if got := list(t, into); got != "web_2.raw web_2.verity" {
					t.Errorf("the directory has %q", got)
				}
			}
			if err := p.Remove(); err != nil {
				t.Error(err)
			}
			if got := list(t, into); got != "" {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// TestPartOntoSomething: nothing is written over, and nothing is left.
func TestPartOntoSomething(t *testing.T) {
	from, into := t.TempDir(), t.TempDir()
	for _, path := range []string{from + "/web_2", into + "/web_2"} {
		if err := os.MkdirAll(path+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Copy(t.Context(), from+"/web_2", into, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Move(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("moved onto something: %v", err)
	}
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
	if got := list(t, into); got != "web_2" {
		t.Errorf("the directory has %q", got)
	}
	if _, err := Copy(t.Context(), from+"/none", into, nil); err == nil || list(t, into) != "web_2" {
		t.Errorf("a copy of nothing: %v, and the directory has %q", err, list(t, into))
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
