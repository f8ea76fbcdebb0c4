package layers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// a layer of a test, as lines: "d etc" a directory, "o etc" an opaque one, "f
// etc/a 1" a file with that content, "l etc/b target" a link, "w etc/c" a whiteout,
// "x etc/d" a whiteout that is a file, "X etc" a directory that has such.
func makeLayer(t testing.TB, top string, lines ...string) string {
	t.Helper()
	must(t, os.MkdirAll(top, 0o755))
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		name, arg, _ := strings.Cut(rest, " ")
		must(t, makeEntry(filepath.Join(top, name), kind, arg))
	}
	return top
}

func makeEntry(path, kind, arg string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch kind {
	case "d":
		return os.MkdirAll(path, 0o755)
	case "o":
		return errors.Join(os.MkdirAll(path, 0o755), unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0))
	case "X":
		return errors.Join(os.MkdirAll(path, 0o755), unix.Setxattr(path, "trusted.overlay.opaque", []byte("x"), 0))
	case "f":
		// The times say what the content says, and nothing else.
		when := time.Unix(1e9+int64(len(arg)), 0)
		return errors.Join(os.WriteFile(path, []byte(arg), 0o644), os.Chtimes(path, when, when))
	case "l":
		return os.Symlink(arg, path)
	case "w":
		return unix.Mknod(path, unix.S_IFCHR, 0)
	case "c":
		return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, uint32(len(arg)))))
	case "x":
		return errors.Join(os.WriteFile(path, nil, 0o644), unix.Setxattr(path, "trusted.overlay.whiteout", []byte("y"), 0))
	}
	return fmt.Errorf("no such kind: %q", kind)
}

func openStack(t testing.TB, base string, tops ...string) Stack {
	t.Helper()
	var s Stack
	if base != "" {
		s.Base = openDir(t, base, unix.O_PATH)
	}
	for _, top := range tops {
		s.Layers = append(s.Layers, openDir(t, top, unix.O_PATH))
	}
	return s
}

func ended(f *File) string {
	switch {
	case f == nil:
		return "-"
	case f.Layer == Base:
		return "base"
	}
	return fmt.Sprint(f.Layer)
}

// diff gives what a Differ reports, a line each.
func diff(t testing.TB, d Differ, before, after Stack) (lines []string) {
	t.Helper()
	d.Changed = func(c *Change) error {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s>%s %s", c.Path, ended(c.Old), ended(c.New), strings.Join(c.Differs.Names(), ","))))
		return nil
	}
	d.Shadowed = func(s *Shadow) error {
		line := fmt.Sprintf("%s %d hides %v", s.Path, s.By, s.Hidden)
		if s.Gone {
			line += " gone"
		}
		lines = append(lines, line)
		return nil
	}
	must(t, d.Diff(context.Background(), before, after))
	return lines
}

func TestDiff(t *testing.T) {
	nsmounttest.Root(t)
	for _, tt := range []struct {
		name             string
		base             []string
		old, new         [][]string
		checksum, inCopy bool
		want             []string
	}{
		{name: "nothing"},
		{
			name: "added, changed, removed", base: []string{"f a 1", "f b 1", "f e/x 1"},
			old:  [][]string{{"f a 22", "f c 1", "f d 1", "l l one"}},
			new:  [][]string{{"f a 333", "f b 22", "f d 1", "f e/y 1", "f n/m 1", "l l two"}},
			want: []string{"a 0>0 size,content,mtime", "b base>0 size,content,mtime", "c 0>-", "e/y ->0", "l 0>0 target", "n ->0", "n/m ->0"},
		},
		{
			name: "the base shows again", base: []string{"f a 1", "f d/b 1"}, old: [][]string{{"f a 22", "f d/b 1"}}, new: [][]string{{}},
			want: []string{"a 0>base size,content,mtime"},
		},
		{
			name: "whiteouts and opaque directories", base: []string{"f a 1", "f d/b 1", "f d/c 1", "f k/b 1"}, old: [][]string{{"w k"}}, new: [][]string{{"w a", "o d", "f d/c 22", "w none"}},
			want: []string{"a base>-", "d/b base>-", "d/c base>0 size,content,mtime", "k ->base", "k/b ->base"},
		},
		{
			name: "types", base: []string{"f d/b 1", "f f 1"}, old: [][]string{{"l s x"}}, new: [][]string{{"f d 1", "f f/g 1", "f s 1"}},
			want: []string{"d base>0 type", "d/b base>-", "f base>0 type", "f/g ->0", "s 0>0 type"},
		},
		{
			name: "shadows", base: []string{"f a 1"}, old: [][]string{{"f z 1"}},
			new: [][]string{
				{"f z 1", "f a 22", "f d/b 1", "f e/c 1", "f w 1", "f same/x 1", "f t/t 1"},
				{"f a 333", "o d", "f e 1", "w w", "f same/y 1", "f t 1"},
				{"d t"},
			},
			want: []string{
				"a base>1 size,content,mtime", "a 1 hides [0]", "d ->1", "d 1 hides [0]", "e ->1", "e 1 hides [0]", "same ->1", "same/x ->0", "same/y ->1",
				"t ->2", "t 2 hides [1 0]", "w 1 hides [0] gone",
			},
		},
		{
			name: "content alone", old: [][]string{{"f a x"}}, new: [][]string{{"f a y"}}, checksum: true,
			want: []string{"a 0>0 content"},
		},
		{name: "content alone, not looked at", old: [][]string{{"f a x"}}, new: [][]string{{"f a y"}}},
		{
			name: "whiteouts that are files", base: []string{"f d/a 1", "f d/b 1"}, new: [][]string{{"X d", "x d/a"}},
			want: []string{"d/a base>-"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			var tops [2][]string
			for side, stack := range [][][]string{tt.old, tt.new} {
				for i, lines := range stack {
					tops[side] = append(tops[side], makeLayer(t, fmt.Sprintf("%s/%d.%d", dir, side, i), lines...))
				}
			}
			base := makeLayer(t, dir+"/base", tt.base...)
			got := diff(t, Differ{Checksum: tt.checksum}, openStack(t, base, tops[0]...), openStack(t, base, tops[1]...))
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("Diff differs (-want +got):\n%s", d)
			}
			oracle(t, base, tops, got)
		})
	}
}

