package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount"
)

// Options says how an image is to be opened.
type Options struct {
	// Policy is what the image may be. The zero value allows nothing; policy.Default is what units have.
	Policy policy.Policy
	// RequireSignature demands that all that is mounted is signed by somebody who is trusted.
	RequireSignature bool
	// CopyMax bounds the data of which a verified copy is made in memory, in bytes.
	CopyMax int64
	// NoDeviceMapper makes a copy also where the kernel could verify.
	NoDeviceMapper bool
	// Certificates are the directories that have the trusted certificates; nil: those of package signature.
	Certificates []string
	// Stems are what the names of files beside the image begin with, which have its root hash, signature and hash tree:
	// the first one that exists counts. nil: the image's name without ".raw".
	Stems []string
	// RootOptions and UsrOptions are mount options as a unit gives them for that partition, separated by commas. A
	// bare file system takes those for root.
	RootOptions, UsrOptions string
}

// Info says what an image turned out to be. With two partitions it is about the root partition.
type Info struct {
	Format  string // "gpt" or "bare"
	FSType  string // "erofs"
	Backing string // what the file system reads from: "file", "loop", "copy" or "kernel"
	// Verified is how all of the content was verified and whether it is signed, in words; "" is not at all.
	Verified string
	// Untrusted says why the signature that it has does not count, where the policy does without one.
	Untrusted error
	Arch      string // the architecture of the partition type, in systemd's words; "" for a bare file system
	Label     string // the label of the partition

	// RootHash is what all of the image was verified by, or is by the kernel: that which the function RootHash gives. nil
	// where there is none.
	RootHash []byte
	// Device is the device that verifies it, where the kernel does: a name for Corrupted, as long as the image is mounted.
	Device string
}

// Image is an open image. It owns its trees.
type Image struct {
	// Tree is the whole image: the root partition or file system, with the usr partition mounted on its /usr where
	// there is one (an otherwise empty directory tree where there is nothing else). It is what release files are
	// looked up in. For the layer of an overlay take Dir: the kernel takes none from a mount that lies below the top
	// of a detached tree (Linux 6.15, clone_private_mount).
	Tree *nsmount.Tree
	Info Info

	usr *nsmount.Tree // the usr partition as a tree of its own, or nil
}

// Close gives the image up. What was attached or became a layer of an overlay stays.
func (i *Image) Close() error {
	err := i.Tree.Close()
	if i.usr != nil {
		err = errors.Join(err, i.usr.Close())
	}
	return err
}

// Trees lists the trees that what Dir opens lies in: those that have to be attached somewhere before an overlay takes
// their directories, where the kernel takes none from a detached mount (before Linux 6.15). The image keeps ownership.
func (i *Image) Trees() []*nsmount.Tree {
	if i.usr != nil {
		return []*nsmount.Tree{i.Tree, i.usr}
	}
	return []*nsmount.Tree{i.Tree}
}

// Dir opens a directory of the image, given as an absolute path, as O_PATH: in a form that an overlay takes as a
// layer. The lookup stays in the image and follows no symbolic link. The caller owns the file.
func (i *Image) Dir(abs string) (*os.File, error) {
	rel := strings.TrimPrefix(path.Clean("/"+abs), "/")
	if i.usr != nil && (rel == "usr" || strings.HasPrefix(rel, "usr/")) {
		return openDir(i.usr, strings.TrimPrefix(strings.TrimPrefix(rel, "usr"), "/"))
	}
	return openDir(i.Tree, rel)
}

func openDir(t *nsmount.Tree, rel string) (*os.File, error) {
	if rel == "" {
		rel = "."
	}
	return t.OpenDir(rel)
}

// Open opens the image in f, which must be a regular file and open for reading only. Open does not take ownership:
// f may be closed as soon as it returns. name is its path, beside which its root hash, signature and hash tree may lie.
// A refusal by the policy is policy.ErrDenied.
//
// What has verity data is verified, whatever the policy says: an image is never used with less protection than it has.
func Open(ctx context.Context, f *os.File, name string, o Options) (*Image, error) {
	i, err := open(ctx, f, name, o)
	if err != nil {
		return nil, fmt.Errorf("open image %q: %w", name, err)
	}
	return i, nil
}

func open(ctx context.Context, f *os.File, name string, o Options) (*Image, error) {
	x, err := look(f, name, o)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	root := x.rootHash() // before the policy has a say in which volumes count
	if err := x.judge(o); err != nil {
		return nil, err
	}
	i, err := x.mountAll(ctx, f, name, o)
	if err != nil {
		return nil, err
	}
	i.Info.Format, i.Info.RootHash = x.format, root
	return i, nil
}

// look examines an image file.
func look(f *os.File, name string, o Options) (*examined, error) {
	size, err := checkFile(f)
	if err != nil {
		return nil, err
	}
	stems := o.Stems
	if stems == nil {
		stems = []string{strings.TrimSuffix(name, ".raw")}
	}
	return examine(f, size, stems)
}

// Judge says whether Open would take the image, as far as that can be said without reading its data: it checks the
// policy and the signature as they are now. Where only the kernel can know the key, it is asked. It gives the root hash
// that was judged, as RootHash does.
func Judge(f *os.File, name string, o Options) (root []byte, err error) {
	x, err := look(f, name, o)
	if err == nil {
		root = x.rootHash()
		err = errors.Join(x.decide(f, o), x.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("open image %q: %w", name, err)
	}
	return root, nil
}

// RootHash gives the root hash that Open would verify all of an image by, nil where there is none: it makes two images
// the same, wherever they lie. It says nothing of whether the image has it; Open does.
func RootHash(f *os.File, name string, stems []string) ([]byte, error) {
	x, err := look(f, name, Options{Stems: stems})
	if err != nil {
		return nil, err
	}
	defer x.Close()
	return x.rootHash(), nil
}

func (x *examined) rootHash() []byte {
	// With two volumes there are two, or one that says nothing about the other.
	if len(x.volumes) != 1 || x.volumes[0].verity == nil {
		return nil
	}
	return x.volumes[0].verity.root
}

// checkFile gives the size of an image file, and refuses what is none.
func checkFile(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("it is %s, and must be a regular file", kind(st.Mode()))
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	// A loop device takes over the file as it is: a writable one could be made writable.
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_PATH != 0 {
		return 0, errors.New("its file must be open for reading only")
	}
	return st.Size(), nil
}

func kind(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory (which ExtensionDirectories= takes)"
	case m&os.ModeCharDevice != 0:
		return "a character device"
	case m&os.ModeDevice != 0:
		return "a block device"
	case m&os.ModeNamedPipe != 0:
		return "a fifo"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "no file with content"
}
