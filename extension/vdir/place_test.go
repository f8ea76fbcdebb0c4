package vdir

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
			if filepath.Base(p.Path()) != "web_2.raw" || !strings.HasPrefix(p.Path(), into+"/.#extexec.web_2.raw.") {
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

// TestPartThatCounts: a version is taken back under the name that it has then, and what
// belongs to one that somebody else has removed goes, too.
func TestPartThatCounts(t *testing.T) {
	for name, meanwhile := range map[string]func(path string) error{
		"counted": func(path string) error {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				return err
			}
			_, _, err := At(path, "", st.Dev, st.Ino).Try()
			return err
		},
		"removed":  os.Remove,
		"replaced": replace,
	} {
		t.Run(name, func(t *testing.T) {
			from, into := t.TempDir(), t.TempDir()
			if err := errors.Join(os.Mkdir(from+"/web_2+3", 0o755), os.WriteFile(from+"/web_2+3.more", nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			p, err := Copy(t.Context(), from+"/web_2+3", into, []string{"web_2+3.more"})
			if err != nil {
				t.Fatal(err)
			}
			path, err := p.Move()
			if err != nil {
				t.Fatal(err)
			}
			if err := meanwhile(path); err != nil {
				t.Fatal(err)
			}
			want := ""
			if name == "replaced" {
				want = "web_2+3" // which is not ours
			}
			if err := p.Remove(); err != nil || list(t, into) != want {
				t.Errorf("Remove: %v, and the directory has %q, want %q", err, list(t, into), want)
			}
		})
	}
}

// replace puts another directory in the place of one, with the same inode number where
// the file system gives that away.
func replace(path string) error {
	var before, st unix.Stat_t
	if err := errors.Join(unix.Stat(path, &before), os.Remove(path)); err != nil {
		return err
	}
	var tried []string
	for range 64 {
		other, err := os.MkdirTemp(filepath.Dir(path), "other")
		if err != nil {
			return err
		}
		tried = append(tried, other)
		if err := unix.Stat(other, &st); err != nil {
			return err
		}
		if st.Ino == before.Ino {
			break
		}
	}
	last := len(tried) - 1
	for _, other := range tried[:last] {
		if err := os.Remove(other); err != nil {
			return err
		}
	}
	return os.Rename(tried[last], path)
}

// TestPartLeftBehind: what others were killed over is removed by the next copy, with what
// they had in place already; what belongs to somebody else is not, nor what is being made.
func TestPartLeftBehind(t *testing.T) {
	from, into := t.TempDir(), t.TempDir()
	write := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(old, path string) {
		t.Helper()
		if err := os.Link(old, path); err != nil {
			t.Fatal(err)
		}
	}
	begun := into + "/.#extexec.web_3.raw.1/"
	write(begun + "web_3.raw")
	write(begun + "web_3.verity")
	write(begun + "web_3.roothash")
	link(begun+"web_3.verity", into+"/web_3.verity")
	write(into + "/web_3.roothash") // another one
	done := into + "/.#extexec.web_4.raw.1/"
	write(done + "web_4.verity")
	link(done+"web_4.verity", into+"/web_4.verity")
	write(into + "/web_4.raw")
	write(into + "/.#other.1/x")
	write(from + "/web_2.raw")
	busy, err := Copy(t.Context(), from+"/web_2.raw", into, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Copy(t.Context(), from+"/web_2.raw", into, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Remove(), busy.Remove()); err != nil {
		t.Error(err)
	}
	if got, want := list(t, into), ".#other.1 web_3.roothash web_4.raw web_4.verity"; got != want {
		t.Errorf("the directory has %q, want %q", got, want)
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

// TestNoCP: where there is no cp(1), the error says so, and no more.
func TestNoCP(t *testing.T) {
	from, into := t.TempDir(), t.TempDir()
	if err := os.Mkdir(from+"/web_2", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", from)
	if _, err := Copy(t.Context(), from+"/web_2", into, nil); !errors.Is(err, exec.ErrNotFound) || strings.HasSuffix(err.Error(), " ") {
		t.Errorf("%v", err)
	}
	if got := list(t, into); got != "" {
		t.Errorf("left: %q", got)
	}
}
