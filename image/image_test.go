package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

const (
	release = "/usr/lib/extension-release.d/extension-release.web"
	hello   = "hello from the image\n"
)

// Partition types.
const (
	rootX86    = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	usrX86     = "8484680c-9521-48c6-9c11-b0720656f69e"
	rootARM    = "b921b045-1df0-41c3-af44-4c6f280d3fae"
	usrARM     = "b0e01050-ee5f-4390-949a-9101b17104e9"
	verityX86  = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"
	veritySig  = "41092b05-9fc8-4523-994f-2def0408b176"
	usrVerity  = "77ff5f63-e7b6-4633-acf4-1565b864c0e6"
	generic    = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	esp        = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	homeType   = "933ac7e1-2eb4-4f13-b844-0e14e2aef915"
	noAuto     = uint64(1) << 63
	compressed = 1 << 20 // bytes of the file that makes compression worth while
)

// The start-up thread would be parked for ever in a scratch namespace, if a namespace's goroutine came to end on it.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { nsmounttest.Main(m) }

// setUp makes a test one that needs root, and fails it if it leaves a loop device behind.
func setUp(t *testing.T) {
	t.Helper()
	nsmounttest.Root(t)
	t.Cleanup(func() {
		// A scratch namespace goes with its thread, some time after Close has returned.
		eventually(t, "loop devices left behind", func() bool { return len(loops(t)) == 0 })
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: %q, %q", what, loops(t), devices(t))
			return
		}
	}
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

// loops lists the files that loop devices show, as far as they are tests' of this package.
func loops(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) { // It has just gone.
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.TrimSpace(string(data)); strings.Contains(f, "ImageTest") {
			files = append(files, f)
		}
	}
	return files
}

// dir is a temporary directory whose name says which package's it is.
func dir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "ImageTest") //nolint:usetesting // loops knows this package by the name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	return d
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// source makes the tree that goes into images; below says which part of it: "" or "usr".
func source(t testing.TB, below string) string {
	t.Helper()
	d := dir(t)
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		release:         "ID=_any\n",
		"/usr/hello":    hello,
		"/usr/big":      strings.Repeat("all work and no play\n", compressed/21),
		"/usr/noise":    string(noise(300 << 10)),
		"/etc/web.conf": "listen 80\n",
		"/opt/web/file": "opt\n",
	} {
		path := filepath.Join(d, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(d, "usr/escape")); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(d, below)
}

// maker says how to make an image: IMAGE and SOURCE stand for the paths. size is that of the file before.
type maker struct {
	name, fsType string
	size         int64
	argv         []string
}

