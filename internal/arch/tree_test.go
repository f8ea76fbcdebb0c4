package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/extexec/extexec"

// A tree is the source of the whole module, parsed.
type tree struct {
	fset     *token.FileSet
	packages map[string]*pkg // by directory, "." at the top
}

type pkg struct {
	dir   string
	files []*file // of the package itself
	tests []*file
}

type file struct {
	path string
	ast  *ast.File
}

// load parses every Go file. Build tags are not looked at: a rule holds for all
// builds.
func load(t testing.TB, fsys fs.FS) *tree {
	t.Helper()
	tr := &tree{fset: token.NewFileSet(), packages: map[string]*pkg{}}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		return tr.add(fsys, name)
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (tr *tree) add(fsys fs.FS, name string) error {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(tr.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	p := tr.packages[dir]
	if p == nil {
		p = &pkg{dir: dir}
		tr.packages[dir] = p
	}
	f := &file{path: name, ast: parsed}
	if strings.HasSuffix(name, "_test.go") {
		p.tests = append(p.tests, f)
	} else {
		p.files = append(p.files, f)
	}
	return nil
}

// sorted returns the packages in the order of their directories.
func (tr *tree) sorted() []*pkg {
	var all []*pkg
	for _, dir := range slices.Sorted(maps.Keys(tr.packages)) {
		all = append(all, tr.packages[dir])
	}
	return all
}

func (p *pkg) allFiles() []*file { return slices.Concat(p.files, p.tests) }

// imports returns what the package imports, without its tests: packages of this
// module as their directory, others as they are.
func (p *pkg) imports() []string {
	var all []string
	for _, f := range p.files {
		all = append(all, f.imports()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (f *file) imports() []string {
	var all []string
	for _, spec := range f.ast.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser saw to that
		}
		all = append(all, name)
	}
	return all
}

// ours returns the directory of a package of this module.
func ours(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// external says whether an import is neither ours nor of the standard library.
func external(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	_, ok := ours(importPath)
	return !ok && strings.Contains(first, ".")
}

// closure returns the directories of all our packages that dir imports, directly
// or not.
func (tr *tree) closure(dir string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(dir string) {
		p := tr.packages[dir]
		if p == nil {
			return
		}
		for _, i := range p.imports() {
			if d, ok := ours(i); ok && !seen[d] {
				seen[d] = true
				visit(d)
			}
		}
	}
	visit(dir)
	return slices.Sorted(maps.Keys(seen))
}

// within says whether dir is top or below it.
func within(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }
