package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/devmapper"
	"github.com/extexec/extexec/image/probe"
	"github.com/extexec/extexec/nsmount"
)

// mountAll verifies and mounts the volumes, with the options of a unit for each, and puts them together. On an error
// nothing stays mounted.
func (x *examined) mountAll(ctx context.Context, f *os.File, name string, o Options) (*Image, error) {
	trees := map[string]*nsmount.Tree{}
	closeAll := func() (err error) {
		for _, t := range trees {
			err = errors.Join(err, t.Close())
		}
		return err
	}
	var info Info
	for i := range x.volumes {
		v := &x.volumes[i]
		options := o.RootOptions
		if v.root == "/usr" {
			options = o.UsrOptions
		}
		t, backing, err := v.mount(ctx, f, name, options, o)
		if err != nil {
			return nil, errors.Join(err, closeAll())
		}
		trees[v.root] = t
		if i == 0 {
			info = Info{FSType: string(v.fsType), Backing: backing, Arch: v.arch, Label: v.label}
		}
		info.Device = cmp.Or(info.Device, v.verifier) // only one of them has a hash tree
	}
	info.Verified, info.Untrusted = x.verified(info.Backing)
	if trees["/usr"] == nil {
		return &Image{Tree: trees["/"], Info: info}, nil
	}
	whole, usr, err := join(trees["/"], trees["/usr"])
	if err := errors.Join(err, closeAll()); err != nil {
		return nil, err
	}
	return &Image{Tree: whole, Info: info, usr: usr}, nil
}

// mount mounts the volume: what was verified, where it has verity data; else erofs from the file itself where the
// kernel can; else the file.
func (v *volume) mount(ctx context.Context, f *os.File, name, options string, o Options) (t *nsmount.Tree, backing string, err error) {
	attr, extra := parseOptions(options)
	c := nsmount.FSConfig{
		Type:    string(v.fsType),
		Options: append(fsOptions(v.fsType), extra...),
		Attr:    always | attr,
	}
	if v.verity == nil && v.whole && v.fsType == probe.Erofs {
		c.Source = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		t, err := nsmount.MountFS(c)
		// ENOTBLK: before Linux 6.12, without CONFIG_EROFS_FS_BACKED_BY_FILE, or where the file lies on a file system
		// that cannot back one (tmpfs, overlay).
		if !errors.Is(err, unix.ENOTBLK) {
			return t, "file", v.explain(err)
		}
	}
	dev, backing, err := v.device(ctx, f, name, o)
	if err != nil {
		return nil, "", err
	}
	// Until it is mounted, this descriptor is what keeps the device; afterwards the mount does.
	defer dev.Close()
	c.Source = dev.Name()
	if t, err = nsmount.MountFS(c); err != nil {
		return nil, "", v.explain(err)
	}
	if v.fsType == probe.Btrfs {
		if err := namesakes(); err != nil {
			return nil, "", errors.Join(err, t.Close())
		}
	}
	return t, backing, nil
}

// namesakes refuses a btrfs, which must be mounted, where the kernel may have taken another device for it. A kernel before
// 6.7 goes by the UUID of the file system: of all devices that it was ever shown with that, it takes the one that was
// written last, and neither a hash tree nor the path of the image has a say in it.
func namesakes() error {
	// It is there as soon as the module is.
	if _, err := os.Stat("/sys/fs/btrfs/features/temp_fsid"); err != nil {
		return fmt.Errorf("this kernel could take any device with the UUID of its btrfs for it: use Linux 6.7 or later, or build the image "+
			"as squashfs or erofs: %w", err)
	}
	return nil
}

// device makes the block device that the volume is mounted from.
func (v *volume) device(ctx context.Context, f *os.File, name string, o Options) (dev *os.File, backing string, err error) {
	if v.verity == nil {
		dev, err = attachLoop(f, v.offset, v.size, v.sectorSize)
		return dev, "loop", err
	}
	s, err := v.superblock()
	if err != nil {
		return nil, "", err
	}
	dev, err = v.kernelDevice(f, s, o)
	if !errors.Is(err, devmapper.ErrNone) {
		return dev, "kernel", err
	}
	if v.needsKernel != nil { // It was there a moment ago.
		return nil, "", v.needsKernel
	}
	dev, err = v.copyDevice(ctx, f, s, name, o.CopyMax)
	return dev, "copy", err
}

// explain adds to the kernel's refusal what can be done.
func (v volume) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("this kernel has no %s: load its module, or build the image as one of %s: %w",
			v.fsType, strings.Join(haveTypes(), ", "), err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("mounting needs CAP_SYS_ADMIN: %w", err)
	case errors.Is(err, unix.EINVAL) && strings.Contains(err.Error(), "Unknown parameter"):
		return fmt.Errorf("%s knows no such mount option; take it out of the unit: %w", v.fsType, err)
	}
	return fmt.Errorf("the kernel refuses its %s (the kernel log may say more); check it, or build it again: %w", v.fsType, err)
}

// haveTypes lists the file systems that the running kernel has now, without those that it could load.
func haveTypes() []string {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return []string{"what the kernel has (" + err.Error() + ")"}
	}
	var have []string
	for line := range strings.Lines(string(data)) {
		if name := strings.TrimSpace(line); probe.Type(name).Mountable() {
			have = append(have, name)
		}
	}
	return have
}

// join mounts usr on the /usr of root, or of an empty tree where root is nil. It gives the whole, and usr as a tree
// of its own. The trees that it is given are still to be closed by the caller.
//
// It is done in a scratch namespace: a detached tree takes mounts only from Linux 6.15.
func join(root, usr *nsmount.Tree) (whole, part *nsmount.Tree, err error) {
	scratch, err := nsmount.NewScratch(nsmount.Probe())
	if err != nil {
		return nil, nil, err
	}
	if root == nil {
		if root, err = nsmount.EmptyTree("usr"); err != nil {
			return nil, nil, errors.Join(err, scratch.Close())
		}
		defer root.Close()
	}
	err = scratch.Do(context.Background(), func() error {
		whole, part, err = joinHere(scratch, root, usr)
		return err
	})
	if err := errors.Join(err, scratch.Close()); err != nil {
		return nil, nil, errors.Join(err, closeTree(whole), closeTree(part))
	}
	return whole, part, nil
}

func closeTree(t *nsmount.Tree) error {
	if t == nil {
		return nil
	}
	return t.Close()
}

// joinHere must run on the scratch thread.
func joinHere(scratch *nsmount.Scratch, root, usr *nsmount.Tree) (whole, part *nsmount.Tree, err error) {
	spot, err := scratch.Attach(root)
	if err != nil {
		return nil, nil, err
	}
	defer spot.Close()
	at, err := root.OpenDir("usr")
	if err != nil {
		return nil, nil, fmt.Errorf("its root partition has no directory /usr for its usr partition: %w", err)
	}
	defer at.Close()
	if err := usr.Attach(at); err != nil {
		return nil, nil, err
	}
	if part, err = nsmount.CloneDir(usr.File(), false, 0); err != nil {
		return nil, nil, err
	}
	whole, err = scratch.Take(spot)
	return whole, part, err
}
