package portable_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/portable"
)

// mixed is a request for the base with its extension, copied.
func (p *place) mixed(base string) portable.Request {
	r := p.request(base)
	r.Copy = "mixed"
	return r
}

// TestCopies shows that units use the copies, which go with the units, and the images
// need not be there any more.
func TestCopies(t *testing.T) {
	p := newPlace(t)
	if err := unix.Setxattr(p.dir+"/web_1/usr/lib/os-release", "user.mark", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	before := p.files()
	if _, err := p.host.Attach(t.Context(), p.mixed("web_1")); err != nil {
		t.Fatal(err)
	}
	shelf := p.dir + "/host/etc/portables"
	text := p.read("host" + attachedDir + "/web.service.d/20-portable.conf")
	for _, line := range []string{"RootDirectory=" + shelf + "/web_1\n", "ExtensionDirectories=" + shelf + "/conf\n", "Environment=PORTABLE=web_1\n", "'" + shelf + "/web_1:" + shelf + "/conf'"} {
		if !strings.Contains(text, line) {
			t.Errorf("the drop-in lacks %q:\n%s", line, text)
		}
	}
	mark := make([]byte, 8)
	if n, err := unix.Getxattr(shelf+"/web_1/usr/lib/os-release", "user.mark", mark); err != nil || string(mark[:n]) != "kept" {
		t.Errorf("an attribute of the image is %q in the copy, %v", mark[:n], err)
	}
	if err := os.RemoveAll(p.dir + "/web_1"); err != nil {
		t.Fatal(err)
	}
	if list, err := p.host.List(t.Context()); err != nil || len(list) != 1 || len(list[0].Missing) > 0 {
		t.Errorf("without the image the list is %+v, %v", list, err)
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

// TestCopyRefused: a copy takes the place of nothing that is not its own.
func TestCopyRefused(t *testing.T) {
	p := newPlace(t)
	p.base("host/etc/portables/web_1", "web.service")
	before := p.files()
	if _, err := p.host.Attach(t.Context(), p.mixed("web_1")); err == nil || !strings.Contains(err.Error(), "is no copy of it") {
		t.Errorf("copied over an image: %v", err)
	}
	if d := cmp.Diff(before, p.files()); d != "" {
		t.Errorf("the host is another:\n%s", d)
	}
}

// TestCopyOfCopy: what somebody made of a copy, with all attributes, is an image of his,
// which detach leaves.
func TestCopyOfCopy(t *testing.T) {
	p := newPlace(t)
	r := p.mixed("web_1")
	r.Runtime = true
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	his := p.dir + "/host/etc/portables"
	if out, err := exec.Command("cp", "-a", p.dir+"/host/run/portables", his).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: []string{"conf"}}); err != nil {
		t.Fatal(err)
	}
	r = p.request("host/etc/portables/web_1")
	r.Extensions = []string{his + "/conf"}
	if _, err := p.host.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: []string{"conf"}}); err != nil {
		t.Fatal(err)
	}
	if files := p.files(); !has(files, "/etc/portables/web_1/usr/lib/os-release") || !has(files, "/etc/portables/conf/etc/web.conf") {
		t.Errorf("his images are gone: %v", files)
	}
}

// TestCopyShared: two attachments have one copy of their base, which goes with the last.
func TestCopyShared(t *testing.T) {
	p := newPlace(t)
	first, second := p.mixed("web_1"), p.mixed("web_1")
	second.Extensions, second.Prefixes = nil, []string{"other"}
	for _, r := range []portable.Request{first, second} {
		if _, err := p.host.Attach(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: []string{"conf"}}); err != nil {
		t.Fatal(err)
	}
	if files := p.files(); !has(files, "/etc/portables/web_1/usr/lib/os-release") || has(files, "/etc/portables/conf/") {
		t.Errorf("after the first was detached: %v", files)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web"}); err != nil {
		t.Fatal(err)
	}
	if files := p.files(); has(files, "/etc/portables/web_1/") {
		t.Errorf("after both were detached: %v", files)
	}
}

// TestCopyReplaced: an image that has changed under its name is copied anew.
func TestCopyReplaced(t *testing.T) {
	p := newPlace(t)
	if _, err := p.host.Attach(t.Context(), p.mixed("web_1")); err != nil {
		t.Fatal(err)
	}
	p.write("web_1/usr/share/new", "new")
	p.asks.active = []string{"web.service"}
	r := p.mixed("web_1")
	if _, err := p.host.Reattach(t.Context(), r); err == nil || !strings.Contains(err.Error(), "--now") {
		t.Errorf("copied over what a service has as its root: %v", err)
	}
	r.Now = true
	if _, err := p.host.Reattach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if text := p.read("host/etc/portables/web_1/usr/share/new"); text != "new" {
		t.Errorf("the copy has %q", text)
	}
	// Without copies again, they stay as long as they are used; then there is a link in the
	// place of each.
	r.Copy, r.Now = "", false
	done, err := p.host.Reattach(t.Context(), r)
	if err != nil || len(done.Notes) != 2 || !has(p.files(), "/etc/portables/web_1/usr/share/new") {
		t.Errorf("%v: %q", err, done)
	}
	if _, err := p.host.Reattach(t.Context(), p.mixed("web_1")); err == nil || !strings.Contains(err.Error(), "--now") {
		t.Errorf("copied over what was left: %v", err)
	}
	r.Copy, r.Now = "mixed", true
	if _, err := p.host.Reattach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.Copy = ""
	if _, err := p.host.Reattach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if files := p.files(); files["/etc/portables/web_1"] != "-> "+p.dir+"/web_1" {
		t.Errorf("there is %v", files)
	}
}

