package reload

import (
	"os"
	"testing"

	"github.com/extexec/extexec/nsmount"
)

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
