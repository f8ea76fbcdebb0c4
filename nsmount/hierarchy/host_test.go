package hierarchy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// selfBind is what ProtectSystem= makes of /etc.
func selfBind(c *nsmounttest.Child) {
	c.Mount("/etc", "/etc", "", unix.MS_BIND|unix.MS_REC, "")
	c.Mount("", "/etc", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID, "")
}

func merge(f *fixture, version string) {
	f.svc.Mount("confext", "/etc", "overlay", unix.MS_RDONLY|unix.MS_NOEXEC, "lowerdir=/layer"+version+":/etc")
}

func (f *fixture) unmerge() {
	f.t.Helper()
	if err := f.svc.Unmount("/etc"); err != nil {
		f.t.Fatal(err)
	}
}

// TestHostMerge: a service that does not see what the host has merged is told from
// one that does, and from one with a thing of its own; the host's tree then comes
// into it, and goes again.
func TestHostMerge(t *testing.T) {
	slave := nsmounttest.Options{Propagation: unix.MS_SLAVE}
	private := nsmounttest.Options{Propagation: unix.MS_PRIVATE}
	for _, tt := range []struct {
		name    string
		options nsmounttest.Options
		prepare func(f *fixture, c *nsmounttest.Child)
		behind  string
		before  string // what it sees
	}{
		{name: "follows", options: slave, before: "2"},
		{name: "self-bind", options: slave, before: "2", prepare: func(_ *fixture, c *nsmounttest.Child) { selfBind(c) }},
		{name: "private", options: private, behind: NoMerge, before: "none"},
		{name: "private self-bind", options: private, behind: NoMerge, before: "none", prepare: func(_ *fixture, c *nsmounttest.Child) { selfBind(c) }},
		{name: "tmpfs", options: slave, before: "none", prepare: func(_ *fixture, c *nsmounttest.Child) { c.Mount("tmpfs", "/etc", "tmpfs", 0, "") }},
		{name: "another directory", options: private, before: "none", prepare: func(_ *fixture, c *nsmounttest.Child) { c.Mount("/usr", "/etc", "", unix.MS_BIND, "") }},
		{name: "older merge", options: slave, behind: OlderMerge, before: "1", prepare: func(f *fixture, c *nsmounttest.Child) {
			// Its own mount on the old merge keeps that there.
			merge(f, "1")
			selfBind(c)
			f.unmerge()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
				for _, v := range []string{"1", "2"} {
					write(t, f.dir+"/root/layer"+v+"/version", v)
				}
			})
			c := f.svc.Spawn(tt.options)
			if tt.prepare != nil {
				tt.prepare(f, c)
			}
			merge(f, "2")
			sees := func() string {
				if s := c.Read("/etc/version"); !strings.Contains(s, "no such file") {
					return s
				}
				return "none"
			}
			if got := sees(); got != tt.before {
				t.Fatalf("it sees %q at first, want %q", got, tt.before)
			}
			staged, live := f.stageMerge(c)
			if len(staged) != 1 || staged[0].Survey.Behind() != tt.behind {
				t.Fatalf("behind %q, want %q", staged[0].Survey.Behind(), tt.behind)
			}
			if err := live.Do(t.Context(), staged[0].Exchange); err != nil {
				t.Fatal(err)
			}
			want := tt.before
			if tt.behind != "" {
				want = "2"
				table, err := live.Table()
				if err != nil {
					t.Fatal(err)
				}
				if err := staged[0].Landed(table); err != nil {
					t.Error(err)
				}
			}
			if got := sees(); got != want {
				t.Errorf("it sees %q, want %q", got, want)
			}
			again, _ := f.stageMerge(c)
			if again[0].Survey.Behind() != "" {
				t.Errorf("behind %q afterwards", again[0].Survey.Behind())
			}
			if err := live.Do(t.Context(), staged[0].ExchangeBack); err != nil {
				t.Fatal(err)
			}
			if got := sees(); got != tt.before {
				t.Errorf("it sees %q after the exchange back, want %q", got, tt.before)
			}
		})
	}
}

