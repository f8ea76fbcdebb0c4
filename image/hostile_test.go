package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/gpt/gpttest"
)

// TestHostileContent has a signed image with what no image should have. A signature says who made it, not that it does
// no harm: device nodes do nothing, and no lookup leaves the image.
func TestHostileContent(t *testing.T) {
	setUp(t)
	gpttest.Tool(t, "mksquashfs")
	src := source(t, "")
	if err := errors.Join(os.Rename(filepath.Join(src, "usr"), filepath.Join(src, "real")), os.Symlink("/usr", filepath.Join(src, "usr")),
		os.RemoveAll(filepath.Join(src, "etc")), os.Symlink("/etc", filepath.Join(src, "etc")), os.Symlink("../../../etc", filepath.Join(src, "up"))); err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(dir(t), "hostile.raw")
	run(t, "mksquashfs", src, raw, "-quiet", "-no-progress", "-p", "real/null c 666 0 0 1 3", "-p", "real/disk b 666 0 0 7 0")
	a := newAuthority(t, nil)
	p := protect(t, content(t, raw))
	o := withPolicy(t, trusting(a), "root=signed")
	i := mustOpen(t, p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)}), o)
	defer closeImage(t, i)
	for _, link := range []string{"/usr", "/etc", "/up", "/usr/lib"} {
		if d, err := i.Dir(link); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v, %v, want ELOOP", link, d, err)
		}
	}
	for _, node := range []string{"real/null", "real/disk"} {
		if err := tryRead(t, i, node); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v, want EACCES", node, err)
		}
	}
	if err := tryRead(t, i, "real/hello"); err != nil {
		t.Error(err)
	}
}
