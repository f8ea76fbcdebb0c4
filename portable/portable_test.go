package portable_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/portable"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units"
	"github.com/extexec/extexec/units/lint"
)

// A place is a host in a directory, with a base image and extensions beside it.
type place struct {
	t    *testing.T
	host portable.Host
	dir  string
	asks *asked
}

// asked stands in for systemd: it remembers what it was asked for, and fails what it
// is to fail.
type asked struct {
	calls   []string
	active  []string
	enabled []string
	fail    string // the call that fails, once

	after, before map[string][]string // of units
	queued        [][]string          // the units of each call for jobs
}

// jobs are calls of which each has its turn.
func (a *asked) jobs(verb string, units []string) (err error) {
	a.queued = append(a.queued, append([]string{verb}, units...))
	for _, u := range units {
		err = errors.Join(err, a.call(verb, u))
	}
	return err
}

func (a *asked) call(words ...string) error {
	c := strings.Join(words, " ")
	a.calls = append(a.calls, c)
	if c == a.fail {
		a.fail = ""
		return errors.New("systemd says no")
	}
	return nil
}

func (a *asked) DaemonReload(context.Context) error { return a.call("daemon-reload") }
func (a *asked) Active(ctx context.Context, unit string) (bool, error) {
	instances, err := a.Instances(ctx, unit)
	return slices.Contains(a.active, unit) || len(instances) > 0, err
}
func (a *asked) Instances(_ context.Context, template string) (names []string, err error) {
	before, after, is := strings.Cut(template, "@.")
	for _, u := range a.active {
		if is && strings.HasPrefix(u, before+"@") && strings.HasSuffix(u, "."+after) {
			names = append(names, u)
		}
	}
	return names, nil
}
func (a *asked) FileState(_ context.Context, unit string) (string, error) {
	if slices.Contains(a.enabled, unit) {
		return "enabled", nil
	}
	return "disabled", nil
}
func (a *asked) Ordering(_ context.Context, unit string) (after, before []string, err error) {
	return a.after[unit], a.before[unit], nil
}
func (a *asked) Start(_ context.Context, units ...string) error   { return a.jobs("start", units) }
func (a *asked) Stop(_ context.Context, units ...string) error    { return a.jobs("stop", units) }
func (a *asked) Restart(_ context.Context, units ...string) error { return a.jobs("restart", units) }
func (a *asked) Clean(_ context.Context, unit string) error       { return a.call("clean", unit) }
func (a *asked) EnableFiles(_ context.Context, units []string, _ bool) error {
	return a.call(append([]string{"enable"}, units...)...)
}
func (a *asked) DisableFiles(_ context.Context, units []string, _ bool) error {
	return a.call(append([]string{"disable"}, units...)...)
}

func newPlace(t *testing.T) *place {
	nsmounttest.Root(t)
	return newPlaceIn(t, t.TempDir())
}

func newPlaceIn(t *testing.T, dir string) *place {
	p := &place{t: t, dir: dir, asks: &asked{}}
	p.host = portable.Host{Root: dir + "/host", Manager: p.asks, Facts: lint.Facts{Systemd: 262}}
	p.write("host/usr/lib/systemd/portable/profile/default/service.conf", "[Service]\nProtectControlGroups=yes\n")
	p.write("host/etc/.keep", "")
	p.write("host/run/.keep", "")
	p.base("web_1", "web.service", "web-a.socket", "web@.service", "other.service")
	p.write("conf/etc/extension-release.d/extension-release.conf", "ID=base\nCONFEXT_LEVEL=1\n")
	p.write("conf/etc/web.conf", "x")
	return p
}

// base makes a base image with units.
func (p *place) base(name string, units ...string) {
	p.write(name+"/usr/lib/os-release", "ID=base\nVERSION_ID=7\nCONFEXT_LEVEL=1\nIMAGE_ID=web\nIMAGE_VERSION=3\n")
	for _, u := range units {
		p.write(name+"/usr/lib/systemd/system/"+u, "[Service]\nExecStart=/usr/bin/web\nExecReload=/usr/bin/web reload\n")
	}
}

