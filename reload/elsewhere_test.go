package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// places are the ways in which a process of a service can live in another mount
// namespace.
var places = []struct {
	name    string
	options nsmounttest.Options
	follows bool // by propagation
	binds   bool // what the overlay itself shows, so it follows that
	covered bool // the first trees are locked, and stay (before Linux 7.2)
}{
	{name: "peer", follows: true},
	{name: "slave", options: nsmounttest.Options{Propagation: unix.MS_SLAVE}, follows: true},
	{name: "copy", options: nsmounttest.Options{Propagation: unix.MS_PRIVATE}},
	{name: "user namespace, copy", options: nsmounttest.Options{Propagation: unix.MS_PRIVATE, UserNS: true}, covered: true},
	{name: "user namespace, slave", options: nsmounttest.Options{Propagation: unix.MS_SLAVE, UserNS: true}, follows: true},
	{name: "sandbox", options: nsmounttest.Options{Sandbox: []string{"/usr", "/opt", "/etc", "/proc"}}, binds: true},
	{name: "sandbox, user namespace", options: nsmounttest.Options{Sandbox: []string{"/usr", "/opt", "/etc", "/proc"}, UserNS: true}, binds: true},
}

func childSees(c *nsmounttest.Child) string {
	var v []string
	for _, h := range []string{"/usr", "/opt", "/etc"} {
		v = append(v, c.Read(h+"/extexec-test"))
	}
	return strings.Join(v, " ")
}

// TestElsewhere: with Namespaces=unit all processes of the service see the new
// version, whatever their mount namespace is, reload after reload, and no lookup
// fails in any of them; without it those do that follow.
func TestElsewhere(t *testing.T) {
	onTop := nsmount.Probe().NoBeneath // then nothing comes off
	for _, p := range places {
		for _, all := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, all=%v", p.name, all), func(t *testing.T) {
				b := newBed(t)
				if all {
					b.write("Namespaces=unit")
				}
				b.start()
				c := b.svc.Spawn(p.options)
				if got := childSees(c); got != "1 1 1" {
					t.Fatalf("the child sees %q at first", got)
				}
				c.Hammer("/etc/extexec-test", "/usr/extexec-test", "/opt/extexec-test")
				for _, v := range []string{"2", "3", "4"} {
					b.install(v)
					res, err := b.reload(Options{})
					if err != nil {
						t.Fatal(err)
					}
					if len(res.Warnings) > 0 {
						t.Errorf("warnings %q", res.Warnings)
					}
					b.want(v)
					want := v
					if !all && !p.follows && !(onTop && p.binds) {
						want = "1"
					}
					if got := childSees(c); got != want+" "+want+" "+want {
						t.Errorf("the child sees %q, want %s", got, want)
					}
				}
				for found := range c.Tally() {
					if strings.Contains(found, "error") {
						t.Errorf("a lookup failed in the child: %s", found)
					}
				}
				n := overlaysOf(t, c.PID)
				if all && n != 3 && !(p.covered && n == 6) && !(onTop && n == 12) {
					t.Errorf("the child's namespace has %d overlays of ours, covered: %v", n, p.covered)
				}
				b.whole()
			})
		}
	}
}

func overlaysOf(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "overlay extexec:")
}

