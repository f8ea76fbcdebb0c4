package reload

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/hierarchy"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestGatherHangsAllOnto has what was cloned out of a service's namespace hang on the
// extension's tree, as another tree of the host view does.
func TestGatherHangsAllOnto(t *testing.T) {
	nsmounttest.Root(t)
	host, err := nsmount.Here()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	ns := nsmounttest.Start(t, nsmounttest.Options{}).MountNS()
	live, err := nsmount.Enter(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	look, err := hierarchy.Take(t.Context(), ns, live, hierarchy.Options{Hierarchies: []string{"/etc", "/usr"}})
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	// As often as the kernel lets trees of one namespace hang on another.
	first, second := cloned(t), cloned(t)
	nsmount.Gather([]*nsmount.Tree{first, second})
	want := hangs(t, second, first)

	all := &opened{extensions: []*extension.Opened{{Tree: cloned(t)}}}
	m := &made{host: host, view: look, all: all, layers: &layers{}}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	trees := look.Trees()
	if len(trees) < 2 {
		t.Fatalf("the view has %d trees", len(trees))
	}
	if got := hangs(t, trees[len(trees)-1], all.extensions[0].Tree); got != want {
		t.Errorf("the last tree of the view hangs on the extension's: %v, want %v", got, want)
	}
	if err := all.Close(); err != nil {
		t.Error(err)
	}
}

// cloned is a tree of a directory that has one below it.
func cloned(t *testing.T) *nsmount.Tree {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := nsmount.CloneDir(f, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() }) // some are closed before
	return tree
}

// hangs tells whether a tree is the topmost one that is mounted on another.
func hangs(t *testing.T, tree, on *nsmount.Tree) bool {
	t.Helper()
	top, err := on.OpenInRoot("below/..", unix.O_PATH)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	var at [2]nsmount.Location
	for i, f := range []*os.File{tree.File(), top} {
		if at[i], err = nsmount.Locate(f); err != nil {
			t.Fatal(err)
		}
	}
	return at[0].Mount == at[1].Mount
}