var makers = []maker{
	{"squashfs-gzip", "squashfs", 0, []string{"mksquashfs", "SOURCE", "IMAGE", "-quiet", "-no-progress", "-comp", "gzip"}},
	{"squashfs-xz", "squashfs", 0, []string{"mksquashfs", "SOURCE", "IMAGE", "-quiet", "-no-progress", "-comp", "xz"}},
	{"squashfs-zstd", "squashfs", 0, []string{"mksquashfs", "SOURCE", "IMAGE", "-quiet", "-no-progress", "-comp", "zstd"}},
	{"squashfs-lz4", "squashfs", 0, []string{"mksquashfs", "SOURCE", "IMAGE", "-quiet", "-no-progress", "-comp", "lz4"}},
	{"squashfs-lzo", "squashfs", 0, []string{"mksquashfs", "SOURCE", "IMAGE", "-quiet", "-no-progress", "-comp", "lzo"}},
	{"erofs", "erofs", 0, []string{"mkfs.erofs", "-d0", "IMAGE", "SOURCE"}},
	{"erofs-lz4", "erofs", 0, []string{"mkfs.erofs", "-d0", "-zlz4", "IMAGE", "SOURCE"}},
	{"erofs-lz4hc", "erofs", 0, []string{"mkfs.erofs", "-d0", "-zlz4hc", "IMAGE", "SOURCE"}},
	{"erofs-lzma", "erofs", 0, []string{"mkfs.erofs", "-d0", "-zlzma", "IMAGE", "SOURCE"}},
	{"erofs-deflate", "erofs", 0, []string{"mkfs.erofs", "-d0", "-zdeflate", "IMAGE", "SOURCE"}},
	{"erofs-zstd", "erofs", 0, []string{"mkfs.erofs", "-d0", "-zzstd", "IMAGE", "SOURCE"}},
	{"ext4", "ext4", 8 << 20, []string{"mkfs.ext4", "-q", "-b", "4096", "-d", "SOURCE", "IMAGE"}},
	{"ext4-nojournal", "ext4", 8 << 20, []string{"mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", "-d", "SOURCE", "IMAGE"}},
	{"ext4-dirty", "ext4", 8 << 20, []string{"sh", "-c", "mkfs.ext4 -q -b 4096 -d SOURCE IMAGE && debugfs -w -R 'feature needs_recovery' IMAGE"}},
	{"btrfs", "btrfs", 120 << 20, []string{"mkfs.btrfs", "-q", "-M", "-r", "SOURCE", "IMAGE"}},
	// mkfs.xfs takes a prototype: mode and owner, then the entries; IMAGE.proto is written by make.
	{"xfs", "xfs", 320 << 20, []string{"mkfs.xfs", "-q", "-p", "IMAGE.proto", "IMAGE"}},
}

func makerNamed(t testing.TB, name string) maker {
	t.Helper()
	for _, m := range makers {
		if m.name == name {
			return m
		}
	}
	t.Fatalf("no maker %q", name)
	return maker{}
}

// known says whether the tool has the compressor: for mkfs.erofs that is a matter of how it was built.
func (m maker) known(t *testing.T) bool {
	t.Helper()
	_, compressor, ok := strings.Cut(m.name, "erofs-")
	if !ok {
		return true
	}
	d := dir(t)
	return exec.Command("mkfs.erofs", "-z"+compressor, filepath.Join(d, "image"), d).Run() == nil
}