func (p *place) write(name, text string) {
	p.t.Helper()
	at := filepath.Join(p.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) read(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// files is all below the host, by path; of links the target. The lock is left out.
func (p *place) files() map[string]string {
	p.t.Helper()
	all := map[string]string{}
	root := p.dir + "/host"
	err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(at, root)
		switch {
		case err != nil || strings.HasPrefix(name, "/run/extexec"):
			return err
		case d.IsDir():
			all[name+"/"] = ""
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(at)
			all[name] = "-> " + target
			return err
		default:
			text, err := os.ReadFile(at)
			all[name] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// request is for the base with its extension.
func (p *place) request(base string) portable.Request {
	return portable.Request{Base: p.dir + "/" + base, Extensions: []string{p.dir + "/conf"}}
}

const attachedDir = "/etc/systemd/system.attached"

// TestAttachDetach shows the files, that a dry run names them all and makes none, and
// that detach leaves what was there before.
func TestAttachDetach(t *testing.T) {
	p := newPlace(t)
	before := p.files()
	r := p.request("web_1")
	r.DryRun = true
	planned, err := p.host.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, p.files()); d != "" {
		t.Errorf("a dry run has changed the host:\n%s", d)
	}
	r.DryRun = false
	done, err := p.host.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"web-a.socket", "web.service", "web@.service"}; !slices.Equal(done.Units, want) {
		t.Errorf("attached are %q, want %q", done.Units, want)
	}
	after := p.files()
	for _, c := range planned.Changes {
		if at := strings.TrimPrefix(c.Path, p.dir+"/host"); !has(after, at) && !has(after, at+"/") {
			t.Errorf("%s %s was planned, and is not there", c.Type, at)
		}
	}
	text := p.read("host" + attachedDir + "/web.service.d/20-portable.conf")
	for _, line := range []string{
		"# Drop-in created for image '" + p.dir + "/web_1:" + p.dir + "/conf', do not edit.\n", "RootDirectory=" + p.dir + "/web_1\n",
		"Environment=PORTABLE=web_1\n", "LogExtraFields=PORTABLE_ROOT_NAME_AND_VERSION=web_3\n", "ExtensionDirectories=" + p.dir + "/conf\n",
		"ExecReload=+/run/extexec/extexec reload\n", "ReloadCommand=/usr/bin/web reload\n", "RefreshOnReload=~extensions\n",
		"TemporaryFileSystem=/run\n", "MemoryPressureWatch=skip\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the drop-in lacks %q:\n%s", line, text)
		}
	}
	if socket := p.read("host" + attachedDir + "/web-a.socket.d/20-portable.conf"); strings.Contains(socket, "[Service]") {
		t.Errorf("the drop-in of a socket has a [Service]:\n%s", socket)
	}
	if got := after[attachedDir+"/web.service.d/10-profile.conf"]; got != "-> "+p.dir+"/host/usr/lib/systemd/portable/profile/default/service.conf" {
		t.Errorf("the profile is %q", got)
	}
	if got := after["/etc/portables/web_1"]; got != "-> "+p.dir+"/web_1" {
		t.Errorf("the link of the image is %q", got)
	}
	if _, err := p.host.Attach(t.Context(), r); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("attached twice: %v", err)
	}
	if s, err := p.host.IsAttached(t.Context(), "web", []string{"conf"}); s != portable.Attached || err != nil {
		t.Errorf("it is %q, %v", s, err)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web"}); err == nil || !strings.Contains(err.Error(), "--extension "+p.dir+"/conf") {
		t.Errorf("detached without its extension: %v", err)
	}
	if err := os.RemoveAll(p.dir + "/conf"); err != nil { // it can be detached all the same
		t.Fatal(err)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: []string{"conf"}}); err != nil {
		t.Fatal(err)
	}
	left := p.files()
	delete(left, "/etc/portables/")
	delete(left, "/etc/systemd/")
	if d := cmp.Diff(before, left); d != "" {
		t.Errorf("detach leaves (+):\n%s", d)
	}
}

func has(m map[string]string, key string) bool { _, ok := m[key]; return ok }

// TestDetachKeeps shows that detach removes no image and no link that is not of the
// attach, and no drop-in of somebody else.
func TestDetachKeeps(t *testing.T) {
	p := newPlace(t)
	// An image that lies where links are made, under the name of one.
	p.base("host/etc/portables/web_1", "web.service")
	if err := os.Symlink("/elsewhere", p.dir+"/host/etc/portables/conf"); err != nil {
		t.Fatal(err)
	}
	r := portable.Request{Base: p.dir + "/host/etc/portables/web_1", Extensions: []string{p.dir + "/conf"}}
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	p.write("host"+attachedDir+"/web.service.d/50-mine.conf", "[Service]\n")
	if _, err := p.host.Detach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	files := p.files()
	for _, name := range []string{"/etc/portables/web_1/usr/lib/os-release", "/etc/portables/conf", attachedDir + "/web.service.d/50-mine.conf"} {
		if !has(files, name) {
			t.Errorf("%s is gone", name)
		}
	}
	for _, name := range []string{attachedDir + "/web.service", attachedDir + "/web.service.d/20-portable.conf"} {
		if has(files, name) {
			t.Errorf("%s is left", name)
		}
	}
}

// transactions are what a failure, or a kill, is tried at.
var transactions = []struct {
	name string
	do   func(ctx context.Context, p *place) error
}{
	{"attach", func(ctx context.Context, p *place) error {
		r := p.request("second_1")
		r.Now, r.Enable = true, true
		_, err := p.host.Attach(ctx, r)
		return err
	}},
	{"detach", func(ctx context.Context, p *place) error {
		r := p.request("web_1")
		r.Now, r.Enable = true, true
		_, err := p.host.Detach(ctx, r)
		return err
	}},
	{"reattach", func(ctx context.Context, p *place) error {
		r := p.request("web_2")
		r.Now = true
		_, err := p.host.Reattach(ctx, r)
		return err
	}},
	{"attach copies", func(ctx context.Context, p *place) error {
		r := p.request("second_1")
		r.Copy, r.Now = "mixed", true
		_, err := p.host.Attach(ctx, r)
		return err
	}},
	{"reattach copies", func(ctx context.Context, p *place) error {
		r := p.request("web_2")
		r.Copy, r.Now, r.Enable = "mixed", true, true
		_, err := p.host.Reattach(ctx, r)
		return err
	}},
	{"detach and clean", func(ctx context.Context, p *place) error {
		r := p.request("web_1")
		r.Now, r.Clean = true, true
		_, err := p.host.Detach(ctx, r)
		return err
	}},
}

