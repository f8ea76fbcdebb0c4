package image_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/devmapper"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/image/verity"
)

// kernel makes a test one that needs dm-verity, which integration/vm has, and fails it if it leaves a device behind.
func kernel(t *testing.T) {
	t.Helper()
	setUp(t)
	if err := devmapper.Available(); err != nil {
		t.Skipf("runs in integration/vm: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "devices left behind", func() bool { return len(devices(t)) == 0 })
	})
}

// devices lists the dm-verity devices of extexec.
func devices(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if b, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(b), "extexec-verity-") {
			names = append(names, strings.TrimSpace(string(b)))
		}
	}
	return names
}

// byKernel are options that take anything, by the kernel.
func byKernel(as ...authority) image.Options {
	o := trusting(as...)
	o.NoDeviceMapper, o.CopyMax = false, 0
	return o
}

// TestKernelVerified opens images with verity data from every place that it can be in, several times at once: they are
// of one device.
func TestKernelVerified(t *testing.T) {
	kernel(t)
	a := newAuthority(t, nil)
	for _, c := range everywhere(t, a) {
		t.Run(c.name, func(t *testing.T) {
			kernel(t)
			i, j := mustOpen(t, c.path, byKernel(a)), mustOpen(t, c.path, byKernel(a))
			checkVerified(t, i, "kernel", c.want)
			checkContent(t, i)
			if d := devices(t); len(d) != 1 {
				t.Errorf("devices: %q", d)
			}
			closeImage(t, i)
			checkContent(t, j)
			closeImage(t, j)
		})
	}
}

// tryRead reads a file of the image as far as it goes.
func tryRead(t *testing.T, i *image.Image, path string) error {
	t.Helper()
	f, err := i.Tree.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// TestKernelChangedBlock shows that a changed block is an error for its reader, that this is told, and that a good copy
// of the image can be used beside it.
func TestKernelChangedBlock(t *testing.T) {
	kernel(t)
	p := protect(t, content(t, makerNamed(t, "erofs").make(t, source(t, ""))))
	bad := bytes.Clone(p.data)
	at := bytes.Index(bad, noise(300 << 10)[8192:8192+64]) // in the middle of usr/noise
	if at < 0 {
		t.Fatal("the file is not found in the image")
	}
	bad[at] ^= 1
	i := mustOpen(t, p.bare(t, map[string][]byte{"": bad}), byKernel())
	if image.Corrupted(i.Info.Device) {
		t.Error("it is told before it was seen")
	}
	if err := tryRead(t, i, "usr/noise"); !errors.Is(err, unix.EIO) {
		t.Errorf("read: %v, want EIO", err)
	}
	if got := read(t, i, "/usr/hello"); got != hello {
		t.Errorf("what was not changed reads %q", got)
	}
	if !image.Corrupted(i.Info.Device) {
		t.Error("it is not told")
	}
	good := mustOpen(t, p.bare(t, nil), byKernel())
	checkContent(t, good)
	if image.Corrupted(good.Info.Device) || good.Info.Device == i.Info.Device {
		t.Errorf("the good copy is read from %q, and the changed one from %q", good.Info.Device, i.Info.Device)
	}
	closeImage(t, good)
	closeImage(t, i)
	if _, err := openPath(t, p.bare(t, map[string][]byte{".verity": bytes.ReplaceAll(p.tree, p.tree[4096:4160], noise(64))}), byKernel()); err == nil {
		t.Error("a tree that does not have the root hash was taken")
	}
	short := bytes.Clone(p.tree)
	short[72]-- // one block less, which the kernel would not see
	_, err := openPath(t, p.bare(t, map[string][]byte{".verity": short}), byKernel())
	checkError(t, "fewer blocks", err, "more digests than there are blocks")
}

// TestKernelShrinks cuts an image off while it is mounted: what is gone is an error for its reader, and nothing is left of it.
func TestKernelShrinks(t *testing.T) {
	kernel(t)
	p := protect(t, content(t, makerNamed(t, "erofs").make(t, source(t, ""))))
	path := p.bare(t, nil)
	i := mustOpen(t, path, byKernel())
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if err := tryRead(t, i, "usr/noise"); !errors.Is(err, unix.EIO) {
		t.Errorf("read: %v, want EIO", err)
	}
	closeImage(t, i)
	_, err := openPath(t, path, byKernel())
	checkError(t, "cut off", err, "cut off")
}

// TestKernelShared opens and closes one image from many sides at once.
func TestKernelShared(t *testing.T) {
	kernel(t)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	path := p.bare(t, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				f, err := os.Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				i, err := image.Open(context.Background(), f, path, byKernel())
				_ = f.Close()
				if err != nil {
					t.Error(err)
					return
				}
				if err := tryRead(t, i, "usr/hello"); err != nil {
					t.Error(err)
				}
				closeImage(t, i)
			}
		})
	}
	wg.Wait()
}