// TestElsewhereCarries: what is mounted below a hierarchy in another namespace stays
// there, whatever the main one has. Where the new tree goes on top, also in what follows
// by propagation, the reload is refused rather than that it lies beneath.
func TestElsewhereCarries(t *testing.T) {
	for _, limits := range []nsmount.Limits{nsmount.Probe(), {NoBeneath: true}} {
		for _, p := range places {
			t.Run(fmt.Sprintf("%s, NoBeneath=%v", p.name, limits.NoBeneath), func(t *testing.T) {
				b := newBed(t)
				b.write("Namespaces=unit")
				b.start()
				c := b.svc.Spawn(p.options)
				c.Mount("tmpfs", "/etc/extension-release.d", "tmpfs", unix.MS_RDONLY, "size=4k")
				b.install("2")
				want := "2 2 2"
				_, err := Reload(t.Context(), Options{Name: "bed", Dirs: b.dirs, Limits: limits})
				// A peer's mount is the service's, too.
				if limits.NoBeneath && (p.follows || p.binds) && p.name != "peer" {
					want = "1 1 1"
					var f *Failure
					if !errors.As(err, &f) || f.Left != Unchanged {
						t.Errorf("error %v, want one that leaves all unchanged", err)
					}
					for _, text := range []string{fmt.Sprintf("processes [%d]", c.PID), "(/etc/extension-release.d)", "restart the service"} {
						if err == nil || !strings.Contains(err.Error(), text) {
							t.Errorf("error %v, want %q in it", err, text)
						}
					}
				} else if err != nil {
					t.Fatal(err)
				}
				if got := childSees(c); got != want {
					t.Errorf("the child sees %q, want %q", got, want)
				}
				if got := c.Read("/etc/extension-release.d/extension-release.conf"); !strings.Contains(got, "no such file") {
					t.Errorf("what the child's mount hides shows: %q", got)
				}
				if got := b.svc.Read("/etc/extension-release.d/extension-release.conf"); got != "ID=_any\n" && p.name != "peer" {
					t.Errorf("the service sees %q", got)
				}
			})
		}
	}
}

// TestElsewhereTakenBack: what fails after the exchange takes it back everywhere.
func TestElsewhereTakenBack(t *testing.T) {
	b := newBed(t)
	b.write("Namespaces=unit", "ReloadVerify=/bin/false")
	b.start()
	var children []*nsmounttest.Child
	for _, p := range places {
		children = append(children, b.svc.Spawn(p.options))
	}
	b.install("2")
	seen := map[string]string{}
	_, err := b.reload(Options{Hook: func(point string) error {
		if point == "after elsewhere" {
			for i, c := range children {
				seen[places[i].name] = childSees(c)
			}
		}
		return nil
	}})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack || f.Step != "verify" {
		t.Fatalf("reload: %v", err)
	}
	b.want("1")
	for i, c := range children {
		if seen[places[i].name] != "2 2 2" {
			t.Errorf("%s: saw %q before the verify", places[i].name, seen[places[i].name])
		}
		if got := childSees(c); got != "1 1 1" {
			t.Errorf("%s: sees %q after it", places[i].name, got)
		}
	}
	b.whole()
}

// TestElsewhereHalfWay ends a reload while it is at the other namespaces: all of
// them show the old version again.
func TestElsewhereHalfWay(t *testing.T) {
	b := newBed(t)
	b.write("Namespaces=unit")
	b.start()
	var children []*nsmounttest.Child
	for range 12 {
		children = append(children, b.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_PRIVATE}))
	}
	ended := errors.New("ended")
	for version := 2; ; version++ {
		b.install(fmt.Sprint(version))
		old := childSees(children[0])
		ctx, cancel := context.WithCancelCause(t.Context())
		var wait sync.WaitGroup
		_, err := Reload(ctx, Options{Name: "bed", Dirs: b.dirs, Limits: nsmount.Probe(), Hook: func(p string) error {
			if p == "before elsewhere" {
				wait.Go(func() {
					for childSees(children[0]) == old && ctx.Err() == nil {
					}
					cancel(ended)
				})
			}
			return nil
		}})
		cancel(nil)
		wait.Wait()
		want := fmt.Sprint(version)
		if err != nil {
			want = strings.Fields(old)[0]
		}
		for i, c := range children {
			if got := childSees(c); got != want+" "+want+" "+want {
				t.Errorf("child %d sees %q, want %s after %v", i, got, want, err)
			}
		}
		var f *Failure
		if errors.As(err, &f) && f.Step == "elsewhere" || t.Failed() {
			return // the first child was exchanged, and back
		}
		if version == 30 {
			t.Fatal("no reload could be ended half-way")
		}
	}
}