// prepare attaches web_1, which runs and is enabled, and makes what comes next.
func (p *place) prepare() {
	p.t.Helper()
	if _, err := p.host.Attach(p.t.Context(), p.request("web_1")); err != nil {
		p.t.Fatal(err)
	}
	p.asks.active, p.asks.enabled = []string{"web.service"}, []string{"web.service"}
	p.base("second_1", "second.service", "second-b.service", "second-c.service")
	p.base("web_2", "web.service", "web-new.service")
}

// TestFailure fails every step of every transaction, before and after it: the host is
// as it was, to the byte, and systemd has read it so.
func TestFailure(t *testing.T) {
	for _, tr := range transactions {
		t.Run(tr.name, func(t *testing.T) {
			p := newPlace(t)
			p.prepare()
			var points []string
			p.host.Hook = func(point string) error { points = append(points, point); return nil }
			before := p.files()
			dry := newPlace(t)
			dry.prepare()
			dry.host.Hook = p.host.Hook
			if err := tr.do(t.Context(), dry); err != nil {
				t.Fatal(err)
			}
			if len(points) < 10 {
				t.Fatalf("few points: %q", points)
			}
			for _, at := range points {
				p.asks.calls = nil
				p.host.Hook = func(point string) error {
					if point == at {
						return errors.New("made to fail")
					}
					return nil
				}
				if err := tr.do(t.Context(), p); err == nil || !strings.Contains(err.Error(), "made to fail") {
					t.Errorf("%s: %v", at, err)
				}
				if d := cmp.Diff(before, p.files()); d != "" {
					t.Errorf("failed %s, and the host is another:\n%s", at, d)
				}
				if at == "after daemon-reload" && !slices.Equal(slices.DeleteFunc(p.asks.calls, func(c string) bool { return c != "daemon-reload" }), []string{"daemon-reload", "daemon-reload"}) {
					t.Errorf("failed %s, and systemd was asked for %q", at, p.asks.calls)
				}
			}
		})
	}
}

// TestReattachGoesBack: the new version does not start, so the old one is started again.
func TestReattachGoesBack(t *testing.T) {
	p := newPlace(t)
	p.prepare()
	before := p.files()
	p.asks.calls, p.asks.fail = nil, "restart web.service"
	r := p.request("web_2")
	r.Now = true
	if _, err := p.host.Reattach(t.Context(), r); err == nil || !strings.Contains(err.Error(), "systemd says no") {
		t.Errorf("reattached: %v", err)
	}
	if d := cmp.Diff(before, p.files()); d != "" {
		t.Errorf("the host is another:\n%s", d)
	}
	want := []string{"daemon-reload", "start web-new.service", "restart web.service", "stop web-new.service", "daemon-reload", "restart web.service"}
	if d := cmp.Diff(want, p.asks.calls); d != "" {
		t.Errorf("what systemd was asked for (-want):\n%s", d)
	}
	p.asks.calls = nil
	if _, err := p.host.Reattach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	files := p.files()
	if has(files, attachedDir+"/web-a.socket") || !has(files, attachedDir+"/web-new.service") || !has(files, "/etc/portables/web_2") || has(files, "/etc/portables/web_1") {
		t.Errorf("after the reattach there is %v", files)
	}
}

// TestSockets: systemd starts no socket whose service runs, so sockets are started first,
// also when all is taken back.
func TestSockets(t *testing.T) {
	p := newPlace(t)
	r := p.request("web_1")
	r.Now = true
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want := []string{"daemon-reload", "start web-a.socket", "start web.service"}
	if d := cmp.Diff(want, p.asks.calls); d != "" {
		t.Errorf("attach asked for (-want):\n%s", d)
	}
	p.asks.active = []string{"web-a.socket", "web.service"}
	again := []string{"stop web-a.socket", "stop web.service", "start web-a.socket", "start web.service"}
	p.asks.calls = nil
	if _, err := p.host.Reattach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(slices.Concat(want[:1], again), p.asks.calls); d != "" {
		t.Errorf("reattach asked for (-want):\n%s", d)
	}
	p.asks.calls, p.asks.fail = nil, "start web.service"
	if _, err := p.host.Reattach(t.Context(), r); err == nil {
		t.Error("reattached what does not start")
	}
	if d := cmp.Diff(slices.Concat(want[:1], again, want[:1], again), p.asks.calls); d != "" {
		t.Errorf("a reattach that is taken back asked for (-want):\n%s", d)
	}
	// The next version has no socket. It fails before anything is restarted.
	p.base("web_2", "web.service")
	p.asks.calls, p.asks.fail = nil, "daemon-reload"
	r.Base = p.dir + "/web_2"
	if _, err := p.host.Reattach(t.Context(), r); err == nil {
		t.Error("reattached where systemd does not read its units")
	}
	if d := cmp.Diff(slices.Concat([]string{"stop web-a.socket", "daemon-reload", "daemon-reload", "stop web.service"}, again[2:]), p.asks.calls); d != "" {
		t.Errorf("what takes a socket away, and is taken back, asked for (-want):\n%s", d)
	}
}