// stageMerge stages what the host has merged for the child.
func (f *fixture) stageMerge(c *nsmounttest.Child) ([]*Staged, *nsmount.Namespace) {
	f.t.Helper()
	host, err := TakeHost(f.t.Context(), f.live)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = host.Close() })
	live, err := nsmount.Enter(c.MountNS())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = live.Close() })
	v, err := host.Behind(f.t.Context(), live, Options{Limits: f.limits})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = v.Close() })
	staged, err := Stage(f.t.Context(), v, make([]Wanted, len(v.Surveys)), false)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		for _, s := range staged {
			_ = s.Close()
		}
	})
	return staged, live
}

// TestHostMergeCarries: the service's own mounts stay, with what they hide, and so
// do the restrictions of what is replaced. No lookup fails.
func TestHostMergeCarries(t *testing.T) {
	f := newFixture(t, nsmounttest.Options{}, func(f *fixture) {
		write(t, f.dir+"/root/layer1/version", "1")
		write(t, f.dir+"/root/layer2/version", "2")
		write(t, f.dir+"/root/layer2/secret", "NEW SECRET")
		write(t, f.dir+"/root/layer2/later/covered", "")
	})
	c := f.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_SLAVE})
	merge(f, "1")
	selfBind(c)
	c.Mount("/src/null", "/etc/secret", "", unix.MS_BIND, "")
	c.Mount("/etc/dir", "/etc/dir", "", unix.MS_BIND, "")
	c.Mount("", "/etc/dir", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	for _, how := range []mode{onTop, beneath} { // the service's own mounts are not locked at first
		f.unmerge()
		merge(f, "2")
		c.Hammer("/etc/base", "/etc/secret")
		staged, live := f.stageMerge(c)
		if staged[0].Survey.Behind() != OlderMerge {
			t.Fatalf("behind %q", staged[0].Survey.Behind())
		}
		if err := live.Do(t.Context(), staged[0].Exchange); err != nil {
			t.Fatal(err)
		}
		if f.limits.NoBeneath {
			how = onTop
		}
		if staged[0].done != how {
			t.Errorf("exchanged by %v, want %v", staged[0].done, how)
		}
		for found, n := range c.Tally() {
			if found != "/etc/base=base" && found != "/etc/secret=" {
				t.Errorf("%d times: %s", n, found)
			}
		}
		if got := c.Read("/etc/version"); got != "2" {
			t.Errorf("version %q", got)
		}
		carried := map[string]How{}
		for _, c := range staged[0].Carried {
			carried[c.Path] = c.How
		}
		if diff := cmp.Diff(map[string]How{"secret": Cloned, "dir": Rebuilt}, carried); diff != "" {
			t.Errorf("carried (-want +got):\n%s", diff)
		}
		const restricted = nsmount.AttrNoSuid | nsmount.AttrNoExec | nsmount.AttrReadOnly
		if attr := visibleAttr(t, c, live); attr&restricted != restricted {
			t.Errorf("what it sees is mounted with %v", attr)
		}
		f.svc.Mount("tmpfs", "/etc/later", "tmpfs", 0, "size=4k")
		if got := c.Read("/etc/later/covered"); !strings.Contains(got, "no such file") {
			t.Errorf("what the host mounts below it later does not appear: %q", got)
		}
	}
}

// visibleAttr is what the mount has that a child sees at /etc.
func visibleAttr(t *testing.T, c *nsmounttest.Child, live *nsmount.Namespace) nsmount.Attr {
	t.Helper()
	dir, err := os.OpenFile(fmt.Sprintf("/proc/%d/root/etc", c.PID), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	at, err := nsmount.Locate(dir)
	if err != nil {
		t.Fatal(err)
	}
	table, err := live.Table()
	if err != nil {
		t.Fatal(err)
	}
	top, ok := table.ByID(at.Mount)
	if !ok {
		t.Fatalf("mount %d is not there", at.Mount)
	}
	return top.Attr
}
