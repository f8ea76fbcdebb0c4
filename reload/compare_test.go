package reload

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/unitfile/settings"
)

func TestCompare(t *testing.T) {
	pick := func(kind settings.Kind, path, identity string) *extension.Picked {
		return &extension.Picked{Ref: settings.Ref{Kind: kind, Path: "/x.v"}, Kind: kind, Path: path, Identity: identity}
	}
	image := func(v string) *extension.Picked { return pick(settings.Image, "/x.v/x_"+v+".raw", "file:"+v) }
	dir := func(v string) *extension.Picked { return pick(settings.Directory, "/x.v/x_"+v, "dir:"+v) }
	over := image("1")
	over.Changed = "2.0"
	was := image("1")
	was.Changed = "1.0"
	renamed := *over
	renamed.Path = "/x.v/x_1+3.raw"
	for _, c := range []struct {
		name      string
		had, have []*extension.Picked
		want      Difference
	}{
		{"the same", []*extension.Picked{image("1"), dir("1")}, []*extension.Picked{image("1"), dir("1")}, Difference{}},
		{"the image of one directory for both", []*extension.Picked{image("1"), dir("1")}, []*extension.Picked{image("2"), dir("1")}, Difference{Changed: []string{"/x.v/x_2.raw"}}},
		{"added", []*extension.Picked{dir("1")}, []*extension.Picked{image("1"), dir("1")}, Difference{Added: []string{"/x.v/x_1.raw"}}},
		{"removed", []*extension.Picked{image("1"), dir("1")}, []*extension.Picked{dir("1")}, Difference{Removed: []string{"/x.v/x_1.raw"}}},
		{"reordered", []*extension.Picked{image("1"), dir("1")}, []*extension.Picked{dir("1"), image("1")}, Difference{Reordered: true}},
		{"written over in place", []*extension.Picked{was}, []*extension.Picked{over}, Difference{Changed: []string{"/x.v/x_1.raw"}}},
		{"renamed", []*extension.Picked{was}, []*extension.Picked{&renamed}, Difference{}},
		{"not known when it was changed", []*extension.Picked{image("1")}, []*extension.Picked{over}, Difference{}},
	} {
		got := Compare(state.Generation{Extensions: attemptOf(c.had)}, c.have)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestOneDirectoryForBoth: an image and a directory are picked from one ".v/". Nothing
// has changed where neither has, and a rollback holds each by itself.
func TestOneDirectoryForBoth(t *testing.T) {
	b := newBed(t)
	top := b.dir + "/tree"
	file := top + "/usr/lib/extension-release.d/extension-release.conf"
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("ID=_any\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := func(version string) {
		t.Helper()
		if err := os.WriteFile(top+"/usr/extexec-image", []byte(version), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs.erofs", "--quiet", b.dir+"/new.raw", top).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.erofs: %v: %s", err, out)
		}
		if err := os.Rename(b.dir+"/new.raw", b.dir+"/conf.v/conf_"+version+".raw"); err != nil {
			t.Fatal(err)
		}
	}
	want := func(image string) {
		t.Helper()
		b.want("1")
		if got := b.svc.Read("/usr/extexec-image"); got != image {
			t.Errorf("the service sees the image %q, want %q", got, image)
		}
	}
	b.write("ExtensionImages=" + b.dir + "/conf.v")
	image("1")
	b.start()
	if res, err := b.reload(Options{IfChanged: true}); err != nil || res.Exchanged {
		t.Errorf("nothing has changed: %+v, %v", res, err)
	}
	image("2")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	want("2")
	if _, err := b.rollback(0, Options{}); err != nil {
		t.Fatal(err)
	}
	want("1")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	want("1")
	image("3")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	want("3")
}