// TestDryRunLocks: a dry run makes not even the lock.
func TestDryRunLocks(t *testing.T) {
	p := newPlace(t)
	r := p.request("web_1")
	r.DryRun = true
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.dir + "/host/run/extexec"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}

// TestInstances: instances of a template that run are units of the image like others.
func TestInstances(t *testing.T) {
	p := newPlace(t)
	if _, err := p.host.Attach(t.Context(), p.request("web_1")); err != nil {
		t.Fatal(err)
	}
	p.base("web_2", "web@.service")
	p.base("web_3", "web.service")
	p.asks.active = []string{"web.service", "web@one.service", "web@two.service", "webs@three.service"}
	given := portable.Request{Base: "web", Extensions: []string{"conf"}}
	if _, err := p.host.Detach(t.Context(), given); err == nil || !strings.Contains(err.Error(), "web@one.service, web@two.service runs") {
		t.Errorf("detached: %v", err)
	}
	for _, c := range []struct {
		base string
		want []string
	}{
		{"web_2", []string{"daemon-reload", "restart web@one.service", "restart web@two.service", "stop web.service"}},
		{"web_3", []string{"daemon-reload", "start web.service", "stop web@one.service", "stop web@two.service"}},
	} {
		p.asks.calls = nil
		r := p.request(c.base)
		r.Now = true
		if _, err := p.host.Reattach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		slices.Sort(p.asks.calls) // each has a place of its own, but for units of one kind
		if d := cmp.Diff(c.want, p.asks.calls); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.base, d)
		}
		p.asks.active = []string{"web@one.service", "web@two.service", "webs@three.service"}
	}
	back := p.request("web_2")
	back.Force = true // over the instances, which have not ended here
	if _, err := p.host.Reattach(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	p.asks.calls, p.asks.enabled = nil, []string{"web@.service"}
	given.Now = true
	done, err := p.host.Detach(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(p.asks.calls)
	if d := cmp.Diff([]string{"daemon-reload", "stop web@one.service", "stop web@two.service"}, p.asks.calls); d != "" {
		t.Errorf("detach: (-want +got)\n%s", d)
	}
	if len(done.Notes) != 1 || !strings.Contains(done.Notes[0], "\"web@.service\" stays enabled") {
		t.Errorf("it says %q", done.Notes)
	}
}

// TestOrder: units are asked for as one, those first that others come after, by either's
// word; and stopped the other way round.
func TestOrder(t *testing.T) {
	p := newPlace(t)
	p.base("second_1", "second.service", "second-b.service", "second-c.service")
	a, b, c := "second.service", "second-b.service", "second-c.service"
	p.asks.after = map[string][]string{b: {"basic.target", c}, a: {a}}
	p.asks.before = map[string][]string{c: {"shutdown.target"}, a: {c}}
	r := p.request("second_1")
	r.Now = true
	queued := func(do func(context.Context, portable.Request) (*portable.Result, error), want ...[]string) {
		t.Helper()
		p.asks.queued = nil
		_, err := do(t.Context(), r)
		if d := cmp.Diff(want, p.asks.queued); d != "" {
			t.Errorf("%v, and systemd was asked for (-want):\n%s", err, d)
		}
	}
	p.asks.fail = "start " + b
	queued(p.host.Attach, []string{"start", a, c, b}, []string{"stop", b, c, a})
	queued(p.host.Attach, []string{"start", a, c, b})
	p.asks.active = []string{c, b, a}
	queued(p.host.Reattach, []string{"restart", a, c, b})
	p.asks.fail = "daemon-reload"
	queued(p.host.Detach, []string{"stop", b, c, a}, []string{"start", a, c, b})
	queued(p.host.Detach, []string{"stop", b, c, a})
}

// TestKilled kills the program at every point, also when it takes back what failed in the
// end: then either all units are attached or none is, and the next call, though it is
// refused, brings the links and copies to that, and has systemd read its units.
func TestKilled(t *testing.T) {
	if at := os.Getenv("PORTABLE_KILL_AT"); at != "" {
		killed(t, at)
		return
	}
	for _, tr := range transactions {
		t.Run(tr.name, func(t *testing.T) {
			ways := []string{""}
			if tr.name == "detach" || tr.name == "reattach copies" { // what the others undo is in these
				ways = append(ways, "after clear")
			}
			for _, fails := range ways {
				whole, points := newPlace(t), []string(nil)
				whole.prepare()
				before := whole.rest()
				whole.host.Hook = func(point string) error {
					if points = append(points, point); point == fails {
						return errors.New("made to fail")
					}
					return nil
				}
				if err := tr.do(t.Context(), whole); (err != nil) != (fails != "") {
					t.Fatal(err)
				}
				if fails != "" {
					points = points[slices.Index(points, fails)+1:]
					whole.host.Hook = nil
					if err := tr.do(t.Context(), whole); err != nil {
						t.Fatal(err)
					}
				}
				for _, at := range points {
					killedAt(t, tr.name, at, fails, before, whole.rest())
				}
			}
		})
	}
}

// killedAt kills a transaction at one point, and looks at what the next calls make of it.
func killedAt(t *testing.T, verb, at, fails string, before, after map[string]string) {
	p := newPlace(t)
	p.prepare()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
	c.Env = append(os.Environ(), "PORTABLE_KILL_AT="+at, "PORTABLE_FAIL_AT="+fails, "PORTABLE_DIR="+p.dir, "PORTABLE_VERB="+verb)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s: not killed: %v\n%s", at, err, out)
	}
	want, is := before, "old"
	switch got := attached(p.rest()); {
	case cmp.Equal(got, attached(before)):
	case cmp.Equal(got, attached(after)):
		want, is = after, "new"
	default:
		t.Errorf("killed %s: attached is neither what was nor what was to be: %v", at, got)
	}
	asks := is == "new" || at == "before undo daemon-reload"
	p.asks.calls, p.asks.active = nil, nil
	if asks { // what the next call cannot do, the one after does
		p.asks.fail = "daemon-reload"
		if _, err := p.host.Detach(t.Context(), portable.Request{Base: "nothing"}); err == nil || !strings.Contains(err.Error(), "systemd says no") {
			t.Errorf("killed %s, and systemd does not read its units: %v", at, err)
		}
	}
	for range 2 {
		if _, err := p.host.Detach(t.Context(), portable.Request{Base: "nothing"}); !errors.Is(err, portable.ErrNotAttached) {
			t.Errorf("killed %s: the next call: %v", at, err)
		}
		if d := cmp.Diff(want, p.rest()); d != "" {
			t.Errorf("killed %s, with the %s units, the next call leaves (-want):\n%s", at, is, d)
		}
	}
	if asks && !slices.Equal(p.asks.calls, []string{"daemon-reload", "daemon-reload"}) {
		t.Errorf("killed %s, the next calls asked systemd for %q", at, p.asks.calls)
	}
	if _, err := p.host.Reattach(t.Context(), p.request("web_1")); err != nil {
		t.Errorf("killed %s: the call after: %v", at, err)
	}
}

