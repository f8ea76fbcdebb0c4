package layers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twoVersions makes two trees of n files, of which changed differ.
func twoVersions(tb testing.TB, n, changed int) (tops [2]string) {
	tb.Helper()
	dir := tb.TempDir()
	when := time.Unix(1e9, 0)
	for v := range tops {
		tops[v] = fmt.Sprintf("%s/web_%d", dir, v+1)
		for i := range n {
			path := fmt.Sprintf("%s/lib/%02d/%02d", tops[v], i/100%100, i/10000)
			if i%100 == 0 {
				must(tb, os.MkdirAll(path, 0o755))
			}
			path = filepath.Join(path, fmt.Sprintf("file-%06d.conf", i))
			content := "x"
			if v == 1 && i%(n/changed) == 0 {
				content = "xx"
			}
			must(tb, os.WriteFile(path, []byte(content), 0o644))
			must(tb, os.Chtimes(path, when, when))
		}
	}
	return tops
}

// BenchmarkDiff is of two versions of 100,000 files of which 1,000 were changed,
// with a warm cache, beside find(1) that lists them.
func BenchmarkDiff(b *testing.B) {
	tops := twoVersions(b, 100_000, 1000)
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			changes := 0
			d := Differ{Changed: func(*Change) error { changes++; return nil }}
			before, after := Stack{Layers: []*os.File{openDir(b, tops[0], unix.O_PATH)}}, Stack{Layers: []*os.File{openDir(b, tops[1], unix.O_PATH)}}
			if err := d.Diff(b.Context(), before, after); err != nil || changes != 1000 {
				b.Fatal(changes, err)
			}
		}
	})
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			if err := exec.CommandContext(b.Context(), "find", tops[0], tops[1], "-ls").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
