package journald_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCatalog: every message id is explained, and nothing else.
func TestCatalog(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "ids.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			id, err := strconv.Unquote(l.Value)
			if err != nil || len(id) != 32 || ids[id] {
				t.Errorf("%s: no message id, or there twice", l.Value)
			}
			ids[id] = true
		}
		return true
	})
	text, err := os.ReadFile("../../share/extexec.catalog")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, part := range strings.Split(string(text), "\n-- ")[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		explained[id] = true
		head, body, _ := strings.Cut(rest, "\n\n")
		for _, want := range []string{"Subject: ", "Defined-By: extexec", "Support: https://", "Documentation: man:extexec(1)"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s has no %s", id, want)
			}
		}
		if strings.TrimSpace(body) == "" {
			t.Errorf("%s explains nothing", id)
		}
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(ids)), slices.Sorted(maps.Keys(explained))); d != "" {
		t.Errorf("ids.go (-) and the catalog (+):\n%s", d)
	}
	// What the catalog fills in must be a field that the program sends.
	code, err := os.ReadFile("../../cmd/extexec/event.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(string(code), `"`+m[1]+`"`) {
			t.Errorf("the program sends no field %s", m[1])
		}
	}
}