// rest is what lies on the host, wherever that is, but for what stays until the next boot.
func (p *place) rest() map[string]string {
	p.t.Helper()
	all := map[string]string{}
	for name, text := range p.files() {
		if !strings.Contains(name, "/.#extexec-kept-") {
			all[name] = strings.ReplaceAll(text, p.dir, "DIR")
		}
	}
	return all
}

// attached is what there is in the directory of attached units.
func attached(all map[string]string) map[string]string {
	in := map[string]string{}
	for name, text := range all {
		if strings.HasPrefix(name, attachedDir) {
			in[name] = text
		}
	}
	return in
}

func killed(t *testing.T, at string) {
	p := &place{t: t, dir: os.Getenv("PORTABLE_DIR"), asks: &asked{active: []string{"web.service"}, enabled: []string{"web.service"}}}
	p.host = portable.Host{Root: p.dir + "/host", Manager: p.asks, Facts: lint.Facts{Systemd: 262}, Hook: func(point string) error {
		switch point {
		case at:
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case os.Getenv("PORTABLE_FAIL_AT"):
			return errors.New("made to fail")
		}
		return nil
	}}
	for _, tr := range transactions {
		if tr.name == os.Getenv("PORTABLE_VERB") {
			t.Fatal(tr.do(t.Context(), p))
		}
	}
}

