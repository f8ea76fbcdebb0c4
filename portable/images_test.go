package portable_test

import (
	"os"
	"os/exec"
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
	p.asks.active = nil
	if _, err := p.host.Attach(t.Context(), p.mixed("web_1")); err != nil {
		t.Errorf("attached over the copy that was left: %v", err)
	}
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
