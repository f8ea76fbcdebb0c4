package extension

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/image/verity"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// protect puts root hash and hash tree beside an image, as stem.roothash and
// stem.verity, and gives the identity that it has by that.
func protect(t *testing.T, image, stem string) string {
	t.Helper()
	data, err := os.ReadFile(image)
	must(t, err)
	data = append(data, make([]byte, (4096-len(data)%4096)%4096)...)
	must(t, os.WriteFile(image, data, 0o600))
	s := &verity.Superblock{Algorithm: "sha256", DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: uint64(len(data) / 4096)}
	tree, err := os.Create(stem + ".verity")
	must(t, err)
	defer tree.Close()
	root, err := verity.Format(context.Background(), s, bytes.NewReader(data), tree)
	must(t, err)
	must(t, os.WriteFile(stem+".roothash", fmt.Appendf(nil, "%x\n", root), 0o600))
	return fmt.Sprintf("verity:%x", root)
}

// raced is how often TestReplacedTogether tries.
const raced = 4000

// TestReplacedTogether swaps an image and what lies beside it for another one, again and
// again: what is opened is what was picked, or nothing is.
func TestReplacedTogether(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{"live/": "", "new/": ""})
	identities := map[string]string{}
	for _, v := range []string{"1", "2"} {
		write(t, top, map[string]string{v + "/tree/" + sysextFile + "web": "ID=debian\nVERSION_ID=13\n", v + "/tree/usr/version": v})
		build(t, "mksquashfs", top+"/"+v+"/tree", top+"/"+v+"/web.raw", "-quiet", "-no-progress")
		identities[v] = protect(t, top+"/"+v+"/web.raw", top+"/"+v+"/web")
	}
	swap := func(v string) (err error) {
		for _, name := range []string{"web.raw", "web.roothash", "web.verity"} {
			err = errors.Join(err, os.Link(top+"/"+v+"/"+name, top+"/new/"+name), os.Rename(top+"/new/"+name, top+"/live/"+name))
		}
		return err
	}
	must(t, swap("1"))
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := errors.Join(swap("2"), swap("1")); err != nil {
				stopped <- err
				return
			}
		}
	}()
	options := debian()
	options.VerifiedCopyMax = 1 << 20
	opened, refused := 0, 0
	for range raced {
		p, err := Pick(imageRef(top+"/live/web.raw"), PickOptions{})
		must(t, err)
		o, err := Open(context.Background(), p, options)
		if err != nil {
			refused++
			continue
		}
		opened++
		f, err := o.Tree.OpenFile("usr/version", os.O_RDONLY)
		must(t, err)
		b := make([]byte, 1)
		_, err = f.ReadAt(b, 0)
		must(t, errors.Join(err, f.Close(), o.Close()))
		if want := identities[string(b)]; p.Identity != want {
			t.Errorf("%q was picked, and %q was open", p.Identity, want)
			break
		}
	}
	close(stop)
	must(t, <-stopped)
	t.Logf("%d opened, %d refused", opened, refused)
	if opened == 0 || refused == 0 {
		t.Error("nothing was raced")
	}
}