// TestKernelBegun finds a device that was begun and not finished, as a kill leaves it: it is removed.
func TestKernelBegun(t *testing.T) {
	kernel(t)
	gpttest.Tool(t, "dmsetup")
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	run(t, "dmsetup", "create", "--notable", "extexec-verity-"+p.hex())
	path := p.bare(t, nil)
	i := mustOpen(t, path, byKernel())
	checkContent(t, i)
	closeImage(t, i)
}

// TestKernelForeignDevice finds a device of the name that ours would have, of the same image, that passes changed blocks
// on: it is left alone, and not used.
func TestKernelForeignDevice(t *testing.T) {
	kernel(t)
	gpttest.Tool(t, "dmsetup")
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	path := p.bare(t, nil)
	s, err := verity.Parse(p.tree)
	if err != nil {
		t.Fatal(err)
	}
	data, tree := losetup(t, path, "--read-only"), losetup(t, strings.TrimSuffix(path, ".raw")+".verity", "--read-only")
	name := "extexec-verity-" + p.hex()
	table := fmt.Sprintf("0 %d verity 1 %s %s 4096 4096 %d 1 sha256 %s %x", s.DataSize()/512, data, tree, s.DataBlocks, p.hex(), s.Salt)
	for _, weaker := range []string{"1 ignore_corruption", "1 check_at_most_once", ""} {
		run(t, "dmsetup", "create", "--readonly", "--noudevsync", "--noudevrules", name, "--table", table+" "+weaker)
		i := mustOpen(t, path, byKernel())
		checkContent(t, i)
		if shared := i.Info.Device == name; shared != (weaker == "") {
			t.Errorf("%q: it is verified by %s", weaker, i.Info.Device)
		}
		closeImage(t, i)
		if weaker != "" { // ours goes with its last user
			run(t, "dmsetup", "remove", "--noudevsync", "--noudevrules", name)
		}
	}
}

// losetup makes a loop device, which goes with its last user.
func losetup(t *testing.T, path string, options ...string) (dev string) {
	t.Helper()
	out, err := exec.Command("losetup", append(options, "--find", "--show", path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev = strings.TrimSpace(string(out))
	t.Cleanup(func() { run(t, "losetup", "--detach", dev) })
	return dev
}

// TestKernelKeyring has the kernel take a signature by a key of its own, where no certificate is in any verity.d. The
// keyring is open for keys with dm_verity.keyring_unsealed=1 (Linux 7.0).
func TestKernelKeyring(t *testing.T) {
	kernel(t)
	a, stranger := newAuthority(t, nil), newAuthority(t, nil)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	signed := p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)})
	o := withPolicy(t, byKernel(), "root=signed")
	_, err := openPath(t, signed, o)
	checkError(t, "unknown key", err, "no certificate is trusted", "the kernel does not take the signature")
	if !errors.Is(err, policy.ErrDenied) {
		t.Errorf("%v is not ErrDenied", err)
	}
	judge := func() error {
		f, err := os.Open(signed)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = image.Judge(f, signed, o)
		return err
	}
	if err := judge(); !errors.Is(err, policy.ErrDenied) {
		t.Errorf("judge: %v is not ErrDenied", err)
	}
	ring := keyring(t)
	if ring == 0 {
		t.Skip("this kernel has no keyring .dm-verity that takes keys")
	}
	block, _ := pem.Decode(content(t, a.certificate))
	if _, err := unix.AddKey("asymmetric", "", block.Bytes, ring); err != nil {
		t.Skipf("the keyring .dm-verity takes no key: %v", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_RESTRICT_KEYRING, uintptr(ring), 0); errno != 0 {
		t.Fatal(errno)
	}
	i := mustOpen(t, signed, o)
	checkVerified(t, i, "kernel", "signed: by a key of the kernel")
	checkContent(t, i)
	if err := judge(); err != nil {
		t.Errorf("judge: %v", err)
	}
	closeImage(t, i)
	_, err = openPath(t, p.bare(t, map[string][]byte{".roothash.p7s": stranger.sign(t, p.root)}), o)
	checkError(t, "stranger", err, "the kernel does not take the signature")
}

// keyring finds the kernel's keyring for dm-verity; 0: there is none.
func keyring(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(string(content(t, "/proc/keys"))) {
		words := strings.Fields(line)
		if len(words) > 8 && words[7] == "keyring" && strings.HasPrefix(words[8], ".dm-verity") {
			id, err := strconv.ParseUint(words[0], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(id)
		}
	}
	return 0
}

// TestKernelLargeBlocks has data blocks that are larger than a page, which the kernel does not take: a copy is made.
func TestKernelLargeBlocks(t *testing.T) {
	kernel(t)
	if os.Getpagesize() >= 64<<10 {
		t.Skip("the pages are as large as blocks can be")
	}
	p := protectBlocks(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))), 64<<10)
	o := byKernel()
	path := p.bare(t, nil)
	_, err := openPath(t, path, o)
	checkError(t, "no room", err, fmt.Sprintf("VerifiedCopyMax= allows %d", o.CopyMax))
	o.CopyMax = 64 << 20
	i := mustOpen(t, path, o)
	checkVerified(t, i, "copy", "not signed")
	closeImage(t, i)
}
