package integration

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/rig"
)

const tutorial = "docs/tutorial.md"

// A lesson is a block of commands of the tutorial, and what is said of it.
type lesson struct {
	text   string
	code   int    // that its last command ends with
	prints string // not looked at where nothing is said
	says   bool   // prints is said
	soon   bool   // it comes to print that after a while
}

// lessons reads the tutorial. There is no block in it that nobody runs.
func lessons(t *testing.T) (all []lesson) {
	t.Helper()
	found := examples(t, tutorial)
	for _, e := range found {
		l := lesson{text: e.text}
		switch n, err := fmt.Sscanf(e.head, "run, exit %d", &l.code); {
		case e.head == "prints" && len(all) > 0:
			all[len(all)-1].prints, all[len(all)-1].says = e.text, true
			continue
		case e.head == "run until it prints":
			l.soon = true
		case e.head != "run" && (n != 1 || err != nil):
			t.Fatalf("%s has an example that is %q", tutorial, e.head)
		}
		all = append(all, l)
	}
	page, err := os.ReadFile("../" + tutorial)
	if err != nil {
		t.Fatal(err)
	}
	if fences := strings.Count(string(page), "```"); len(all) == 0 || fences != 2*len(found) {
		t.Fatalf("%s has %d fences and %d examples", tutorial, fences, len(found))
	}
	return all
}

// kept are places that have something while the tutorial is followed, and nothing afterwards.
var kept = []string{
	"/usr/bin/extexec", "/run/extexec", "/var/lib/extexec", "/srv/shop", "/etc/nginx/conf.d/shop.conf", "/etc/systemd/system/nginx.service.d",
}

// follow does what the tutorial says, word for word, on a system that has the package's file in root's home.
func follow(t *testing.T, c *rig.Container, deb string) {
	const home = "/root/"
	c.CopyIn(deb, home+"extexec_amd64.deb")
	c.Cleanup(func() { c.Remove(home + "extexec_amd64.deb") })
	c.UseUnit("nginx.service")
	c.Cleanup(func() { // where the test ends early
		c.Exec(context.Background(), "dpkg", "-P", "extexec")
		for _, path := range kept {
			c.Remove(path)
		}
	})
	for _, l := range lessons(t) {
		run := func() rig.Result {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			return c.Run(ctx, rig.Command{Argv: []string{"sh", "-c", "exec 2>&1\nset -e\ncd " + home + "\n" + l.text}}) // as at a terminal
		}
		r := run()
		if l.soon {
			eventually(t, fmt.Sprintf("%q prints %q", l.text, l.prints), func() bool { r = run(); return r.Stdout == l.prints })
		}
		if r.Code != l.code {
			t.Fatalf("exit code %d, want %d, of:\n%s\n%s", r.Code, l.code, l.text, r)
		}
		if d := cmp.Diff(stable(l.prints), stable(r.Stdout)); l.says && d != "" {
			t.Errorf("what is printed (-said +printed), of:\n%s\n%s\n%s", l.text, d, r.Stdout)
		}
	}
	for _, path := range kept {
		if c.Exists(path) {
			t.Errorf("the tutorial has left %s", path)
		}
	}
}

// differs is what is another one with every run, or on every machine: times, ids of processes, how many workers
// there are, where in the unit of the package a line is.
var differs = regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d \d\d:\d\d:\d\d|main process \d+, \d+ in|\d+#\d+|nginx\.service:\d+`)

// stable puts one sign in the place of what differs.
func stable(text string) string { return differs.ReplaceAllString(text, "*") }