// oracle has the kernel merge both stacks, and compares what is added and removed.
func oracle(t testing.TB, base string, tops [2][]string, got []string) {
	t.Helper()
	var views [2]map[string]string
	for side := range tops {
		views[side] = kernelView(t, base, tops[side])
	}
	var want []string
	for path, a := range views[before] {
		b, ok := views[after][path]
		switch {
		case !ok:
			want = append(want, path+" removed")
		case a != b:
			want = append(want, path+" changed")
		}
	}
	for path := range views[after] {
		if _, ok := views[before][path]; !ok {
			want = append(want, path+" added")
		}
	}
	var have []string
	for _, line := range got {
		path, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.Contains(rest, "hides"):
		case strings.HasPrefix(rest, "->"):
			have = append(have, path+" added")
		case strings.HasSuffix(rest, ">-"):
			have = append(have, path+" removed")
		case !strings.HasSuffix(rest, " content"): // the oracle does not read
			have = append(have, path+" changed")
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("the kernel shows another difference (-kernel +diff):\n%s", d)
	}
}

// kernelView is what an overlay of the stack shows: path to type, size, mode and
// time.
func kernelView(t testing.TB, base string, tops []string) map[string]string {
	t.Helper()
	o := nsmount.Overlay{Source: "test", Base: openDir(t, base, unix.O_PATH)}
	for _, top := range tops {
		o.Layers = append(o.Layers, openDir(t, top, unix.O_PATH))
	}
	if len(tops) == 0 {
		// An overlay has two layers at least.
		empty := filepath.Join(t.TempDir(), "empty")
		must(t, os.Mkdir(empty, 0o755))
		o.Layers = append(o.Layers, openDir(t, empty, unix.O_PATH))
	}
	tree, err := nsmount.MountOverlay(o)
	must(t, err)
	defer tree.Close()
	view := map[string]string{}
	list(t, tree.Path()+"/.", "", view)
	return view
}

// list lists what can be looked up: a directory that only one layer has shows the
// names of whiteouts, too.
func list(t testing.TB, top, rel string, view map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(top, rel))
	must(t, err)
	for _, e := range entries {
		path := filepath.Join(rel, e.Name())
		info, err := os.Lstat(filepath.Join(top, path))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		must(t, err)
		switch {
		case info.IsDir():
			view[path] = info.Mode().String()
			list(t, top, path, view)
		case info.Mode().Type() == os.ModeSymlink:
			target, err := os.Readlink(filepath.Join(top, path))
			must(t, err)
			view[path] = "l " + target
		default:
			view[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		}
	}
}