// TestElsewhereSkips: a namespace that cannot be exchanged, and one that ends
// meanwhile, do not keep the others from it. The first is named.
func TestElsewhereSkips(t *testing.T) {
	b := newBed(t)
	b.extension("conf", "1.1", map[string]string{
		"etc/extension-release.d/extension-release.conf": "ID=_any\n", "etc/extexec-test": "1", "etc/gone/x": ""})
	b.write("Namespaces=unit")
	b.start()
	copied := nsmounttest.Options{Propagation: unix.MS_PRIVATE}
	stuck, ends, good := b.svc.Spawn(copied), b.svc.Spawn(copied), b.svc.Spawn(copied)
	stuck.Mount("tmpfs", "/etc/gone", "tmpfs", 0, "size=4k")
	b.install("2")
	res, err := b.reload(Options{Hook: func(p string) error {
		if p == "before elsewhere" {
			ends.Stop()
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.want("2")
	if got := childSees(good); got != "2 2 2" {
		t.Errorf("a child sees %q", got)
	}
	if got := childSees(stuck); got != "1 1 1" {
		t.Errorf("the child with a mount in the way sees %q", got)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], fmt.Sprintf("processes [%d]", stuck.PID)) || !strings.Contains(res.Warnings[0], "/etc/gone") {
		t.Errorf("warnings %q", res.Warnings)
	}
}

// TestElsewhereAtEveryStep fails and kills a reload around the exchange in the other
// namespaces: each shows the old or the new version, and the next reload brings
// them together.
func TestElsewhereAtEveryStep(t *testing.T) {
	injected := errors.New("injected")
	for _, point := range []string{"after exchange", "before elsewhere", "after elsewhere", "after verify"} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kill=%v", point, kill), func(t *testing.T) {
				b := newBed(t)
				b.write("Namespaces=unit")
				b.start()
				c := b.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_PRIVATE})
				b.install("2")
				if kill {
					cmd := child{Name: "bed", Dirs: b.dirs, Point: point, Limits: nsmount.Probe()}.command(t)
					if err := cmd.Run(); err == nil {
						t.Fatal("the reload was not killed")
					}
				} else if _, err := b.reload(Options{Hook: func(p string) error {
					if p == point {
						return injected
					}
					return nil
				}}); !errors.Is(err, injected) {
					t.Fatal(err)
				}
				if got := childSees(c); got != "1 1 1" && !(kill && got == "2 2 2") {
					t.Errorf("the child sees %q", got)
				}
				b.install("3")
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
				b.want("3")
				if got := childSees(c); got != "3 3 3" {
					t.Errorf("the child sees %q after the next reload", got)
				}
				if n := overlaysOf(t, c.PID); n != 3 && !nsmount.Probe().NoBeneath {
					t.Errorf("%d overlays in the child's namespace", n)
				}
				b.whole()
			})
		}
	}
}

// topOf is the source of what is mounted last on a place.
func topOf(t *testing.T, pid int, point string) (source string) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		left, right, _ := strings.Cut(line, " - ")
		if strings.Fields(left)[4] == point {
			source = strings.Fields(right)[1]
		}
	}
	return source
}

