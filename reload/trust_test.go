package reload

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/unitfile/settings"
)

// TestUntrustedPath makes a directory on the way writable for everyone.
func TestUntrustedPath(t *testing.T) {
	b := newBed(t)
	b.start()
	b.install("2")
	if err := os.Chmod(b.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := b.reload(Options{})
	if err == nil || !strings.Contains(err.Error(), b.dir+"/conf.v") || !strings.Contains(err.Error(), "--allow-untrusted-path") {
		t.Errorf("error %v, want one that names the directory and the way out", err)
	}
	b.want("1")

	loose := newBed(t)
	loose.loose = true
	loose.start()
	loose.install("2")
	if err := os.Chmod(loose.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := loose.reload(Options{}); err != nil {
		t.Error(err)
	}
	loose.want("2")
}

// TestUntrustedFallback: what another user could have replaced is not started with
// either, where the version that is picked fails its check.
func TestUntrustedFallback(t *testing.T) {
	b := newBed(t)
	b.start()
	b.svc.Stop()
	b.extension("new", "2", map[string]string{"etc/extension-release.d/extension-release.new": "ID=_any\n"})
	b.unit = b.dir + "/bed.service"
	text := "[Service]\nExecStart=/bin/true\n[X-Extexec]\nReloadCheck=/bin/false\nExtensionDirectories=" + b.dir + "/new.v\n"
	if err := os.WriteFile(b.unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	o := b.options()
	cmd := child{Run: &o}.command(t)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), b.dir+"/conf.v") || !strings.Contains(string(out), "chmod go-w") {
		t.Errorf("%v: %s, want an error that names the directory", err, out)
	}
}

// TestUntrustedRecorded: what is on record goes live again neither by a repair nor
// where an interrupted reload is put right, once another user could have replaced it.
func TestUntrustedRecorded(t *testing.T) {
	b := newBed(t)
	b.start()
	open := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(b.dir+"/conf.v", mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.svc.Unmount("/etc"); err != nil {
		t.Fatal(err)
	}
	open(0o777)
	all := b.repair(false)
	if len(all) != 1 || all[0].Done || !strings.Contains(all[0].Error, b.dir+"/conf.v") || !strings.Contains(all[0].Error, "chmod go-w") {
		t.Errorf("repair: %+v", all)
	}
	if got := b.svc.Read("/etc/extexec-test"); got == "1" {
		t.Error("it is live again")
	}
	open(0o755)
	if all := b.repair(false); len(all) != 1 || !all[0].Done {
		t.Errorf("repair of what is root's: %+v", all)
	}
	b.want("1")

	b.kill("after exchange")
	b.want("3")
	open(0o777)
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != Broken || !strings.Contains(err.Error(), "put the last committed generation back") || strings.Count(err.Error(), "chmod go-w") != 2 {
		t.Errorf("reload: %v, want one that says that neither will do", err)
	}
	b.want("3")
	open(0o755)
	if _, err := b.reload(Options{}); err != nil {
		t.Error(err)
	}
	b.want("3")
	b.whole()

	loose := newBed(t)
	loose.loose = true
	loose.start()
	if err := loose.svc.Unmount("/etc"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose.dir+"/conf.v", 0o777); err != nil {
		t.Fatal(err)
	}
	if all := loose.repair(false); len(all) != 1 || !all[0].Done {
		t.Errorf("repair of what is taken wherever it lies: %+v", all)
	}
	loose.want("1")
}

// TestNotJudgedIsNotAllowed: an image that is live, and not opened again because it
// has not changed, cannot be told to be signed where what lies beside it makes no
// sense.
func TestNotJudgedIsNotAllowed(t *testing.T) {
	nsmounttest.Root(t)
	web := t.TempDir() + "/web"
	for _, suffix := range []string{".raw", ".roothash.p7s"} {
		if err := os.WriteFile(web+suffix, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := settings.Default()
	s.RequireSignature = true
	err := allowed(s, &extension.Picked{Kind: settings.Image, Path: web + ".raw"})
	if err == nil || !strings.Contains(err.Error(), web+".roothash.p7s") {
		t.Errorf("error %v, want one that names the signature", err)
	}
}

// TestHierarchyIsDropped takes a hierarchy out of Hierarchies=: it loses its
// overlay at the next reload, and the others keep theirs.
func TestHierarchyIsDropped(t *testing.T) {
	b := newBed(t)
	b.write("")
	b.start()
	b.write("Hierarchies=/usr /etc")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	if m := b.svc.Table(" /opt "); len(m) != 0 {
		t.Errorf("/opt still has %q", m)
	}
	for _, h := range []string{"/usr", "/etc"} {
		if got := b.svc.Read(h + "/extexec-test"); got != "1" {
			t.Errorf("%s shows %q", h, got)
		}
	}
	res, err := b.reload(Options{IfChanged: true})
	if err != nil || res.Exchanged {
		t.Errorf("the next reload: %+v, %v; want nothing to do", res, err)
	}
	b.write("Hierarchies=/usr /etc/ssl")
	if _, err := b.reload(Options{}); err == nil || !strings.Contains(err.Error(), "restart the service") {
		t.Errorf("a hierarchy within another: %v", err)
	}
}

// TestLinkPointsElsewhere has a hierarchy that is a link, and points elsewhere later: the
// overlay moves there, what is mounted below the old place stays hidden, and a reload
// that is taken back leaves everything at the old place.
func TestLinkPointsElsewhere(t *testing.T) {
	b := newBed(t)
	if err := nsmounttest.Mount("tmpfs", "/opt", "tmpfs", 0); err != nil {
		t.Fatal(err)
	}
	nsmounttest.Unmount(t, "/opt")
	link := func(to string) {
		t.Helper()
		for _, err := range []error{os.MkdirAll("/opt/"+to+"/dir", 0o755), os.WriteFile("/opt/"+to+"/base", []byte(to), 0o644), os.Symlink(to, "/opt/new"), os.Rename("/opt/new", "/opt/link")} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	ship := func(version string) {
		b.extension("sys", version, map[string]string{"usr/lib/extension-release.d/extension-release.sys": "ID=_any\n", "opt/link/version": version})
	}
	want := func(pairs ...string) {
		t.Helper()
		for _, p := range pairs {
			path, text, _ := strings.Cut(p, "=")
			if got := b.svc.Read("/opt/" + path); !strings.HasPrefix(got, text) {
				t.Errorf("/opt/%s reads %q, want %q", path, got, text)
			}
		}
	}
	places := func(places ...string) {
		t.Helper()
		var got []string
		for _, m := range b.svc.Table("overlay extexec:") {
			got = append(got, strings.Fields(m)[4])
		}
		slices.Sort(got)
		if d := cmp.Diff(places, slices.Compact(got)); d != "" {
			t.Errorf("the overlays are on (-want +got):\n%s", d)
		}
	}
	link("a")
	ship("2")
	b.write("Hierarchies=/opt/link")
	b.start()
	want("link/version=2", "a/version=2")

	link("b")
	ship("3")
	_, err := b.reload(Options{Hook: func(point string) error {
		if point == "after exchange" {
			want("link/version=3", "b/version=3", "a/version=error: ", "a/base=a")
			return errors.New("taken back")
		}
		return nil
	}})
	if err == nil || !strings.Contains(err.Error(), "taken back") {
		t.Fatal(err)
	}
	want("a/version=2", "b/version=error: ")
	places("/opt/a")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	want("link/version=3", "b/version=3", "a/version=error: ", "a/base=a")
	places("/opt/b")
	if res, err := b.reload(Options{IfChanged: true}); err != nil || res.Exchanged {
		t.Errorf("nothing has changed: %+v, %v", res, err)
	}

	// With a mount of the unit's below it, an empty layer stays at the old place.
	b.svc.Mount(b.dir, "/opt/b/dir", "", unix.MS_BIND, "")
	link("c")
	for _, version := range []string{"4", "5"} {
		ship(version)
		if _, err := b.reload(Options{}); err != nil {
			t.Fatal(err)
		}
		want("link/version="+version, "c/version="+version, "b/version=error: ", "b/base=b", "b/dir/bed.service=[Service]")
		places("/opt/b", "/opt/c")
	}
}

// TestApplyFailsBothWays has a ReloadCommand= that never works: the old state is
// back all the same, and that the service was not told so is said.
func TestApplyFailsBothWays(t *testing.T) {
	b := newBed(t)
	b.write("ReloadCommand=/bin/false")
	b.start()
	b.install("2")
	_, err := b.reload(Options{})
	var f *Failure
	if !errors.As(err, &f) || f.Left != TakenBack || f.Untold == nil {
		t.Errorf("error %v, want one that says taken back, and untold", err)
	}
	b.want("1")
	b.whole()
}

// TestSourceRemoved says that a mount whose source is gone is carried as a copy.
func TestSourceRemoved(t *testing.T) {
	b := newBed(t)
	b.start()
	source := b.dir + "/source"
	if err := os.WriteFile(source, []byte("mounted"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.svc.Mount(source, "/etc/extexec-test", "", unix.MS_BIND, "")
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	b.install("2")
	res, err := b.reload(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.sees(); got != "2 2 mounted" {
		t.Errorf("the service sees %q", got)
	}
	if !slices.ContainsFunc(res.Warnings, func(w string) bool {
		return strings.Contains(w, `"/etc/extexec-test"`) && strings.Contains(w, "is a copy")
	}) {
		t.Errorf("warnings %q, want one of the copy", res.Warnings)
	}
}

// TestLeftOutAgain leaves out the same bad extension twice: the second time nothing
// has changed.
func TestLeftOutAgain(t *testing.T) {
	b := newBed(t)
	b.write("OnBadExtension=skip")
	b.start()
	b.extension("conf", "2", map[string]string{"etc/extension-release.d/extension-release.conf": "ID=other\n"})
	for i, exchanged := range []bool{true, false, false} {
		res, err := b.reload(Options{IfChanged: true})
		if err != nil {
			t.Fatal(err)
		}
		if res.Exchanged != exchanged || res.Generation.Number != 2 {
			t.Errorf("reload %d: exchanged %v, generation %d", i+1, res.Exchanged, res.Generation.Number)
		}
		if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "left out") }) {
			t.Errorf("reload %d: warnings %q, want one of what is left out", i+1, res.Warnings)
		}
		if p := b.plan(PlanOptions{Options: Options{IfChanged: true}}); p.Action != NoAction || p.Changes() || p.Refs[0].State != RefNothing {
			t.Errorf("the plan after reload %d: %+v", i+1, p)
		}
	}
}