// TestDiffOfMetadata changes one thing at a time in a copy.
func TestDiffOfMetadata(t *testing.T) {
	nsmounttest.Root(t)
	when := time.Unix(1e9+2, 0)
	for _, tt := range []struct {
		name, kind, want string
		change           func(path string) error
	}{
		{"nothing", "f", "", func(string) error { return nil }},
		{"mode", "f", "mode", func(p string) error { return os.Chmod(p, 0o600) }},
		{"setuid", "f", "mode", func(p string) error { return unix.Chmod(p, 0o4644) }},
		{"owner", "f", "owner", func(p string) error { return os.Chown(p, 1, -1) }},
		{"group", "f", "owner", func(p string) error { return os.Chown(p, -1, 1) }},
		{"time", "f", "mtime", func(p string) error { return os.Chtimes(p, when, when.Add(1)) }},
		{"device", "c", "device", func(p string) error { return errors.Join(os.Remove(p), makeEntry(p, "c", "xxx")) }},
		{"mode of a directory", "d", "mode", func(p string) error { return os.Chmod(p, 0o700) }},
		{"time of a directory", "d", "", func(p string) error { return os.Chtimes(p, when, when.Add(1)) }},
		{"time of a link", "l", "", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("xx", p)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, top := range []string{"/old/a", "/new/a"} {
				must(t, makeEntry(dir+top, tt.kind, "xx"))
				if tt.kind == "c" {
					must(t, os.Chtimes(dir+top, when, when))
				}
			}
			must(t, tt.change(dir+"/new/a"))
			if tt.kind == "c" {
				must(t, os.Chtimes(dir+"/new/a", when, when))
			}
			var want []string
			if tt.want != "" {
				want = []string{"a 0>0 " + tt.want}
			}
			got := diff(t, Differ{Checksum: true}, openStack(t, "", dir+"/old"), openStack(t, "", dir+"/new"))
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			// The same of the tops, where these are directories.
			if tt.kind != "d" {
				return
			}
			got = diff(t, Differ{}, openStack(t, "", dir+"/old/a"), openStack(t, "", dir+"/new/a"))
			if tt.want != "" {
				want = []string{". 0>0 " + tt.want}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("of the top (-want +got):\n%s", d)
			}
		})
	}
}

