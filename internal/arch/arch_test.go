package arch

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// mayImport is the table of packages: what each may import of ours, besides what
// lies in its own folder. "x/..." is x and everything below it.
//
// A folder is the house of one job: its inner packages serve it, and do not import
// the outer one, except for the tests of it.
var mayImport = map[string][]string{
	"cmd/extexec": {"..."},
	"demo/hammer": {},

	"reload":          {"unitfile/settings", "image/policy", "extension/...", "image", "nsmount/...", "service/...", "reload/recorded", "reload/state", "internal/..."},
	"reload/recorded": {"reload/state", "service", "nsmount", "nsmount/hierarchy"},
	"reload/state":    {},
	// settings is for the type of a ref, which extension takes.
	"reload/status": {"reload/recorded", "reload/state", "service", "nsmount", "nsmount/hierarchy", "extension/...", "unitfile/settings"},

	"unitfile":          {},
	"unitfile/settings": {"unitfile", "image/policy"},

	"extension":              {"unitfile/settings", "extension/...", "image", "image/policy", "nsmount"},
	"extension/architecture": {},
	"extension/compose":      {"extension/architecture", "extension/layers", "extension/release", "internal/lookup"},
	"extension/version":      {},
	"extension/layers":       {},
	"extension/release":      {"extension/architecture", "internal/lookup"},
	"extension/vpick":        {"extension/architecture", "extension/version"},
	"extension/vdir":         {"extension/vpick", "internal/aside"},

	"image":           {"image/...", "nsmount", "internal/turn"},
	"image/build":     {"image/gpt", "image/signature", "image/verity"},
	"image/devmapper": {"internal/turn"},
	"image/gpt":       {},
	"image/policy":    {},
	"image/probe":     {},
	"image/signature": {},
	"image/verity":    {},

	"nsmount":           {"internal/lookup"},
	"nsmount/hierarchy": {"nsmount"},

	"service":            {"service/credential", "nsmount"},
	"service/credential": {},

	"units":         {"unitfile", "unitfile/settings", "units/lint"},
	"units/lint":    {"unitfile", "unitfile/settings", "image/policy"},
	"units/manager": {},

	// It is handed the manager, as reload is.
	"portable": {"unitfile", "unitfile/settings", "extension", "extension/release", "extension/vdir", "extension/vpick", "image", "image/policy", "units", "units/lint", "internal/..."},

	"internal/arch":      {},
	"internal/aside":     {},
	"internal/buildinfo": {},
	"internal/journald":  {},
	"internal/lookup":    {},
	"internal/pathtrust": {},
	"internal/steps":     {},
	"internal/textdiff":  {},
	"internal/turn":      {},
}

// helpers are the packages that tests alone import: they may import whatever the
// package that they help to test may, and that package.
func helper(dir string) bool { return strings.HasSuffix(dir, "test") }

// stdOnly are the packages that import the standard library and nothing else: what
// they do can be read without knowing the kernel.
var stdOnly = []string{"unitfile", "extension/version", "image/gpt", "image/policy", "image/probe", "image/verity", "internal/steps", "internal/buildinfo", "internal/textdiff"}

// pure are those of them that look at bytes and never at files.
var pure = []string{"extension/version", "image/gpt", "image/policy", "image/probe", "image/verity", "internal/steps", "internal/textdiff"}

// onlyIn says which packages may import what comes from outside, and why.
var onlyIn = []struct {
	path string
	dirs []string
	why  string
}{
	{"github.com/coreos/go-systemd", []string{"units/manager"}, "D-Bus has one door"},
	{"github.com/godbus/dbus", []string{"units/manager"}, "D-Bus has one door"},
	{"github.com/opencontainers/runc/libcontainer/capabilities", []string{"service/credential", "integration"}, "credentials have one door"},
	{"github.com/opencontainers/runc/libcontainer/configs", []string{"service/credential", "integration"}, "it comes with capabilities"},
	{"github.com/opencontainers", []string{"integration", "service/credential"}, "a container runtime is not for us but as a foreign container"},
	{"github.com/spf13/cobra", []string{"cmd/extexec"}, "flags end at the verbs"},
	{"github.com/spf13/pflag", []string{"cmd/extexec"}, "flags end at the verbs"},
	{"golang.org/x/term", []string{"cmd/extexec"}, "terminals end at the verbs"},
	{"github.com/google/go-cmp", nil, "it is for tests"},
	{"github.com/prometheus", nil, "its linter is for tests"},
	{"unsafe", []string{"nsmount", "service", "extension/layers", "image", "integration/tracer"}, "memory is handed to the kernel in few places"},
}

func TestArrows(t *testing.T) { report(t, arrows(load(t, os.DirFS("../..")))) }

func arrows(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		if len(p.files) == 0 || within(p.dir, "integration") || helper(p.dir) {
			continue
		}
		allowed, known := mayImport[p.dir]
		if !known {
			wrong = append(wrong, fmt.Sprintf("%s: not in the table of %s: say there what it may import", p.dir, "internal/arch/arch_test.go"))
			continue
		}
		for _, i := range p.imports() {
			dir, ok := ours(i)
			if ok && !matches(dir, allowed) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: the table does not allow it", p.dir, dir))
			}
			if ok && (within(dir, "integration") || helper(dir)) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: that is for tests", p.dir, dir))
			}
		}
	}
	return wrong
}

func matches(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		top, below := strings.CutSuffix(p, "...")
		return p == dir || below && (top == "" || within(dir, strings.TrimSuffix(top, "/")))
	})
}

func TestForeignImports(t *testing.T) { report(t, foreignImports(load(t, os.DirFS("../..")))) }

func foreignImports(tr *tree) (wrong []string) {
	for _, p := range tr.sorted() {
		for _, i := range p.imports() {
			for _, rule := range onlyIn {
				if !within(i, rule.path) || helper(p.dir) {
					continue
				}
				if !slices.ContainsFunc(rule.dirs, func(d string) bool { return within(p.dir, d) }) {
					wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", p.dir, i, rule.why))
				}
				break
			}
			if slices.Contains(stdOnly, p.dir) && external(i) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: it needs the standard library only", p.dir, i))
			}
			if slices.Contains(pure, p.dir) && slices.Contains([]string{"os", "os/exec", "net", "syscall"}, i) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: it looks at bytes, not at the system", p.dir, i))
			}
		}
	}
	return wrong
}

// A reload is started by the manager: it needs no bus, and early in the boot there
// is none.
func TestReloadNeedsNoBus(t *testing.T) { report(t, reloadNeedsNoBus(load(t, os.DirFS("../..")))) }

func reloadNeedsNoBus(tr *tree) (wrong []string) {
	for _, dir := range tr.closure("reload") {
		if within(dir, "units") {
			wrong = append(wrong, "reload comes to import "+dir)
		}
	}
	return wrong
}

func TestRules(t *testing.T) {
	tr := load(t, os.DirFS("../.."))
	for name, rule := range map[string]func(*tree) []string{
		"kernel":   kernelCalls,
		"comments": packageComments,
		"names":    packageNames,
		"length":   functionLength,
		"exported": exportedDocs,
		"main":     shortMain,
	} {
		t.Run(name, func(t *testing.T) { report(t, rule(tr)) })
	}
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}