// make makes the image and gives its path.
func (m maker) make(t testing.TB, src string) string {
	t.Helper()
	gpttest.Tool(t, m.argv[0])
	path := filepath.Join(dir(t), m.name+".raw")
	if m.size > 0 {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, m.size)); err != nil {
			t.Fatal(err)
		}
	}
	if m.fsType == "xfs" {
		if err := os.WriteFile(path+".proto", []byte(prototype(t, src)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := strings.NewReplacer("IMAGE", path, "SOURCE", src)
	var argv []string
	for _, a := range m.argv {
		argv = append(argv, r.Replace(a))
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return path
}

// prototype describes a tree for mkfs.xfs -p, without noise and big: xfs has no compression to try.
func prototype(t testing.TB, src string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("/\n0 0\n")
	var walk func(d string)
	walk = func(d string) {
		b.WriteString("d--755 0 0\n")
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(d, e.Name())
			switch {
			case e.IsDir():
				b.WriteString(e.Name() + " ")
				walk(path)
			case e.Type() == 0:
				fmt.Fprintf(&b, "%s ---644 0 0 %s\n", e.Name(), path)
			}
		}
		b.WriteString("$\n")
	}
	walk(src)
	return b.String()
}

// partitioned makes a disk image.
func partitioned(t testing.TB, sectorSize int, ps ...gpttest.Partition) string {
	t.Helper()
	path := filepath.Join(dir(t), "disk.raw")
	if err := os.WriteFile(path, gpttest.Image{SectorSize: sectorSize, Partitions: ps}.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var open = image.Options{Policy: policy.Default()}

func openPath(t testing.TB, path string, o image.Options) (*image.Image, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // Open does not need it any more
	return image.Open(context.Background(), f, path, o)
}

func mustOpen(t testing.TB, path string, o image.Options) *image.Image {
	t.Helper()
	i, err := openPath(t, path, o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// read reads a file of the image in the two ways that it is looked at: through Dir, and in the whole tree.
func read(t testing.TB, i *image.Image, abs string) string {
	t.Helper()
	d, err := i.Dir(filepath.Dir(abs))
	if err != nil {
		t.Errorf("dir of %s: %v", abs, err)
		return ""
	}
	defer d.Close()
	fd, err := unix.Openat(int(d.Fd()), filepath.Base(abs), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Errorf("open %s: %v", abs, err)
		return ""
	}
	f := os.NewFile(uintptr(fd), abs)
	defer f.Close()
	g, err := i.Tree.OpenFile(strings.TrimPrefix(abs, "/"), os.O_RDONLY)
	if err != nil {
		t.Errorf("open %s in the tree: %v", abs, err)
		return ""
	}
	defer g.Close()
	a, aerr := io.ReadAll(f)
	b, berr := io.ReadAll(g)
	if aerr != nil || berr != nil || !bytes.Equal(a, b) {
		t.Errorf("%s: %v, %v, equal %v", abs, aerr, berr, bytes.Equal(a, b))
	}
	return string(a)
}

// checkUsr checks everything that is to be had below /usr, that it is read-only, and that it makes a layer.
func checkUsr(t testing.TB, i *image.Image) {
	t.Helper()
	checkContent(t, i)
	d, err := i.Dir("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	checkLayer(t, d)
}

// checkContent is checkUsr for kernels that take layers in another way (before Linux 6.7).
func checkContent(t testing.TB, i *image.Image) {
	t.Helper()
	if got := read(t, i, "/usr/hello"); got != hello {
		t.Errorf("hello: %q", got)
	}
	if got := read(t, i, release); got != "ID=_any\n" {
		t.Errorf("release: %q", got)
	}
	if got := read(t, i, "/usr/big"); len(got) != compressed/21*21 || !strings.HasSuffix(got, "no play\n") {
		t.Errorf("big: %d bytes", len(got))
	}
	if got := read(t, i, "/usr/noise"); got != string(noise(300<<10)) {
		t.Errorf("noise: %d bytes", len(got))
	}
	if d, err := i.Dir("/usr/escape"); err == nil {
		_ = d.Close()
		t.Error("a symbolic link was followed")
	}
	d, err := i.Dir("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	checkMount(t, d)
}

func checkMount(t testing.TB, d *os.File) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV
	if st.Flags&want != want {
		t.Errorf("mount flags are %#x", st.Flags)
	}
	err := unix.Mkdirat(int(d.Fd()), "new", 0o755)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("mkdir: %v, want EROFS", err)
	}
}

// checkLayer makes an overlay of the directory.
func checkLayer(t testing.TB, d *os.File) {
	t.Helper()
	base, err := nsmount.EmptyTree()
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	root, err := base.OpenDir(".")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	o, err := nsmount.MountOverlay(nsmount.Overlay{Source: "test", Layers: []*os.File{d}, Base: root})
	if err != nil {
		t.Errorf("as a layer: %v", err)
		return
	}
	defer o.Close()
	f, err := o.OpenFile("hello", os.O_RDONLY)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != hello {
		t.Errorf("through the overlay: %q, %v", got, err)
	}
}

func closeImage(t testing.TB, i *image.Image) {
	t.Helper()
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

// TestBare mounts every kind of bare image, twice at once, together with a twin that has the same UUID, and shows that
// not a byte of it changes.
func TestBare(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	for _, m := range makers {
		if !m.known(t) {
			t.Logf("mkfs.erofs was built without the compressor of %s", m.name)
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			setUp(t)
			path := m.make(t, source(t, ""))
			before := sha256.Sum256(content(t, path))
			twin := filepath.Join(dir(t), "twin.raw")
			if out, err := exec.Command("cp", "--sparse=always", path, twin).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v: %s", err, out)
			}
			a, b, c := mustOpen(t, path, open), mustOpen(t, path, open), mustOpen(t, twin, open)
			for _, i := range []*image.Image{a, b, c} {
				checkUsr(t, i)
				if got := read(t, i, "/etc/web.conf"); got != "listen 80\n" {
					t.Errorf("conf: %q", got)
				}
				want := image.Info{Format: "bare", FSType: m.fsType, Backing: "loop"}
				if m.fsType == "erofs" {
					want.Backing = "file"
				}
				if !reflect.DeepEqual(i.Info, want) {
					t.Errorf("info: %+v, want %+v", i.Info, want)
				}
				closeImage(t, i)
			}
			if sha256.Sum256(content(t, path)) != before {
				t.Error("the image changed")
			}
		})
	}
}

// TestDisk mounts partitions: root, usr, and both, in sectors of 512 and 4096 bytes.
func TestDisk(t *testing.T) {
	setUp(t)
	parts := map[string][]byte{}
	usrParts := map[string][]byte{}
	for _, name := range []string{"squashfs-zstd", "erofs-lz4", "ext4"} {
		m := makerNamed(t, name)
		parts[name] = content(t, m.make(t, source(t, "")))
		usrParts[name] = content(t, m.make(t, source(t, "usr")))
	}
	for _, ss := range []int{512, 4096} {
		for name := range parts {
			root := gpttest.Partition{Type: rootX86, Label: "web_1", Data: parts[name], Attrs: 1 << 60}
			usr := gpttest.Partition{Type: usrX86, Label: "web-usr", Data: usrParts[name]}
			other := gpttest.Partition{Type: homeType, Data: []byte("home")}
			for what, ps := range map[string][]gpttest.Partition{
				"root": {other, root}, "usr": {usr, other}, "both": {usr, root},
				"no-auto": {{Type: rootX86, Attrs: noAuto, Data: noise(10)}, root},
				"empty":   {{Type: rootX86, Label: "_empty", Data: noise(10)}, root},
			} {
				t.Run(fmt.Sprintf("%d/%s/%s", ss, name, what), func(t *testing.T) {
					setUp(t)
					i := mustOpen(t, partitioned(t, ss, ps...), open)
					defer closeImage(t, i)
					checkUsr(t, i)
					want := image.Info{Format: "gpt", FSType: strings.Split(name, "-")[0], Backing: "loop", Arch: "x86-64", Label: "web_1"}
					if what == "usr" {
						want.Label = "web-usr"
					}
					if !reflect.DeepEqual(i.Info, want) {
						t.Errorf("info: %+v, want %+v", i.Info, want)
					}
					opt, err := i.Dir("/opt")
					if err == nil {
						_ = opt.Close()
					}
					if gone := errors.Is(err, fs.ErrNotExist); gone != (what == "usr") {
						t.Errorf("/opt: %v", err)
					}
				})
			}
		}
	}
}

// TestUsrHidesUsr shows that the usr partition wins over what the root partition has there.
func TestUsrHidesUsr(t *testing.T) {
	setUp(t)
	m := makerNamed(t, "squashfs-gzip")
	src := source(t, "")
	if err := os.WriteFile(filepath.Join(src, "usr/hello"), []byte("of the root partition"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := mustOpen(t, partitioned(t, 512,
		gpttest.Partition{Type: rootX86, Data: content(t, m.make(t, src))},
		gpttest.Partition{Type: usrX86, Data: content(t, m.make(t, source(t, "usr")))}), open)
	defer closeImage(t, i)
	checkUsr(t, i)
}

// TestTrees makes an overlay in the way of kernels before 6.15: of trees that are attached. (Later ones would take the
// layers without; that every tree is needed shows on the old ones only.)
func TestTrees(t *testing.T) {
	setUp(t)
	m := makerNamed(t, "squashfs-gzip")
	i := mustOpen(t, partitioned(t, 512,
		gpttest.Partition{Type: rootX86, Data: content(t, m.make(t, source(t, "")))},
		gpttest.Partition{Type: usrX86, Data: content(t, m.make(t, source(t, "usr")))}), open)
	defer closeImage(t, i)
	layer, err := i.Dir("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	etc, err := i.Dir("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer etc.Close()
	scratch, err := nsmount.NewScratch(nsmount.Limits{NoLowerdir: true})
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	err = scratch.Do(t.Context(), func() error {
		o, err := scratch.MountOverlay(nsmount.Overlay{Source: "test", Layers: []*os.File{layer}, Base: etc}, i.Trees())
		if err != nil {
			return err
		}
		f, err := o.OpenFile("hello", os.O_RDONLY)
		if err == nil {
			err = f.Close()
		}
		return errors.Join(err, o.Close())
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBackings shows where erofs does without a loop device, and that it takes one where it must.
func TestBackings(t *testing.T) {
	setUp(t)
	path := makerNamed(t, "erofs").make(t, source(t, ""))
	i := mustOpen(t, path, open)
	if got := loops(t); i.Info.Backing != "file" || len(got) != 0 {
		t.Errorf("on disk: %+v, loops %q", i.Info, got)
	}
	closeImage(t, i)

	tmp, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs"})
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	onTmp := tmp.Path() + "/ImageTest.raw"
	if err := os.WriteFile(onTmp, content(t, path), 0o600); err != nil {
		t.Fatal(err)
	}
	i = mustOpen(t, onTmp, open)
	checkUsr(t, i)
	if i.Info.Backing != "loop" {
		t.Errorf("on tmpfs: %+v", i.Info)
	}
	closeImage(t, i)
}

// TestLoop shows what the loop device is while an image is open.
func TestLoop(t *testing.T) {
	setUp(t)
	data := content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, "")))
	path := partitioned(t, 4096, gpttest.Partition{Type: rootX86, Data: data})
	i := mustOpen(t, path, open)
	found := false
	dirs, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		attr := func(name string) string {
			b, err := os.ReadFile(filepath.Join(d, name))
			if err != nil {
				return err.Error()
			}
			return strings.TrimSpace(string(b))
		}
		if attr("loop/backing_file") != path {
			continue
		}
		found = true
		got := []string{attr("ro"), attr("loop/autoclear"), attr("loop/offset"), attr("queue/logical_block_size")}
		if want := []string{"1", "1", "65536", "4096"}; strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("ro, autoclear, offset, block size: %q, want %q", got, want)
		}
	}
	if !found {
		t.Error("no loop device shows the image")
	}
	closeImage(t, i)
}

// TestTogether opens many images at once: the free loop device that the kernel names is the same for all who ask.
func TestTogether(t *testing.T) {
	setUp(t)
	path := makerNamed(t, "squashfs-gzip").make(t, source(t, ""))
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			i, err := openPath(t, path, open)
			if err != nil {
				t.Error(err)
				return
			}
			if got := read(t, i, "/usr/hello"); got != hello {
				t.Errorf("got %q", got)
			}
			closeImage(t, i)
		})
	}
	wg.Wait()
}

// TestOptions shows that a unit's mount options arrive, and cannot make anything less safe.
func TestOptions(t *testing.T) {
	setUp(t)
	path := makerNamed(t, "ext4").make(t, source(t, ""))
	i := mustOpen(t, path, image.Options{Policy: policy.Default(), RootOptions: "rw,suid,dev,noexec,x-systemd.foo=1,noatime,errors=continue"})
	defer closeImage(t, i)
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(i.Tree.File().Fd()), &st); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME
	if st.Flags&want != want {
		t.Errorf("flags %#x, want %#x", st.Flags, want)
	}
	_, err := openPath(t, path, image.Options{Policy: policy.Default(), RootOptions: "wut=1"})
	if err == nil || !strings.Contains(err.Error(), "wut") || !strings.Contains(err.Error(), "no such mount option") {
		t.Errorf("unknown option: %v", err)
	}
	// Options for usr are not for a bare file system.
	j := mustOpen(t, path, image.Options{Policy: policy.Default(), UsrOptions: "wut=1"})
	closeImage(t, j)
}