// TestRefused goes over bad input: an error that names it, and all as before.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(p *place, r *portable.Request)
		want string
	}{
		{"no os-release", func(p *place, r *portable.Request) { _ = os.Remove(p.dir + "/web_1/usr/lib/os-release") }, "os-release"},
		{"no ID", func(p *place, r *portable.Request) { p.write("web_1/usr/lib/os-release", "ID=\nVERSION_ID=7\n") }, "no ID="},
		{"scope", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/os-release", "ID=base\nPORTABLE_SCOPE=user\n")
		}, "PORTABLE_SCOPE"},
		{"prefix", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/os-release", "ID=base\nCONFEXT_LEVEL=1\nPORTABLE_PREFIXES=\"app db\"\n")
		}, "use one of app, db"},
		{"no unit", func(p *place, r *portable.Request) { r.Prefixes = []string{"nothing"} }, `begins with nothing`},
		{"link out", func(p *place, r *portable.Request) {
			_ = os.Symlink("../../../../../../etc/passwd-of-host", p.dir+"/web_1/usr/lib/systemd/system/web-x.service")
		}, "symbolic link"},
		{"control character", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-\x01.service", "[Service]\n")
		}, `web-\x01.service`},
		{"link to the host", func(p *place, r *portable.Request) {
			_ = os.Symlink(p.dir+"/host/etc/.keep", p.dir+"/web_1/usr/lib/systemd/system/web-x.service")
		}, "symbolic link"},
		{"line end", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-\n.service", "[Service]\n")
		}, `web-\n.service`},
		{"dots in the name of a unit", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-..\\..\\x y.service", "[Service]\n")
		}, `web-..`},
		{"dots for an image", func(p *place, r *portable.Request) { r.Base = ".." }, "cannot be the name of an image"},
		{"dots for an extension", func(p *place, r *portable.Request) { r.Extensions = []string{".."} }, "cannot be the name of an image"},
		{"dots for a prefix", func(p *place, r *portable.Request) { r.Prefixes = []string{"../web"} }, "begins with ../web"},
		{"dots for a profile", func(p *place, r *portable.Request) { r.Profile = "../default" }, "profile"},
		{"unit that is a device without a driver", func(p *place, r *portable.Request) {
			at := p.dir + "/web_1/usr/lib/systemd/system/web-x.service"
			if err := unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(60, 0))); err != nil { // open(2) would say ENXIO
				p.t.Fatal(err)
			}
		}, "no regular file"},
		{"unit whose drop-ins are others', too", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-.service", "[Service]\n")
		}, `every unit of the host that begins with "web-"`},
		{"template of that kind", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-@.service", "[Service]\n")
		}, `every unit of the host that begins with "web-"`},
		{"unit without room for drop-ins in its name", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-"+strings.Repeat("x", 242)+".service", "[Service]\n")
		}, "254 bytes"},
		{"path that is not UTF-8", func(p *place, r *portable.Request) {
			if err := os.Rename(p.dir+"/web_1", p.dir+"/w\xffeb_1"); err != nil {
				p.t.Fatal(err)
			}
			r.Base, r.Prefixes = p.dir+"/w\xffeb_1", []string{"web"}
		}, "not valid UTF-8"},
		{"unit that is a directory", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-x.service/x", "")
		}, "no regular file"},
		{"unit that is too large", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web-x.service", strings.Repeat("#", 1<<20+1))
		}, "1048577 bytes"},
		{"left over of the other kind", func(p *place, r *portable.Request) {
			p.write("host/run/systemd/system.attached/web.service.d/20-portable.conf", "# Drop-in created for image '/gone', do not edit.\n")
		}, "left over"},
		{"versioned name on 252", func(p *place, r *portable.Request) {
			p.host.Facts.Systemd = 252
			p.write("tool_1/usr/lib/extension-release.d/extension-release.tool", "ID=base\nVERSION_ID=7\n")
			r.Extensions = []string{p.dir + "/tool_1"}
		}, "extension-release.tool_1"},
		{"confext level", func(p *place, r *portable.Request) {
			p.write("conf/etc/extension-release.d/extension-release.conf", "ID=base\nCONFEXT_LEVEL=2\nSYSEXT_LEVEL=1\n")
		}, "CONFEXT_LEVEL"},
		{"confext scope", func(p *place, r *portable.Request) {
			p.write("conf/etc/extension-release.d/extension-release.conf", "ID=_any\nCONFEXT_SCOPE=initrd\n")
		}, "CONFEXT_SCOPE"},
		{"another's name", func(p *place, r *portable.Request) {
			_ = os.Rename(p.dir+"/conf/etc/extension-release.d/extension-release.conf", p.dir+"/conf/etc/extension-release.d/extension-release.x")
		}, "no release file"},
		{"no extension", func(p *place, r *portable.Request) { r.Extensions = []string{p.dir + "/none"} }, "no such file or directory: check the path"},
		{"profile", func(p *place, r *portable.Request) { r.Profile = "lax" }, "--profile none"},
		{"profile that confines no service", func(p *place, r *portable.Request) {
			r.Profile = "half"
			p.write("host/etc/systemd/portable/profile/half/socket.conf", "")
		}, "no service.conf"},
		{"left over", func(p *place, r *portable.Request) {
			p.write("host"+attachedDir+"/web.service.d/20-portable.conf", "# Drop-in created for image '/gone', do not edit.\n")
		}, "left over"},
		{"unit there", func(p *place, r *portable.Request) { p.write("host/usr/lib/systemd/system/web.service", "") }, "there already"},
		{"confext on 252", func(p *place, r *portable.Request) { p.host.Facts.Systemd = 252 }, "252 does not apply a confext"},
		{"alias of a unit of the host", func(p *place, r *portable.Request) {
			r.Enable = true
			p.write("host/usr/lib/systemd/system/dbus.service", "")
			p.write("web_1/usr/lib/systemd/system/web.service", "[Service]\nExecStart=/x\n[Install]\nAlias=web-0.service dbus.service\n")
		}, `would be "dbus.service", too`},
		{"units that fill the memory", func(p *place, r *portable.Request) {
			dir := p.dir + "/web_1/usr/lib/systemd/system"
			p.write("web_1/usr/lib/systemd/system/web-0.target", strings.Repeat("#", 1<<20))
			for n := range 64 {
				if err := os.Link(dir+"/web-0.target", fmt.Sprintf("%s/web-%d.target", dir, n+1)); err != nil {
					p.t.Fatal(err)
				}
			}
		}, "name a prefix"},
		{"extension twice", func(p *place, r *portable.Request) { r.Extensions = append(r.Extensions, p.dir+"/./conf") }, "given twice"},
		{"versioned on 255", func(p *place, r *portable.Request) {
			p.host.Facts.Systemd = 255
			_ = os.MkdirAll(p.dir+"/conf.v", 0o755)
			_ = os.Rename(p.dir+"/conf", p.dir+"/conf.v/conf_1")
			r.Extensions = []string{p.dir + "/conf.v"}
		}, "255 does not apply a versioned directory"},
		{"untrusted", func(p *place, r *portable.Request) { _ = os.Chmod(p.dir+"/conf", 0o777) }, "can be written by others"},
		{"setting", func(p *place, r *portable.Request) {
			p.write("web_1/usr/lib/systemd/system/web.service", "[Service]\nExecStart=/x\n[X-Extexec]\nReloadChek=/x\n")
		}, "ReloadChek"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			r := p.request("web_1")
			c.make(p, &r)
			before := p.files()
			_, err := p.host.Attach(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			var list *units.RefusedError // has a line for each thing
			if err != nil && strings.Contains(err.Error(), "\n") && !errors.As(err, &list) {
				t.Errorf("it is more than a line: %v", err)
			}
			if d := cmp.Diff(before, p.files()); d != "" {
				t.Errorf("it is another host:\n%s", d)
			}
			if len(p.asks.calls) > 0 {
				t.Errorf("systemd was asked for %q", p.asks.calls)
			}
		})
	}
}