// TestDiffPassesOverMounts: what is mounted in a layer is no part of it, and hides
// what it lies on.
func TestDiffPassesOverMounts(t *testing.T) {
	nsmounttest.Root(t)
	dir := t.TempDir()
	makeLayer(t, dir+"/old", "f d/a 1", "f f 1")
	makeLayer(t, dir+"/new", "f d/a 22", "f f 22")
	at := openDir(t, dir+"/old/d", unix.O_PATH)
	tree, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs"})
	must(t, err)
	must(t, tree.Attach(at))
	must(t, tree.Close())
	got := diff(t, Differ{}, openStack(t, "", dir+"/old"), openStack(t, "", dir+"/new"))
	if d := cmp.Diff([]string{"f 0>0 size,content,mtime"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	t.Chdir("/") // DetachTop leaves the working directory elsewhere; this puts it back.
	must(t, nsmount.DetachTop(at))
}

// TestDiffEnds: an error of a callback, and the end of the context.
func TestDiffEnds(t *testing.T) {
	dir := t.TempDir()
	makeLayer(t, dir+"/old", "f a 1")
	makeLayer(t, dir+"/new", "f a 22", "f b 1")
	before, after := openStack(t, "", dir+"/old"), openStack(t, "", dir+"/new")
	stop := errors.New("stop")
	open := countFDs(t)
	d := Differ{Changed: func(*Change) error { return stop }}
	if err := d.Diff(t.Context(), before, after); !errors.Is(err, stop) {
		t.Errorf("Diff gives %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := (&Differ{}).Diff(ctx, before, after); !errors.Is(err, stop) {
		t.Errorf("Diff gives %v when it was told to end", err)
	}
	if n := countFDs(t); n != open {
		t.Errorf("%d descriptors, %d before", n, open)
	}
}

// TestDiffAgainstTheKernel compares random stacks with what overlays of them show,
// and with a model that knows nothing of what is shared.
func TestDiffAgainstTheKernel(t *testing.T) {
	nsmounttest.Root(t)
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		dir := t.TempDir()
		base := randomLayer(t, r, dir+"/base", false)
		var pool []string
		for i := range 2 + r.IntN(4) {
			pool = append(pool, randomLayer(t, r, fmt.Sprintf("%s/%d", dir, i), true))
		}
		tops := [2][]string{choose(r, pool), choose(r, pool)}
		got := diff(t, Differ{}, openStack(t, base, tops[0]...), openStack(t, base, tops[1]...))
		oracle(t, base, tops, got)
		if want := model(t, base, tops); !cmp.Equal(want, got) {
			t.Errorf("the model differs (-model +diff):\n%s", cmp.Diff(want, got))
		}
		if t.Failed() {
			t.Logf("seed %d, round %d, %v", seed, round, tops)
			for _, top := range append([]string{base}, pool...) {
				t.Logf("%s: %v", top, listLayer(t, top))
			}
			return
		}
	}
}

// choose takes some of the layers, in an order that need not be that of the pool.
func choose(r *rand.Rand, pool []string) []string {
	chosen := slices.Clone(pool)
	if r.IntN(4) == 0 {
		r.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	}
	return slices.DeleteFunc(chosen, func(string) bool { return r.IntN(3) == 0 })
}

func randomLayer(t testing.TB, r *rand.Rand, top string, layer bool) string {
	t.Helper()
	must(t, os.MkdirAll(top, 0o755))
	kinds := []string{"d", "f", "f", "f", "l"}
	if layer {
		kinds = append(kinds, "w", "o")
	}
	for range r.IntN(14) {
		path := top
		for range 1 + r.IntN(3) {
			path += "/" + string(rune('a'+r.IntN(4)))
		}
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		err := makeEntry(path, kinds[r.IntN(len(kinds))], strings.Repeat("x", 1+r.IntN(3)))
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, os.ErrExist) || errors.Is(err, os.ErrNotExist) {
			continue // something is in the way, or a link leads nowhere
		}
		must(t, err)
	}
	return top
}

func listLayer(t testing.TB, top string) (lines []string) {
	must(t, Walk(openDir(t, top, unix.O_PATH), func(e *Entry) error {
		line := fmt.Sprintf("%s %o %d %s", e.Path(), e.Mode, e.Size, e.Target)
		if isOpaque(filepath.Join(top, e.Path())) {
			line += " opaque"
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

func isOpaque(path string) bool {
	var b [1]byte
	n, err := unix.Lgetxattr(path, "trusted.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// model is the naive answer: every path of every layer, merged from the bottom up.
func model(t testing.TB, base string, tops [2][]string) (lines []string) {
	t.Helper()
	var views [2]map[string]modelled
	paths := map[string]bool{}
	for side := range tops {
		views[side] = map[string]modelled{}
		for i, top := range append([]string{base}, tops[side]...) {
			lay(t, views[side], top, i-1)
		}
		for p := range views[side] {
			paths[p] = true
		}
	}
	sorted := make([]string, 0, len(paths))
	for p := range paths {
		sorted = append(sorted, p)
	}
	slices.SortFunc(sorted, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
	for _, p := range sorted {
		a, b := views[before][p], views[after][p]
		if line := a.compare(b); line != "" {
			lines = append(lines, p+" "+line)
		}
		if len(b.hidden) > 0 {
			line := fmt.Sprintf("%s %d hides %v", p, b.by, b.hidden)
			if !b.there {
				line += " gone"
			}
			lines = append(lines, line)
		}
	}
	return lines
}

type modelled struct {
	there, dir bool
	layer, by  int
	hidden     []int // top to bottom
	has        []int // layers that have it, of those that are seen or hidden at this path, top to bottom
	entry      Entry
}

func (a modelled) compare(b modelled) string {
	end := func(m modelled) string {
		switch {
		case !m.there:
			return "-"
		case m.layer == Base:
			return "base"
		}
		return fmt.Sprint(m.layer)
	}
	ends := end(a) + ">" + end(b)
	if !a.there || !b.there {
		if a.there == b.there {
			return ""
		}
		return ends
	}
	x, y := a.entry, b.entry
	switch {
	case x.Mode&unix.S_IFMT != y.Mode&unix.S_IFMT:
		return ends + " type"
	case x.Target != y.Target:
		return ends + " target"
	case a.dir || x.Target != "" || x.Size == y.Size:
		return ""
	}
	return ends + " size,content,mtime"
}

// lay puts one more layer on top of a view.
func lay(t testing.TB, view map[string]modelled, top string, layer int) {
	t.Helper()
	below := func(path string) { // forget what is below a path, it is hidden with the path
		for p := range view {
			if strings.HasPrefix(p, path+"/") {
				delete(view, p)
			}
		}
	}
	must(t, Walk(openDir(t, top, unix.O_PATH), func(e *Entry) error {
		p, old := e.Path(), view[e.Path()]
		isDir := e.Mode&unix.S_IFMT == unix.S_IFDIR
		m := modelled{there: true, dir: isDir, layer: layer, by: layer, entry: *e, has: old.has}
		m.entry.parents = nil
		hides := !isDir || isOpaque(filepath.Join(top, p)) || old.there && !old.dir
		whiteout := e.Mode&unix.S_IFMT == unix.S_IFCHR
		if !hides && len(old.hidden) > 0 {
			// What a directory beneath hides stays hidden, by that.
			m.hidden, m.by = old.hidden, old.by
			if old.there && !old.dir {
				m.by = layer
			}
		}
		if hides {
			m.hidden = slices.Clone(old.has)
			below(p)
		}
		if whiteout {
			m.there, m.dir, m.entry = false, false, Entry{}
			view[p] = m
			return nil
		}
		if layer != Base {
			m.has = append([]int{layer}, m.has...)
		}
		view[p] = m
		return nil
	}))
}