// TestVerityIdentity shows that an image with a root hash is the same wherever it
// lies and whatever its name is, and that a lie about it ends at Open.
func TestVerityIdentity(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{"tree/" + sysextFile + "web": "ID=debian\nVERSION_ID=13\n", "tree/usr/bin/web": "x", "web.v/": "", "other/": ""})
	build(t, "mksquashfs", top+"/tree", top+"/web.v/web_1+3.raw", "-quiet", "-no-progress")
	identity := protect(t, top+"/web.v/web_1+3.raw", top+"/web.v/web_1+3")
	options := debian()
	options.VerifiedCopyMax = 1 << 20
	check := func(path string) {
		t.Helper()
		p := pick(t, imageRef(path))
		if p.Identity != identity {
			t.Errorf("%s is %q, want %q", p.Path, p.Identity, identity)
		}
		o, err := Open(context.Background(), p, options)
		must(t, err)
		if !strings.HasPrefix(o.Info.Verified, "verified (") {
			t.Errorf("%s: %q", p.Path, o.Info.Verified)
		}
		must(t, o.Close())
		must(t, Judge(p, options))
	}
	check(top + "/web.v")
	// A try is counted, and then it is good: the files beside it keep their names.
	must(t, os.Rename(top+"/web.v/web_1+3.raw", top+"/web.v/web_1+2-1.raw"))
	check(top + "/web.v")
	must(t, os.Rename(top+"/web.v/web_1+2-1.raw", top+"/web.v/web_1.raw"))
	check(top + "/web.v")
	for _, suffix := range []string{".roothash", ".verity"} {
		must(t, os.Rename(top+"/web.v/web_1+3"+suffix, top+"/other/web"+suffix))
	}
	if p := pick(t, imageRef(top+"/web.v")); !strings.HasPrefix(p.Identity, "file:") {
		t.Errorf("without a root hash it is %q", p.Identity)
	}
	must(t, os.Rename(top+"/web.v/web_1.raw", top+"/other/web.raw"))
	check(top + "/other/web.raw")

	strict := options
	var err error
	strict.Policy, err = policy.Parse("root=signed")
	must(t, err)
	p := pick(t, imageRef(top+"/other/web.raw"))
	if err := Judge(p, strict); !errors.Is(err, policy.ErrDenied) {
		t.Errorf("unsigned: %v", err)
	}
	f, err := os.OpenFile(top+"/other/web.raw", os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 200)
	must(t, err)
	must(t, f.Close())
	if p := pick(t, imageRef(top+"/other/web.raw")); p.Identity != identity {
		t.Errorf("changed: %q", p.Identity)
	}
	if _, err := Open(context.Background(), p, options); err == nil || !strings.Contains(err.Error(), "the data does not have the root hash") {
		t.Errorf("changed: %v", err)
	}
}

// TestUnread: an image that cannot be read is not one that was replaced, whenever that is.
func TestUnread(t *testing.T) {
	nsmounttest.Root(t)
	top := t.TempDir()
	write(t, top, map[string]string{"tree/" + sysextFile + "web": "ID=debian\nVERSION_ID=13\n", "tree/usr/bin/web": "x", "disk/": "", "on/": ""})
	build(t, "mksquashfs", top+"/tree", top+"/disk/web.raw", "-quiet", "-no-progress")
	identity := protect(t, top+"/disk/web.raw", top+"/disk/web")
	build(t, "mkfs.ext4", "-q", "-d", top+"/disk", top+"/disk.img", "4M")
	whole, err := os.ReadFile(top + "/disk.img")
	must(t, err)
	device, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", top+"/disk.img").Output()
	must(t, err)
	t.Cleanup(func() { build(t, "losetup", "--detach", strings.TrimSpace(string(device))) })
	must(t, nsmounttest.Mount(strings.TrimSpace(string(device)), top+"/on", "ext4", unix.MS_RDONLY))
	t.Cleanup(func() { nsmounttest.Unmount(t, top+"/on") })

	path := top + "/on/web.raw"
	forget := func() { // what was read of the file
		f, err := os.Open(path)
		must(t, err)
		must(t, errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()))
	}
	breaks := func() { must(t, os.Truncate(top+"/disk.img", 0)); forget() }
	mends := func() { must(t, os.WriteFile(top+"/disk.img", whole, 0o600)) }
	options := debian()
	options.VerifiedCopyMax = 1 << 20
	fails := func(when, says string, err error) {
		t.Helper()
		if !errors.Is(err, unix.EIO) || errors.Is(err, errReplaced) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", when, err)
		}
	}

	p := pick(t, imageRef(path))
	if p.Identity != identity || p.Unread != nil {
		t.Fatalf("it is %q, %v", p.Identity, p.Unread)
	}
	breaks()
	_, err = Open(context.Background(), p, options)
	fails("opened", "open image", err)
	fails("judged", "open image", Judge(p, options))

	p = pick(t, imageRef(path))
	fails("picked", "", p.Unread)
	_, err = Open(context.Background(), p, options)
	fails("picked and opened", "open image", err)
	mends()
	const before = "it could not be read when it was picked: try again"
	_, err = Open(context.Background(), p, options)
	fails("picked", before, err)
	fails("picked, judged later", before, Judge(p, options))
}