// TestCopyInUse: detach leaves a copy that a service has as its root, and says so.
func TestCopyInUse(t *testing.T) {
	p := newPlace(t)
	if _, err := p.host.Attach(t.Context(), p.mixed("web_1")); err != nil {
		t.Fatal(err)
	}
	p.asks.active = []string{"web.service"}
	r := portable.Request{Base: "web", Extensions: []string{"conf"}, Force: true}
	done, err := p.host.Detach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(done.Notes, func(n string) bool { return strings.Contains(n, "/web_1\" stays") }) {
		t.Errorf("it says %q", done.Notes)
	}
	if !has(p.files(), "/etc/portables/web_1/usr/lib/os-release") {
		t.Error("the copy is gone")
	}
	// Under a unit's name that runs, or another one, nobody knows whether the service still does.
	shelf := p.dir + "/host/etc/portables"
	root := p.open(shelf + "/web_1")
	for _, tried := range []struct {
		do    string
		fails bool
	}{{"daemon-reload", true}, {"", false}} {
		p.asks.fail = tried.do
		again := p.mixed("web_1")
		again.Force = true
		done, err = p.host.Attach(t.Context(), again)
		if (err != nil) != tried.fails {
			t.Errorf("attached over the copy that was left: %v", err)
		}
		p.reads(root)
	}
	if n := len(done.Notes); n != 2 || !strings.Contains(done.Notes[0], "\" stays, since a service that was detached may run from it") {
		t.Errorf("it says %q", done.Notes)
	}
	p.asks.active = nil
	kept, err := filepath.Glob(shelf + "/.#extexec-kept-*")
	if err != nil || len(kept) != 1 {
		t.Fatalf("there is %q, %v", kept, err)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: []string{"conf"}}); err != nil {
		t.Fatal(err)
	}
	p.reads(root)
	// After a boot nobody has it any more.
	if err := os.Rename(kept[0], shelf+"/.#extexec-kept-0-x"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Attach(t.Context(), p.request("web_1")); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(shelf + "/.#*"); err != nil || len(left) > 0 {
		t.Errorf("left is %q, %v", left, err)
	}
}

// TestCopyInUseKilled: whenever the program is killed, no later call takes the copy away
// that a service still runs from, since it was not restarted yet.
func TestCopyInUseKilled(t *testing.T) {
	type killed struct{ at string }
	for _, next := range []string{"web_1", "web_2"} { // the same image, changed, and another one
		var points []string
		for n := 0; n == 0 || n <= len(points); n++ {
			p := newPlace(t)
			p.base("web_2", "web.service")
			if _, err := p.host.Attach(t.Context(), p.mixed("web_1")); err != nil {
				t.Fatal(err)
			}
			p.asks.active = []string{"web.service"}
			root := p.open(p.dir + "/host/etc/portables/web_1")
			at, seen := "", []string(nil)
			if n > 0 {
				at = points[n-1]
			}
			p.host.Hook = func(point string) error {
				if seen = append(seen, point); point == at {
					panic(killed{at})
				}
				return nil
			}
			again := p.mixed(next)
			again.Now = true
			func() {
				defer func() {
					if r := recover(); r != nil && r != (killed{at}) {
						panic(r)
					}
				}()
				if _, err := p.host.Reattach(t.Context(), again); err != nil {
					t.Errorf("%s: %v", at, err)
				}
			}()
			if n == 0 {
				points = seen[:slices.Index(seen, "before restart")+1]
				continue
			}
			p.host.Hook = nil
			other := portable.Request{Base: p.dir + "/web_2", Prefixes: []string{"other"}}
			p.base("web_2", "other.service")
			if _, err := p.host.Attach(t.Context(), other); err != nil {
				t.Errorf("%s: the next call: %v", at, err)
			}
			p.reads(root)
		}
	}
}

// open opens a directory as a service has it that runs from it.
func (p *place) open(dir string) *os.File {
	p.t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { f.Close() })
	return f
}

// reads checks that an image is whole for who has it open.
func (p *place) reads(root *os.File) {
	p.t.Helper()
	fd, err := unix.Openat(int(root.Fd()), "usr/lib/os-release", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		p.t.Errorf("what a service runs from is gone: %v", err)
		return
	}
	_ = unix.Close(fd)
}

// TestLongName: what has the longest name that a file can have is attached and detached.
func TestLongName(t *testing.T) {
	p := newPlace(t)
	name := "web_" + strings.Repeat("x", 251)
	if err := os.Rename(p.dir+"/web_1", p.dir+"/"+name); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Attach(t.Context(), p.request(name)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Detach(t.Context(), portable.Request{Base: "web", Extensions: []string{"conf"}}); err != nil {
		t.Fatal(err)
	}
	if files := p.files(); has(files, "/etc/portables/"+name) {
		t.Errorf("there is %v", files)
	}
}

// TestUmask: what is attached can be looked at by all, whatever the umask is.
func TestUmask(t *testing.T) {
	p := newPlace(t)
	defer unix.Umask(unix.Umask(0o077))
	if _, err := p.host.Attach(t.Context(), p.request("web_1")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{attachedDir, attachedDir + "/web.service.d", "/etc/portables"} {
		if st, err := os.Stat(p.dir + "/host" + name); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if st, err := os.Stat(p.dir + "/host" + attachedDir + "/web.service.d/20-portable.conf"); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("the drop-in: %v, %v", st.Mode(), err)
	}
}
