package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// kernelNames are the calls that change mounts or namespaces, as golang.org/x/sys
// names them; their SYS_ numbers and the CLONE_NEW flags are found by prefix.
var kernelNames = []string{
	"Mount", "Unmount", "MoveMount", "OpenTree", "Fsopen", "Fsconfig", "Fsmount", "Fspick", "FsconfigSetFlag", "FsconfigSetString",
	"FsconfigCreate", "FsconfigReconfigure", "MountSetattr", "PivotRoot", "Setns", "Unshare", "Chroot", "Cloneflags", "Unshareflags",
}

var kernelNumbers = []string{
	"SYS_MOUNT", "SYS_UMOUNT", "SYS_MOVE_MOUNT", "SYS_OPEN_TREE", "SYS_FSOPEN", "SYS_FSCONFIG", "SYS_FSMOUNT", "SYS_FSPICK", "SYS_PIVOT_ROOT",
	"SYS_SETNS", "SYS_UNSHARE", "SYS_STATMOUNT", "SYS_LISTMOUNT", "SYS_CLONE", "CLONE_NEW",
}

// kernelExceptions are the files outside nsmount that make such calls, and which.
var kernelExceptions = map[string][]string{
	// A process that joins the user namespace of a service first must do so before
	// there is a second thread: it is a raw child, which calls nothing in Go.
	"service/rawchild.go": {"SYS_SETNS", "SYS_CLONE", "CLONE_NEW"},
}

func kernelCalls(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		if within(p.dir, "nsmount") || within(p.dir, "integration") {
			continue
		}
		for _, f := range p.allFiles() {
			for name, pos := range f.kernelSelectors() {
				if allowed(kernelExceptions[f.path], name) {
					continue
				}
				wrong = append(wrong, fmt.Sprintf("%s: %s: mount and namespace calls belong to nsmount", tr.fset.Position(pos), name))
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

func allowed(prefixes []string, name string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// kernelSelectors returns the names of mount and namespace calls that the file
// takes from golang.org/x/sys/unix or syscall.
func (f *file) kernelSelectors() map[string]token.Pos {
	local := map[string]bool{}
	for i, name := range f.imports() {
		if name != "golang.org/x/sys/unix" && name != "syscall" {
			continue
		}
		if n := f.ast.Imports[i].Name; n != nil {
			local[n.Name] = true
		} else {
			local[path.Base(name)] = true
		}
	}
	found := map[string]token.Pos{}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && local[x.Name] && kernelName(n.Sel.Name) {
				found[n.Sel.Name] = n.Pos()
			}
		case *ast.KeyValueExpr: // of a SysProcAttr
			if k, ok := n.Key.(*ast.Ident); ok && len(local) > 0 && (k.Name == "Cloneflags" || k.Name == "Unshareflags") {
				found[k.Name] = n.Pos()
			}
		}
		return true
	})
	return found
}

func kernelName(name string) bool {
	return slices.Contains(kernelNames, name) || allowed(kernelNumbers, name)
}

// packageComments: one package comment, in doc.go; a package of a single file has
// it there, a program may have it in main.go.
func packageComments(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		var with []string
		for _, f := range p.files {
			if f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != "" {
				with = append(with, path.Base(f.path))
			}
		}
		single := len(p.files) == 1 && len(with) == 1
		program := len(p.files) > 0 && p.files[0].ast.Name.Name == "main" && slices.Equal(with, []string{"main.go"})
		if len(p.files) > 0 && !single && !program && !slices.Equal(with, []string{"doc.go"}) {
			wrong = append(wrong, fmt.Sprintf("%s: the package comment belongs in doc.go, and nowhere else; it is in %q", p.dir, with))
		}
	}
	return wrong
}

// packageNames: a name says what a package does.
func packageNames(tr *tree) (wrong []string) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib"}
	for _, p := range tr.sorted() {
		for _, f := range p.files {
			if name := f.ast.Name.Name; slices.Contains(empty, name) || slices.Contains(empty, path.Base(p.dir)) {
				wrong = append(wrong, fmt.Sprintf("%s: package %s says nothing about what is in it", p.dir, name))
				break
			}
		}
	}
	return wrong
}

const maxLines = 80

// longFunctions are those that are longer than a screen, and why.
var longFunctions = map[string]string{}

// functionLength: a function fits a screen. Tables of tests may be longer.
func functionLength(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		for _, f := range p.files {
			for _, d := range f.ast.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || longFunctions[f.path+":"+fn.Name.Name] != "" {
					continue
				}
				if n := tr.lines(fn); n > maxLines {
					wrong = append(wrong, fmt.Sprintf("%s: func %s has %d lines, more than %d", tr.fset.Position(fn.Pos()), fn.Name.Name, n, maxLines))
				}
			}
		}
	}
	return wrong
}

func (tr *tree) lines(n ast.Node) int {
	return tr.fset.Position(n.End()).Line - tr.fset.Position(n.Pos()).Line + 1
}

// exportedDocs: what is exported is documented.
func exportedDocs(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		for _, f := range p.files {
			if f.ast.Name.Name == "main" {
				continue
			}
			for _, d := range f.ast.Decls {
				for _, name := range undocumented(d) {
					wrong = append(wrong, fmt.Sprintf("%s: %s has no doc comment", tr.fset.Position(d.Pos()), name))
				}
			}
		}
	}
	return wrong
}

func undocumented(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !wellKnown(d) {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if d.Doc == nil && s.Doc == nil && s.Name.IsExported() {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if d.Doc == nil && s.Doc == nil && s.Comment == nil && n.IsExported() {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

// wellKnown are the methods whose interface says all there is to say.
func wellKnown(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "Is", "String", "Close", "Len", "Less", "Swap"}, d.Name.Name)
}

// shortMain: main.go wires, the verbs have files of their own.
func shortMain(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		for _, f := range p.files {
			if within(p.dir, "cmd") && path.Base(f.path) == "main.go" {
				if n := tr.fset.File(f.ast.Pos()).LineCount(); n >= maxLines {
					wrong = append(wrong, fmt.Sprintf("%s has %d lines, %d or more", f.path, n, maxLines))
				}
			}
		}
	}
	return wrong
}