// TestAlias: what a unit is called besides, once it is enabled, keeps nobody from
// reattaching it.
func TestAlias(t *testing.T) {
	p := newPlace(t)
	p.write("web_1/usr/lib/systemd/system/web.service", "[Service]\nExecStart=/x\n[Install]\nAlias=other.service\n")
	r := p.request("web_1")
	r.Enable = true
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	at := p.dir + "/host/etc/systemd/system"
	if err := errors.Join(os.MkdirAll(at, 0o755), os.Symlink(p.dir+"/host"+attachedDir+"/web.service", at+"/other.service")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Reattach(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// TestListOddThings: what is no unit's directory of drop-ins hides nothing.
func TestListOddThings(t *testing.T) {
	p := newPlace(t)
	if _, err := p.host.Attach(t.Context(), p.request("web_1")); err != nil {
		t.Fatal(err)
	}
	p.write("host"+attachedDir+"/file.service.d", "")
	p.write("host"+attachedDir+"/web.service.d/90-mine.conf", "")
	if err := os.Symlink("/nowhere", p.dir+"/host"+attachedDir+"/link.service.d"); err != nil {
		t.Fatal(err)
	}
	if list, err := p.host.List(t.Context()); err != nil || len(list[0].Units) != 3 {
		t.Errorf("the list is %+v, %v", list, err)
	}
}

// TestListMissing: links that lead nowhere are named, of what is attached and of what
// could have been.
func TestListMissing(t *testing.T) {
	p := newPlace(t)
	if err := os.Symlink(p.dir+"/web_1", p.dir+"/web_2"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Attach(t.Context(), p.request("web_2")); err != nil {
		t.Fatal(err)
	}
	want := func(when string, attached, dangling []string, could string) {
		t.Helper()
		list, err := p.host.List(t.Context())
		if err != nil || len(list) < 1 || !slices.Equal(list[0].Missing, attached) || !slices.Equal(list[0].Dangling, dangling) {
			t.Fatalf("%s: the list is %+v, %v", when, list, err)
		}
		if could != "" && (len(list) != 2 || !slices.Equal(list[1].Missing, []string{could})) {
			t.Errorf("%s: the list is %+v", when, list)
		}
	}
	shelf := p.dir + "/host/etc/portables"
	want("at first", nil, nil, "")
	if err := errors.Join(os.Rename(p.dir+"/web_1", p.dir+"/web_3"), os.Symlink("nowhere", shelf+"/other.raw")); err != nil {
		t.Fatal(err)
	}
	want("without what the links lead to", []string{p.dir + "/web_2"}, []string{shelf + "/web_2"}, shelf+"/other.raw")
}

// TestRootOfItsOwn: the image is the root of a unit that says another.
func TestRootOfItsOwn(t *testing.T) {
	p := newPlace(t)
	p.write("web_1/usr/lib/systemd/system/web.service", "[Service]\nExecStart=/usr/bin/web\nRootImage=/srv/other.raw\n")
	if _, err := p.host.Attach(t.Context(), p.request("web_1")); err != nil {
		t.Fatal(err)
	}
	text := p.read("host" + attachedDir + "/web.service.d/20-portable.conf")
	if want := "\nRootImage=\nRootDirectory=" + p.dir + "/web_1\n"; !strings.Contains(text, want) {
		t.Errorf("the drop-in lacks %q:\n%s", want, text)
	}
	if text := p.read("host" + attachedDir + "/web@.service.d/20-portable.conf"); strings.Contains(text, "RootImage=") {
		t.Errorf("a unit without one has:\n%s", text)
	}
}

// TestVersioned: a ".v/" stays one.
func TestVersioned(t *testing.T) {
	p := newPlace(t)
	if err := errors.Join(os.Mkdir(p.dir+"/conf.v", 0o755), os.Rename(p.dir+"/conf", p.dir+"/conf.v/conf_1")); err != nil {
		t.Fatal(err)
	}
	r := p.request("web_1")
	r.Extensions, r.Runtime, r.Copy, r.Profile = []string{p.dir + "/conf.v"}, true, "symlink", portable.NoProfile
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	text := p.read("host/run/systemd/system.attached/web.service.d/20-portable.conf")
	if line := fmt.Sprintf("ExtensionDirectories=%s/conf.v\n", p.dir); !strings.Contains(text, line) {
		t.Errorf("the drop-in lacks %q:\n%s", line, text)
	}
	if line := "# Drop-in created for image '" + p.dir + "/web_1:" + p.dir + "/conf.v/conf_1', do not edit.\n"; !strings.HasPrefix(text, line) {
		t.Errorf("the drop-in begins with another line than %q:\n%s", line, text)
	}
	if got := p.files()["/run/systemd/system.attached/web.service"]; got != "-> "+p.dir+"/web_1/usr/lib/systemd/system/web.service" {
		t.Errorf("the unit is %q", got)
	}
	list, err := p.host.List(t.Context())
	if err != nil || len(list) != 1 || list[0].State != "attached-runtime" || len(list[0].Missing) > 0 {
		t.Errorf("the list is %+v, %v", list, err)
	}
	if err := os.Rename(p.dir+"/conf.v/conf_1", p.dir+"/conf.v/conf_2"); err != nil {
		t.Fatal(err)
	}
	links := []string{p.dir + "/host/run/portables/conf_1"}
	if list, err := p.host.List(t.Context()); err != nil || len(list) != 1 || len(list[0].Missing) > 0 || !slices.Equal(list[0].Dangling, links) {
		t.Errorf("with a newer version the list is %+v, %v", list, err)
	}
	if _, err := p.host.Detach(t.Context(), r); err != nil {
		t.Errorf("not detached by the path of the versions: %v", err)
	}
	if files := p.files(); has(files, "/run/portables/conf_1") || has(files, "/run/systemd/system.attached/") {
		t.Errorf("something is left: %v", files)
	}
}

// TestOneBase shows two attachments of one base: each is told by its extensions, and
// the link of the base goes with the last one.
func TestOneBase(t *testing.T) {
	p := newPlace(t)
	p.write("tool/usr/lib/extension-release.d/extension-release.tool", "ID=base\nVERSION_ID=7\n") // no units of its own
	first := p.request("web_1")
	second := portable.Request{Base: p.dir + "/web_1", Extensions: []string{p.dir + "/tool", p.dir + "/conf"}, Prefixes: []string{"other"}}
	for _, r := range []portable.Request{first, second} {
		if _, err := p.host.Attach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	before := p.files()
	for _, extensions := range [][]string{nil, {"tool"}, {"conf", "tool"}} {
		if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: extensions}); !errors.Is(err, portable.ErrNotAttached) {
			t.Errorf("detached with %q: %v", extensions, err)
		}
	}
	if d := cmp.Diff(before, p.files()); d != "" {
		t.Errorf("what is refused has changed the host:\n%s", d)
	}
	if _, err := p.host.Detach(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	files := p.files()
	if !has(files, attachedDir+"/web.service") || !has(files, "/etc/portables/web_1") || !has(files, "/etc/portables/conf") {
		t.Errorf("the other attachment has lost something: %v", files)
	}
	if has(files, attachedDir+"/other.service") || has(files, "/etc/portables/tool") {
		t.Errorf("something is left: %v", files)
	}
}

// TestForce shows that a unit that is there is replaced, and that of an image, but not
// of a directory, the name of the release file does not matter.
func TestForce(t *testing.T) {
	p := newPlace(t)
	p.write("host"+attachedDir+"/web.service", "old")
	p.write("host"+attachedDir+"/web.service.d/20-portable.conf", "# Drop-in created for image '/gone', do not edit.\n")
	p.write("host"+attachedDir+"/web.service.d/10-profile.conf", "old")
	r := p.request("web_1")
	r.Force = true
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if text := p.read("host" + attachedDir + "/web.service"); text == "old" {
		t.Error("the old unit is still there")
	}
	if text := p.read("host" + attachedDir + "/web.service.d/10-profile.conf"); text == "old" {
		t.Error("the old profile is still there")
	}
	if text := p.read("host" + attachedDir + "/web.service.d/20-portable.conf"); strings.Contains(text, settings.RelaxOption) {
		t.Errorf("a directory has the option of an image:\n%s", text)
	}
}

// TestInspect shows what an image has, with prefixes and with all of its units.
func TestInspect(t *testing.T) {
	p := newPlace(t)
	p.write("web_1/etc/systemd/system/web-a.socket", "[Socket]\n")              // before that of /usr
	p.write("web_1/usr/lib/systemd/system/web-empty.service", "")               // no unit
	p.write("web_1/usr/lib/systemd/system/web.mount", "[Mount]\n")              // of a type that is not attached
	p.write("conf/usr/lib/systemd/system/web.service", "[Service]\nSecond=1\n") // the base has it
	if err := os.Symlink("/dev/null", p.dir+"/web_1/etc/systemd/system/web-masked.service"); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"":  {"web-a.socket", "web.service", "web@.service"},
		"-": {"other.service", "web-a.socket", "web.service", "web@.service"},
	} {
		r := p.request("web_1")
		r.Prefixes = strings.Fields(prefix)
		in, err := p.host.Inspect(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range in.Units {
			got = append(got, u.Name)
			if u.Image != "web_1" || u.Name == "web-a.socket" && u.Text != "[Socket]\n" {
				t.Errorf("%q is of %q: %q", u.Name, u.Image, u.Text)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("with %q the units are %q, want %q", prefix, got, want)
		}
		if in.Base.Fields["ID"] != "base" || len(in.Extensions) != 1 || !slices.Equal(in.Extensions[0].Classes, []string{"confext"}) {
			t.Errorf("the images are %+v, %+v", in.Base, in.Extensions)
		}
	}
}
