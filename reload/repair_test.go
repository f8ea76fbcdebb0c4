package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/state"
)

// repair never goes without a name: the machine may have services of its own.
func (b *bed) repair(dry bool, names ...string) []Repaired {
	b.t.Helper()
	if len(names) == 0 {
		names = []string{"bed"}
	}
	all, err := Repair(b.t.Context(), RepairOptions{Options: Options{Dirs: b.dirs, Limits: nsmount.Probe()}, Names: names, DryRun: dry})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

func staleText(all []Repaired) string {
	var lines []string
	for _, r := range all {
		for _, s := range r.Stale {
			lines = append(lines, fmt.Sprintf("%s: %s, wanted %s", s.Path, s.Shows, s.Wanted))
		}
		if r.Err != nil {
			lines = append(lines, r.Err.Error())
		}
	}
	return strings.Join(lines, "\n")
}

// TestRepair: what a service does not show of its current generation is named, and
// comes back; a newer version on disk does not.
func TestRepair(t *testing.T) {
	for _, tt := range []struct {
		name, unit string
		spoil      func(b *bed)
		sees, want string
	}{
		{name: "nothing", spoil: func(*bed) {}, sees: "2 2 2"},
		{name: "unmounted", sees: "2 2 none", want: "/etc: no overlay, wanted generation 2", spoil: func(b *bed) {
			if err := b.svc.Unmount("/etc"); err != nil {
				b.t.Fatal(err)
			}
		}},
		{name: "killed after the exchange", sees: "3 3 3", spoil: func(b *bed) { b.kill("after exchange") },
			want: "/usr: generation 3, wanted generation 2\n/opt: generation 3, wanted generation 2\n/etc: generation 3, wanted generation 2"},
		{name: "killed before the exchange", sees: "2 2 2", spoil: func(b *bed) { b.kill("before exchange") },
			want: ": generation 2, wanted an end of generation 3, which was begun"},
		{name: "half exchanged", sees: "2 2 2", spoil: (*bed).killHalfWay,
			want: "/usr: generation 2, of an interrupted reload, wanted generation 2"},
		{name: "other namespace", unit: "Namespaces=unit", sees: "2 2 2", spoil: func(b *bed) {
			c := b.svc.Spawn(nsmounttest.Options{Propagation: unix.MS_PRIVATE})
			b.t.Cleanup(func() {
				if got := childSees(c); got != "2 2 2" {
					b.t.Errorf("the child sees %q", got)
				}
			})
			b.reloadMainOnly()
		}, want: "/usr: generation 1, wanted generation 2\n/opt: generation 1, wanted generation 2\n/etc: generation 1, wanted generation 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t)
			b.write(tt.unit)
			b.start()
			if tt.name != "other namespace" {
				b.install("2")
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
			}
			tt.spoil(b)
			if tt.name == "unmounted" && !nsmount.HaveBeneath() {
				tt.sees, tt.want = "2 2 1", "/etc: generation 1, wanted generation 2" // that was covered
			}
			b.install("4")
			sees := func() string {
				return strings.ReplaceAll(b.sees(), "error: open /etc/extexec-test: no such file or directory", "none")
			}
			if !strings.HasPrefix(sees(), strings.TrimSuffix(tt.sees, "none")) {
				t.Fatalf("it sees %q at first, want %q", sees(), tt.sees)
			}
			before := b.svc.Table("")
			if got := staleText(b.repair(true)); got != tt.want {
				t.Errorf("dry run:\n%s\nwant:\n%s", got, tt.want)
			}
			if after := b.svc.Table(""); strings.Join(before, "\n") != strings.Join(after, "\n") {
				t.Error("the dry run changed the mount table")
			}
			b.svc.Hammer("/usr/extexec-test", "/opt/extexec-test")
			all := b.repair(false)
			if got := staleText(all); got != tt.want || len(all) > 0 && !all[0].Done {
				t.Errorf("repair:\n%s\nwant:\n%s", got, tt.want)
			}
			for found := range b.svc.Tally() {
				if strings.Contains(found, "error") {
					t.Errorf("a lookup failed: %s", found)
				}
			}
			b.want("2")
			b.whole()
			if all := b.repair(false); len(all) > 0 {
				t.Errorf("a second repair: %+v", all)
			}
		})
	}
}

