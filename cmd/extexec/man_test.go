package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/extexec/extexec/unitfile/settings"
)

func manPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../man/*.[1-8]")
	if err != nil || len(pages) < 3 {
		t.Fatalf("man pages: %q, %v", pages, err)
	}
	return pages
}

func manPage(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("../../man/" + name)
	must(t, err)
	return strings.Split(strings.ReplaceAll(string(text), `\-`, "-"), "\n")
}

// TestManPagesRender has groff read each page: it warns of macros that are misspelt or
// left open.
func TestManPagesRender(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, page := range manPages(t) {
		var warnings strings.Builder
		c := exec.CommandContext(t.Context(), "groff", "-mandoc", "-ww", "-Tutf8", page)
		c.Stderr = &warnings
		out, err := c.Output()
		if err != nil || warnings.Len() > 0 || !strings.Contains(string(out), "extexec") {
			t.Errorf("%s: %v\n%s%d bytes of text", page, err, &warnings, len(out))
		}
	}
}

var manFlag = regexp.MustCompile(`\bFl (-?[A-Za-z][-a-z0-9]*)`)

// flagsOf are the flags that a line of a page names, as one types them.
func flagsOf(line string) (flags []string) {
	for _, m := range manFlag.FindAllStringSubmatch(line, -1) {
		flags = append(flags, "-"+m[1])
	}
	return flags
}

// TestManPageHasTheVerbs compares extexec(1), and extexec-portable(1), with the verbs and
// flags that there are.
func TestManPageHasTheVerbs(t *testing.T) {
	const below = "portable "
	verbs, portable := map[string][]string{}, map[string][]string{}
	for verb, flags := range verbFlags() {
		if command, ok := strings.CutPrefix(verb, below); ok {
			portable[command] = flags
		} else {
			verbs[verb] = flags
		}
	}
	for page, there := range map[string]map[string][]string{"extexec.1": verbs, "extexec-portable.1": portable} {
		if d := cmp.Diff(there, describedIn(t, page)); d != "" {
			t.Errorf("the program (-) and %s (+):\n%s", page, d)
		}
	}
}

// describedIn are the verbs that have a section of their own in a page, with the flags
// that are explained there.
func describedIn(t *testing.T, page string) map[string][]string {
	t.Helper()
	any := map[string]bool{"-h": true, "--help": true, "--version": true}
	for _, flags := range verbFlags() {
		for _, f := range flags {
			any[f] = true
		}
	}
	described := map[string][]string{}
	verb := ""
	for _, line := range manPage(t, page) {
		switch {
		case strings.HasPrefix(line, ".Sh "):
			verb = ""
		case strings.HasPrefix(line, ".Ss "):
			verb = strings.TrimPrefix(line, ".Ss ")
			described[verb] = []string{}
		case verb != "" && strings.HasPrefix(line, ".It "):
			described[verb] = append(described[verb], flagsOf(line)...)
		}
		for _, f := range flagsOf(line) {
			if !any[f] {
				t.Errorf("%s: no verb has the flag %s: %s", page, f, line)
			}
		}
	}
	for verb := range described {
		slices.Sort(described[verb])
	}
	return described
}

// verbFlags are the flags of all verbs, sorted, without that for help.
func verbFlags() map[string][]string {
	root := (&app{}).root(nil)
	verbs := map[string][]string{}
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			continue // as every verb's flag
		}
		verbs[c.Name()] = flagNames(c)
		if c.Name() == "completion" {
			continue // its commands are shells
		}
		for _, below := range c.Commands() {
			verbs[c.Name()+" "+below.Name()] = flagNames(below)
		}
	}
	return verbs
}

func flagNames(c *cobra.Command) []string {
	flags := []string{}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		flags = append(flags, "--"+f.Name)
		if f.Shorthand != "" {
			flags = append(flags, "-"+f.Shorthand)
		}
	})
	slices.Sort(flags)
	return flags
}

// TestManPageHasTheKeys compares extexec.unit(5) with the keys that there are.
func TestManPageHasTheKeys(t *testing.T) {
	described := map[string]bool{}
	for _, line := range manPage(t, "extexec.unit.5") {
		if key, ok := strings.CutPrefix(line, ".It Cm "); ok {
			described[strings.TrimSuffix(key, "=")] = true
		}
	}
	there := settings.Keys()
	slices.Sort(there)
	if d := cmp.Diff(there, slices.Sorted(maps.Keys(described))); d != "" {
		t.Errorf("the program (-) and extexec.unit(5) (+):\n%s", d)
	}
}
