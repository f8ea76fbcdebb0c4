package image_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/nsmount"
)

// checkError logs the error, since whoever reads the log shall like it, and wants an error on one line that names the image and has the words.
func checkError(t *testing.T, name string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", name)
		return
	}
	text := err.Error()
	t.Logf("%s: %s", name, text)
	if !strings.HasPrefix(text, `open image "/`) || strings.Contains(text, "\n") {
		t.Errorf("%s: %q", name, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %q, want %q in it", name, text, w)
		}
	}
}

// TestRefusedContent shows what is said of images that are none. It needs no root: nothing comes as far as a mount.
func TestRefusedContent(t *testing.T) {
	le := binary.LittleEndian
	root := gpttest.Partition{Type: rootX86, Data: append([]byte("hsqs"), make([]byte, 5000)...)}
	le.PutUint64(root.Data[40:], 5000)
	disk := func(ps ...gpttest.Partition) []byte { return gpttest.Image{Partitions: ps}.Bytes() }
	whole := disk(root)
	with := func(off int, s string) []byte {
		b := make([]byte, 80<<10)
		copy(b[off:], s)
		return b
	}
	btrfs := with(64<<10+0x40, "_BHRfS_M")
	btrfs[64<<10+0x88] = 2
	stale := disk(root)
	copy(stale, "XFSB")
	overwritten := disk(root) // mkfs over a disk: the table at the end is still there
	copy(overwritten, "XFSB")
	clear(overwritten[512:1024])
	for _, c := range []struct {
		name  string
		b     []byte
		words []string
	}{
		{"empty", nil, []string{"it is empty", "copy or build it again"}},
		{"zeros", make([]byte, 1<<20), []string{"nothing but zeros", "copy or build it again"}},
		{"random", noise(1 << 20), []string{"no file system that extexec knows", "squashfs, erofs"}},
		{"text", []byte("hello"), []string{"no file system that extexec knows"}},
		{"truncated squashfs", root.Data[:1000], []string{"cut off", "5000 bytes", "only 1000"}},
		{"truncated disk", whole[:len(whole)-(70<<10)], []string{"cut off"}},
		{"truncated in partition", disk(gpttest.Partition{Type: rootX86, Data: root.Data[:1000]}), []string{"root partition", "cut off"}},
		{"absurd count", gpttest.Image{Edit: func(h []byte) { le.PutUint32(h[gpttest.Count:], 1<<31) }}.Bytes(),
			[]string{"GUID partition table: 2147483648 entries", "build it again"}},
		{"absurd entry size", gpttest.Image{Edit: func(h []byte) { le.PutUint32(h[gpttest.EntrySize:], 1<<31) }}.Bytes(),
			[]string{"entries of 2147483648 bytes"}},
		{"LUKS", with(0, "LUKS\xba\xbe"), []string{"LUKS", "not supported"}},
		{"LUKS partition", disk(gpttest.Partition{Type: rootX86, Data: with(0, "LUKS\xba\xbe")}), []string{"root partition", "LUKS"}},
		{"xz", with(0, "\xfd7zXZ\x00"), []string{"compressed with xz", "unpack it"}},
		{"qcow2", with(0, "QFI\xfb"), []string{"qcow2", "qemu-img convert"}},
		{"tar", with(257, "ustar"), []string{"tar archive", "ExtensionDirectories="}},
		{"MBR", with(450, "\x83"+strings.Repeat("\x00", 59)+"\x55\xaa"), []string{"MBR", "use a GPT"}},
		{"f2fs", with(1024, "\x10\x20\xf5\xf2"), []string{"it is f2fs, which extexec does not mount"}},
		{"iso9660", with(32769, "CD001"), []string{"it is iso9660, which extexec does not mount"}},
		{"ext2", with(1024+56, "\x53\xef"), []string{"it is ext2, which extexec does not mount"}},
		{"btrfs of two devices", btrfs, []string{"its btrfs has 2 devices, and an image is one file", "build it without"}},
		{"btrfs partition of two devices", disk(gpttest.Partition{Type: rootX86, Data: btrfs}), []string{"root partition", "2 devices"}},
		{"log elsewhere", with(0, "XFSB"), []string{"its xfs has its log on another device"}},
		{"journal elsewhere", with(1024+56, "\x53\xef"+strings.Repeat("\x00", 34)+"\x04\x00\x00\x00\x40"), []string{"its ext4 has its journal on another device"}},
		{"ambiguous", with(0, "hsqs"+strings.Repeat("\x00", 1020)+"\xe2\xe1\xf5\xe0"), []string{"several things at once (squashfs, erofs)", "wipefs"}},
		{"table and fs", stale, []string{"several things at once (xfs, GUID partition table)", "wipefs"}},
		{"backup table and fs", overwritten, []string{"several things at once (GUID partition table, xfs)", "wipefs"}},
		{"overlap", disk(root, gpttest.Partition{Type: verityX86, Data: make([]byte, 10), First: 130, Last: 131}), []string{"partitions 1 and 2 overlap", "build it again"}},
		{"partition out of range", disk(gpttest.Partition{Type: rootX86, First: 200, Last: 1 << 40}), []string{"partition 1 is at sectors 200 to 1099511627776"}},
		{"no partitions", disk(), []string{"partition table is empty"}},
		{"generic", disk(gpttest.Partition{Type: generic, Data: root.Data}), []string{"no root and no usr partition, only linux-generic", "--part-type"}},
		{"unknown type", disk(gpttest.Partition{Type: "11111111-2222-3333-4444-555555555555", Data: root.Data}),
			[]string{"only type 11111111-2222-3333-4444-555555555555"}},
		{"ignored", disk(gpttest.Partition{Type: rootX86, Attrs: noAuto, Data: root.Data},
			gpttest.Partition{Type: usrX86, Label: "_empty", Data: root.Data}, gpttest.Partition{Type: esp, Data: root.Data}),
			[]string{"only root (with the no-auto attribute), usr (labelled _empty), esp"}},
		{"two roots", disk(root, root), []string{"partitions 1 and 2 are both root partitions (for x86-64 and x86-64)", "_empty"}},
		{"two foreign", disk(gpttest.Partition{Type: rootARM, Data: root.Data},
			gpttest.Partition{Type: "72ec70a6-cf74-40e6-bd49-4bda08e8f224", Data: root.Data}), []string{"both root", "arm64 and riscv64"}},
		{"two architectures", disk(root, gpttest.Partition{Type: usrARM, Data: root.Data}), []string{"root partition is for x86-64", "arm64"}},
	} {
		path := filepath.Join(dir(t), "x.raw")
		if err := os.WriteFile(path, c.b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openPath(t, path, open)
		checkError(t, c.name, err, append(c.words, path)...)
	}
}

func TestRefusedFile(t *testing.T) {
	d := dir(t)
	path := filepath.Join(d, "x.raw")
	if err := errors.Join(os.WriteFile(path, []byte("hsqs"), 0o600), syscall.Mkfifo(filepath.Join(d, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		flags      int
		words      string
	}{
		{"directory", d, os.O_RDONLY, "it is a directory (which ExtensionDirectories= takes)"},
		{"fifo", filepath.Join(d, "fifo"), os.O_RDONLY | unix.O_NONBLOCK, "it is a fifo"},
		{"device", "/dev/null", os.O_RDONLY, "it is a character device"},
		{"writable", path, os.O_RDWR, "reading only"},
		{"path only", path, unix.O_PATH, "reading only"},
	} {
		f, err := os.OpenFile(c.path, c.flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = image.Open(context.Background(), f, c.path, open)
		checkError(t, c.name, err, c.words)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefusedByKernel shows what comes of images whose first bytes are right and whose rest is not.
func TestRefusedByKernel(t *testing.T) {
	setUp(t)
	for _, name := range []string{"squashfs-gzip", "erofs", "ext4", "btrfs", "xfs"} {
		m := makerNamed(t, name)
		path := m.make(t, source(t, ""))
		b := content(t, path)
		switch m.fsType {
		case "squashfs":
			clear(b[96:])
			binary.LittleEndian.PutUint32(b[12:], 3) // the block size
		case "erofs":
			b[1024+83] = 0x80 // a feature that nobody has
		case "ext4":
			binary.LittleEndian.PutUint32(b[1024+96:], 0xffffffff)
		case "btrfs":
			clear(b[64<<10 : 64<<10+32]) // the checksum
		case "xfs":
			b[100] = 0xff // the version
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openPath(t, path, open)
		checkError(t, name, err, path, "the kernel refuses its "+m.fsType, "build it again")
	}
}

// TestNoUsrDirectory shows what comes of a usr partition that the root partition has no place for.
func TestNoUsrDirectory(t *testing.T) {
	setUp(t)
	m := makerNamed(t, "squashfs-gzip")
	usr := gpttest.Partition{Type: usrX86, Data: content(t, m.make(t, source(t, "usr")))}
	for name, prepare := range map[string]func(d string) error{
		"missing": func(string) error { return nil },
		"link":    func(d string) error { return os.Symlink("/etc", filepath.Join(d, "usr")) },
		"file":    func(d string) error { return os.WriteFile(filepath.Join(d, "usr"), nil, 0o600) },
	} {
		d := dir(t)
		if err := prepare(d); err != nil {
			t.Fatal(err)
		}
		root := gpttest.Partition{Type: rootX86, Data: content(t, m.make(t, d))}
		_, err := openPath(t, partitioned(t, 512, root, usr), open)
		checkError(t, name, err, "no directory /usr")
	}
}

// elsewhere runs f on a thread whose /dev is a tmpfs with what make puts there.
func elsewhere(t *testing.T, populate func(dev string) error, f func() error) error {
	t.Helper()
	self, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	ns, err := nsmount.EnterCopy(self, nsmount.Private)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	}()
	return ns.Do(context.Background(), func() error {
		dev, err := nsmount.MountFS(nsmount.FSConfig{Type: "tmpfs"})
		if err != nil {
			return err
		}
		defer dev.Close()
		at, err := os.OpenFile("/dev", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer at.Close()
		if err := errors.Join(dev.Attach(at), populate("/dev")); err != nil {
			return err
		}
		return f()
	})
}

// TestNoLoopDevices hides the loop devices, as PrivateDevices= does, and the nodes alone, as some containers do.
func TestNoLoopDevices(t *testing.T) {
	setUp(t)
	squash := makerNamed(t, "squashfs-gzip").make(t, source(t, ""))
	erofs := makerNamed(t, "erofs").make(t, source(t, ""))
	nothing := func(string) error { return nil }
	control := func(dev string) error {
		return unix.Mknod(dev+"/loop-control", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 237)))
	}
	err := elsewhere(t, nothing, func() error {
		_, err := openPath(t, squash, open)
		return err
	})
	checkError(t, "nothing", err, `/dev/loop-control`, "no such file", "PrivateDevices=", "DeviceAllow=/dev/loop-control", "erofs")
	err = elsewhere(t, control, func() error {
		_, err := openPath(t, squash, open)
		return err
	})
	checkError(t, "control alone", err, `/dev/loop`, "no such file", "PrivateDevices=")
	err = elsewhere(t, nothing, func() error {
		i, err := openPath(t, erofs, open)
		if err == nil {
			checkUsr(t, i)
			closeImage(t, i)
		}
		return err
	})
	if err != nil {
		t.Errorf("erofs from its file: %v", err)
	}
}

// TestUnknownFileSystem shows what is said where the kernel lacks a file system, which this one does not: it is asked
// for ones that no kernel has.
func TestUnknownFileSystem(t *testing.T) {
	setUp(t)
	_, err := nsmount.MountFS(nsmount.FSConfig{Type: "no-such-fs"})
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want ENODEV, which is what explain looks for", err)
	}
}

// TestLosetupSees is here so that the checks for what is left behind are known to see something.
func TestLosetupSees(t *testing.T) {
	setUp(t)
	path := makerNamed(t, "squashfs-gzip").make(t, source(t, ""))
	i := mustOpen(t, path, open)
	if got := loops(t); len(got) != 1 || got[0] != path {
		t.Errorf("loops: %q", got)
	}
	if out, err := exec.Command("losetup", "-a").CombinedOutput(); err != nil || !strings.Contains(string(out), path) {
		t.Errorf("losetup: %s, %v", out, err)
	}
	closeImage(t, i)
}
