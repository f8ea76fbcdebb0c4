package image_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
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

// TestHostileAttributes has a signed image with the attributes by which an overlay would lead lookups to another place, in
// itself or beneath: none is followed. One that says that a directory hides what is beneath is what a layer may say.
func TestHostileAttributes(t *testing.T) {
	setUp(t)
	gpttest.Tool(t, "mksquashfs")
	src, base := dir(t), dir(t)
	// A tmpfs takes the attributes as they are; an overlay would keep them for itself.
	if err := nsmounttest.Mount("tmpfs", src, "tmpfs", 0); err != nil {
		t.Fatal(err)
	}
	nsmounttest.Unmount(t, src)
	for _, path := range []string{
		src + "/moved/own", src + "/linked/own", src + "/hides/own", src + "/copy", src + "/lower", src + "/odd", src + "/secret/inner",
		base + "/moved/below", base + "/hides/below", base + "/copy", base + "/lower", base + "/secret/below",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(path), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for path, attributes := range map[string]map[string]string{
		"moved":  {"trusted.overlay.redirect": "/secret"},
		"linked": {"trusted.overlay.redirect": "secret"},
		"copy":   {"trusted.overlay.metacopy": "", "trusted.overlay.redirect": "/secret/below"},
		"lower":  {"trusted.overlay.metacopy": ""},
		"odd":    {"trusted.overlay.origin": "garbage", "trusted.overlay.nlink": "garbage", "trusted.overlay.uuid": "garbage"},
		"hides":  {"trusted.overlay.opaque": "y"},
	} {
		for name, value := range attributes {
			if err := unix.Setxattr(filepath.Join(src, path), name, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	raw := filepath.Join(dir(t), "hostile.raw")
	run(t, "mksquashfs", src, raw, "-quiet", "-no-progress")
	a := newAuthority(t, nil)
	p := protect(t, content(t, raw))
	path, o := p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)}), withPolicy(t, trusting(a), "root=signed")
	for _, limits := range []nsmount.Limits{nsmount.Probe(), {NoLowerdir: true}} {
		i := mustOpen(t, path, o)
		throughOverlay(t, i, base, limits, map[string]error{
			"moved/own": unix.EPERM, "moved/inner": unix.EPERM, "moved/below": unix.EPERM, "linked/own": unix.EPERM, "linked/inner": unix.EPERM,
			"copy": unix.EPERM, "lower": unix.EPERM, "odd": nil, "hides/own": nil, "hides/below": unix.ENOENT, "secret/below": nil,
		})
		closeImage(t, i)
	}
}

// throughOverlay opens files of an overlay of the image over a directory.
func throughOverlay(t *testing.T, i *image.Image, base string, limits nsmount.Limits, want map[string]error) {
	t.Helper()
	layer, err := i.Dir("/")
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	d, err := os.OpenFile(base, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tree, err := nsmount.CloneDir(d, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	below, err := tree.OpenDir(".")
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	scratch, err := nsmount.NewScratch(limits)
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	err = scratch.Do(t.Context(), func() error {
		o, err := scratch.MountOverlay(nsmount.Overlay{Source: "test", Layers: []*os.File{layer}, Base: below}, append(i.Trees(), tree))
		if err != nil {
			return err
		}
		for path, want := range want {
			f, err := o.OpenFile(path, os.O_RDONLY)
			if err == nil {
				err = f.Close()
			}
			if !errors.Is(err, want) {
				t.Errorf("%s (%+v): %v, want %v", path, limits, err, want)
			}
		}
		return o.Close()
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBtrfsNamesake has a device that has the UUID of a btrfs image and was written later, and that the kernel was shown,
// as udev does with each that appears: it never takes the image's place, signed or not.
func TestBtrfsNamesake(t *testing.T) {
	setUp(t)
	gpttest.Tool(t, "mkfs.btrfs")
	build := func(text string) string {
		t.Helper()
		src, path := dir(t), filepath.Join(dir(t), text)
		if err := errors.Join(os.WriteFile(filepath.Join(src, "hello"), []byte(text), 0o644), os.WriteFile(path, nil, 0o600), os.Truncate(path, 32<<20)); err != nil {
			t.Fatal(err)
		}
		run(t, "mkfs.btrfs", "-q", "-M", "-U", "11111111-2222-3333-4444-555555555555", "-r", src, path)
		return path
	}
	good, namesake, at := content(t, build("hello")), build("namesake"), dir(t)
	dev := losetup(t, namesake)
	for n := range 10 {
		run(t, "mount", dev, at)
		err := os.WriteFile(filepath.Join(at, fmt.Sprint(n)), nil, 0o600)
		run(t, "umount", at)
		if err != nil {
			t.Fatal(err)
		}
	}
	// One that the kernel has mounted, it has forgotten.
	t.Cleanup(func() { _ = exec.Command("btrfs", "device", "scan", "--forget", dev).Run() })
	a := newAuthority(t, nil)
	p := protect(t, good)
	for name, path := range map[string]string{
		"plain": write(t, map[string][]byte{"": good}), "signed": p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)}),
	} {
		run(t, "btrfs", "device", "scan", dev)
		i, err := openPath(t, path, trusting(a))
		if _, none := os.Stat("/sys/fs/btrfs/features/temp_fsid"); none != nil {
			checkError(t, name, err, "any device with the UUID of its btrfs", "squashfs or erofs")
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := read(t, i, "/hello"); got != "hello" {
			t.Errorf("%s: it shows %q", name, got)
		}
		closeImage(t, i)
	}
}