// TestRepairRemembersNothing: a check that refuses the current generation keeps the
// repair from it, and has no other consequence.
func TestRepairRemembersNothing(t *testing.T) {
	for _, line := range []string{"ReloadCheck=/bin/false", "ReloadVerify=/bin/false"} {
		b := newBed(t)
		b.write("CountTries=yes")
		b.start()
		if err := b.svc.Unmount("/etc"); err != nil {
			t.Fatal(err)
		}
		b.write("CountTries=yes", line)
		history := b.history()
		all := b.repair(false)
		var check *CommandError
		if len(all) != 1 || !errors.As(all[0].Err, &check) {
			t.Errorf("%s: repair: %+v, want the failed command", line, all)
		}
		memory, err := b.stateOf().Memory()
		if err != nil || len(memory.Refused) != 0 {
			t.Errorf("%s: it is remembered that %+v was refused, %v", line, memory, err)
		}
		if now := b.history(); len(now) != len(history) {
			t.Errorf("%s: the history is longer: %+v", line, now)
		}
		b.write("CountTries=yes")
		if all := b.repair(false); len(all) != 1 || !all[0].Done {
			t.Errorf("%s: repair: %+v", line, all)
		}
		b.want("1")
	}
}

// kill starts a reload to version 3 and kills it.
func (b *bed) kill(point string) {
	b.t.Helper()
	b.install("3")
	cmd := child{Name: "bed", Dirs: b.dirs, Point: point, Limits: nsmount.Probe()}.command(b.t)
	if err := cmd.Run(); err == nil {
		b.t.Fatal("the reload was not killed")
	}
}

// killHalfWay makes the service look as after a kill between the two system calls of
// an exchange.
func (b *bed) killHalfWay() {
	b.t.Helper()
	if !nsmount.HaveBeneath() {
		b.t.Skip("the kernel has no MOVE_MOUNT_BENEATH: an exchange is one system call there")
	}
	live, err := nsmount.Enter(b.svc.MountNS())
	if err != nil {
		b.t.Fatal(err)
	}
	defer live.Close()
	err = live.Do(b.t.Context(), func() error {
		top, err := nsmount.OpenInRoot("/usr", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer top.Close()
		later, err := nsmount.MountFS(nsmount.FSConfig{Type: "overlay", Source: "extexec:3.9:bed", Attr: nsmount.AttrReadOnly,
			Options: []nsmount.Option{{Key: "lowerdir", Value: b.dir + "/sys.v/sys_1/usr:" + b.dir + "/sys.v/sys_2/usr"}}})
		if err != nil {
			return err
		}
		defer later.Close()
		return later.AttachBeneath(top)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// reloadMainOnly reloads to version 2 without Namespaces=unit.
func (b *bed) reloadMainOnly() {
	b.t.Helper()
	b.install("2")
	text, err := os.ReadFile(b.unit)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write()
	if _, err := b.reload(Options{}); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.unit, text, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// TestRepairNames: a name that nothing has is an error, and so is a version that is
// gone; nothing changes then.
func TestRepairNames(t *testing.T) {
	b := newBed(t)
	b.start()
	if all := b.repair(false, "nobody"); len(all) != 1 || all[0].Err == nil || !strings.Contains(all[0].Error, `find "nobody"`) {
		t.Errorf("a name that nothing has: %+v", all)
	}
	if all := b.repair(false, "bed"); len(all) != 0 {
		t.Errorf("nothing to do: %+v", all)
	}
	if err := b.svc.Unmount("/etc"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.dir+"/conf.v/conf_1", b.dir+"/gone"); err != nil {
		t.Fatal(err)
	}
	all := b.repair(false, "bed")
	var f *Failure
	if len(all) != 1 || !errors.As(all[0].Err, &f) || f.Left != Unchanged || !strings.Contains(all[0].Error, "is gone") {
		t.Fatalf("a version that is gone: %+v", all)
	}
	u, err := b.dirs.Unit("bed")
	if err != nil {
		t.Fatal(err)
	}
	if h, err := u.History(); err != nil && !errors.Is(err, fs.ErrNotExist) || len(h) > 1 {
		t.Errorf("the history has the failed repair: %+v, %v", h, err)
	}
	b.svc.Stop()
	if all := b.repair(false); len(all) != 0 {
		t.Errorf("a service that has ended: %+v", all)
	}
}

// TestRepairNeedsRoot: who may not look must not be told that there is nothing to repair.
func TestRepairNeedsRoot(t *testing.T) {
	nsmounttest.Root(t)
	cmd := child{Nobody: true, Dirs: state.In(t.TempDir())}.command(t)
	cmd.Stderr = nil
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "needs root") {
		t.Errorf("%v, %q; want that it needs root", err, out)
	}
}