// TestElsewhereOwnThing: what a namespace has put on a hierarchy itself stays; the
// other hierarchies are exchanged.
func TestElsewhereOwnThing(t *testing.T) {
	for _, tt := range []struct{ source, fsType, data string }{
		{"own", "tmpfs", ""},
		{"extexec:1.1:other", "overlay", "lowerdir=/usr/lib:/usr/share"},
	} {
		t.Run(tt.source, func(t *testing.T) {
			b := newBed(t)
			b.write("Namespaces=unit")
			b.start()
			c := b.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_PRIVATE})
			c.Mount(tt.source, "/opt", tt.fsType, 0, tt.data)
			b.install("2")
			res, err := b.reload(Options{})
			if err != nil || len(res.Warnings) > 0 {
				t.Fatalf("%v, warnings %q", err, res.Warnings)
			}
			b.want("2")
			if usr, etc := c.Read("/usr/extexec-test"), c.Read("/etc/extexec-test"); usr != "2" || etc != "2" {
				t.Errorf("the child sees %q in /usr, %q in /etc", usr, etc)
			}
			if got := topOf(t, c.PID, "/opt"); got != tt.source {
				t.Errorf("%q is on /opt, want %q", got, tt.source)
			}
		})
	}
}

// TestElsewhereDisguised has a process of the service make a user and a mount namespace,
// and there put something on a hierarchy that looks like an overlay of ours and has no
// mounts below it: it does not get a tree that shows what a mount hides from the service.
func TestElsewhereDisguised(t *testing.T) {
	const hidden = "/etc/extension-release.d/extension-release.conf"
	for _, tt := range []struct {
		name string
		put  func(c *nsmounttest.Child)
		says bool
	}{
		{"a part of ours", func(c *nsmounttest.Child) { c.Mount("/etc/default", "/etc", "", unix.MS_BIND, "") }, false},
		{"an overlay", func(c *nsmounttest.Child) {
			c.Mount("extexec:1.1:bed", "/etc", "overlay", 0, "lowerdir=/usr/lib:/usr/share")
		}, true},
		{"an overlay with a self-bind", func(c *nsmounttest.Child) {
			c.Mount("extexec:1.1:bed", "/etc", "overlay", 0, "lowerdir=/usr/lib:/usr/share")
			c.Mount("/etc/extension-release.d", "/etc/extension-release.d", "", unix.MS_BIND, "")
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t)
			b.write("Namespaces=unit")
			b.start()
			b.svc.Mount("tmpfs", "/etc/extension-release.d", "tmpfs", unix.MS_RDONLY, "size=4k") // InaccessiblePaths=
			b.install("2")
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			c := b.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_PRIVATE, UserNS: true})
			tt.put(c)
			b.install("3")
			res, err := b.reload(Options{})
			if err != nil {
				t.Fatal(err)
			}
			b.want("3")
			if got := c.Read(hidden); !strings.Contains(got, "no such file") {
				t.Errorf("what is hidden from the service shows: %q", got)
			}
			want := `"/etc/extension-release.d" is mounted in the service's own namespace, and not there`
			if says := strings.Contains(strings.Join(res.Warnings, "\n"), want); says != tt.says {
				t.Errorf("warnings %q, one of the mount: want %v", res.Warnings, tt.says)
			}
		})
	}
}

// TestElsewhereNoLayer: where no extension is left for a hierarchy, all namespaces
// show the base, also a sandbox that has bound the service's tree over nothing.
func TestElsewhereNoLayer(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			b := newBed(t)
			b.write("Namespaces=unit")
			b.start()
			c := b.svc.Spawn(p.options)
			text := fmt.Sprintf("[Service]\nExecStart=/bin/true\n[X-Extexec]\nNamespaces=unit\nExtensionDirectories=%s/conf.v\n", b.dir)
			if err := os.WriteFile(b.unit, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := b.reload(Options{}); err != nil {
				t.Fatal(err)
			}
			if got := c.Read("/usr/extexec-test"); !strings.Contains(got, "no such file") {
				t.Errorf("the child sees %q", got)
			}
			want := b.svc.Read("/usr/lib/os-release")
			if got := c.Read("/usr/lib/os-release"); got != want || strings.Contains(got, "error") {
				t.Errorf("the child sees the base as %q, want %q", got, want)
			}
			if got := c.Read("/etc/extexec-test"); got != "1" {
				t.Errorf("the child sees %q in /etc", got)
			}
		})
	}
}
