package reload

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// TestMainPIDOfAnother gives a reload by name the process of something else:
// nothing is put over what that sees.
func TestMainPIDOfAnother(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	other := nsmounttest.Start(t, nsmounttest.Options{})
	t.Setenv("MAINPID", strconv.Itoa(other.PID()))
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != Unchanged || !strings.Contains(err.Error(), "is $MAINPID out of date?") {
		t.Errorf("error %v, want one that names $MAINPID", err)
	}
	if m := other.Table("extexec:"); len(m) != 0 {
		t.Errorf("the other service got %q", m)
	}
	b.want("1")
	t.Setenv("MAINPID", strconv.Itoa(b.svc.PID()))
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	b.want("2")
	b.whole()
}

// TestNoManager: a service that was started by hand under the name of a unit is found
// by its namespace where its first process has ended and no manager knows it.
func TestNoManager(t *testing.T) {
	b := newBed(t)
	o := b.options()
	o.Name = "bed.service"
	b.svc = nsmounttest.StartCommand(t, child{Run: &o}.command(t))
	b.install("2")
	another := func(r *state.Record) { r.StartTime++ } // a process that has had its id
	edit(t, b.dirs, "bed.service", another)
	unknown := Options{Name: "bed.service", Dirs: b.dirs, Limits: nsmount.Probe(), Manager: unknowing{}}
	if _, err := Reload(t.Context(), unknown); err != nil {
		t.Fatal(err)
	}
	b.want("2")
	b.svc.Stop()
	_, err := Reload(t.Context(), unknown)
	if err == nil || !strings.Contains(err.Error(), "is not running") || !errors.Is(err, errUnknown) {
		t.Errorf("error %v, want that it is not running, and what the manager said", err)
	}
}

// unknowing is a manager that does not have the unit.
type unknowing struct{}

var errUnknown = errors.New("no such unit")

func (unknowing) MainPID(context.Context, string) (int, error) { return 0, errUnknown }

// edit changes the record of a name.
func edit(t testing.TB, dirs state.Dirs, name string, change func(*state.Record)) {
	t.Helper()
	u, err := dirs.Unit(name)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := u.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	r, err := lock.Load()
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	if err := lock.Save(r); err != nil {
		t.Fatal(err)
	}
}

// TestNamespaceIDGivenAgain has a record mean, by its id alone, the namespace of
// another service, as after a boot (--state-dir) or before Linux 6.11: the other one is
// left alone, and the name can be used.
func TestNamespaceIDGivenAgain(t *testing.T) {
	b := newBed(t)
	b.start()
	b.svc.Stop()
	other := nsmounttest.Start(t, nsmounttest.Options{})
	id, err := service.MountNamespaceID(other.MountNS())
	if err != nil {
		t.Fatal(err)
	}
	edit(t, b.dirs, "bed", func(r *state.Record) { r.MountNS, r.Boot = id, "" })
	_, err = b.reload(Options{})
	if err == nil || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("reload: error %v, want that it is not running", err)
	}
	if all := b.repair(false); len(all) != 0 {
		t.Errorf("repair: %+v", all)
	}
	t.Setenv("MAINPID", strconv.Itoa(other.PID()))
	if _, err := Reload(t.Context(), Options{Dirs: b.dirs, Limits: nsmount.Probe()}); err == nil || !strings.Contains(err.Error(), "belongs to no unit") {
		t.Errorf("reload by $MAINPID: error %v, want that it has no record", err)
	}
	if m := other.Table("extexec:"); len(m) != 0 {
		t.Errorf("the other service got %q", m)
	}
	t.Setenv("MAINPID", "")
	b.start()
	b.want("1")
}
