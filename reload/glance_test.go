package reload

import (
	"os"
	"strings"
	"testing"

	"github.com/extexec/extexec/nsmount"
)

// TestNewSettings: also where the extensions are the same, a reload sees that the unit
// asks for other hierarchies or attributes, once.
func TestNewSettings(t *testing.T) {
	for _, tt := range []struct {
		name, line  string
		carry       bool
		mounted     string
		hierarchies int // on which this is mounted
	}{
		{name: "without /etc", line: "Hierarchies=/usr /opt", mounted: " - overlay extexec:", hierarchies: 2},
		{name: "without /etc, which carries", line: "Hierarchies=/usr /opt", carry: true, mounted: " - overlay extexec:", hierarchies: 3},
		{name: "without /usr", line: "Hierarchies=/opt /etc", mounted: " - overlay extexec:", hierarchies: 2},
		{name: "NoSuid", line: "NoSuid=yes", mounted: "ro,nosuid,nodev,relatime", hierarchies: 3},
		{name: "NoExec", line: "NoExec=yes", mounted: "ro,nodev,noexec,relatime", hierarchies: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t)
			b.write("")
			b.start()
			if tt.carry {
				b.svc.Mount("tmpfs", "/etc/default", "tmpfs", 0, "size=4k")
				if _, err := b.reload(Options{Force: true}); err != nil {
					t.Fatal(err)
				}
			}
			b.write(tt.line)
			o := Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), IfChanged: true}
			plan, err := Plan(t.Context(), PlanOptions{Options: o})
			if err != nil || plan.Action != Exchange || !strings.Contains(plan.Why, "the unit asks for") {
				t.Errorf("plan: %s, %q, %v", plan.Action, plan.Why, err)
			}
			for _, exchanged := range []bool{true, false} {
				res, err := b.reload(o)
				if err != nil || res.Exchanged != exchanged {
					t.Errorf("reload --if-changed: %v, want exchanged: %v", err, exchanged)
				}
			}
			on := map[string]bool{}
			for _, line := range b.svc.Table(" - overlay extexec:") {
				if strings.Contains(line, tt.mounted) {
					on[strings.Fields(line)[4]] = true
				}
			}
			if len(on) != tt.hierarchies {
				t.Errorf("%q is on %v, want %d hierarchies", tt.mounted, on, tt.hierarchies)
			}
		})
	}
}

// TestGlance: where all is as recorded, --if-changed does not visit the service's
// namespace; where anything is not, it does, and puts it right where it can.
func TestGlance(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		disturb                    func(b *bed)
		visits, exchanges, refuses bool
	}{
		{"nothing", func(*bed) {}, false, false, false},
		{"a version", func(b *bed) { b.install("2") }, true, true, false},
		{"an edit in place", func(b *bed) {
			if err := os.WriteFile(b.dir+"/conf.v/conf_1/etc/extexec-test", []byte("1"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, true, true, false},
		{"an overlay is gone", func(b *bed) {
			if err := b.svc.Unmount("/opt"); err != nil {
				t.Fatal(err)
			}
		}, true, true, false},
		{"a mount over one", func(b *bed) { b.svc.Mount("tmpfs", "/etc", "tmpfs", 0, "") }, true, false, true},
		{"a reload was killed", func(b *bed) {
			b.install("2")
			if err := (child{Name: "bed", Dirs: b.dirs, Point: "before exchange", Limits: nsmount.Probe()}).command(t).Run(); err == nil {
				t.Fatal("the child was not killed")
			}
			if err := os.Rename(b.dir+"/conf.v/conf_2", b.dir+"/conf_2"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(b.dir+"/sys.v/sys_2", b.dir+"/sys_2"); err != nil {
				t.Fatal(err)
			}
		}, true, true, false},
		{"a reload was killed half-way", func(b *bed) {
			b.install("2")
			if err := (child{Name: "bed", Dirs: b.dirs, Point: "before commit", Limits: nsmount.Probe()}).command(t).Run(); err == nil {
				t.Fatal("the child was not killed")
			}
		}, true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t)
			b.start()
			tt.disturb(b)
			visited := false
			res, err := b.reload(Options{IfChanged: true, Hook: func(p string) error {
				visited = visited || p == "before survey"
				return nil
			}})
			if visited != tt.visits || (err != nil) != tt.refuses || err == nil && res.Exchanged != tt.exchanges {
				t.Errorf("visited: %v; %+v, %v", visited, res, err)
			}
			if err == nil {
				b.whole()
			}
		})
	}
}
