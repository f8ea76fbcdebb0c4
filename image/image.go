package image

import (
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
	// RootOptions and UsrOptions are mount options as a unit gives them for that partition, separated by commas. A
	// bare file system takes those for root.
	RootOptions, UsrOptions string
}

// Info says what an image turned out to be. With two partitions it is about the root partition.
type Info struct {
	Format   string // "gpt" or "bare"
	FSType   string // "erofs"
	Backing  string // what the file system reads from: "file" or "loop"
	Verified string // how the content was verified; "" is not at all
	Arch     string // the architecture of the partition type, in systemd's words; "" for a bare file system
	Label    string // the label of the partition
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
// f may be closed as soon as it returns. name is what errors call the image, best its path. A refusal by the policy
// is policy.ErrDenied, one because of verity data ErrVerity.
//
// Sidecar files are not f's: CheckSidecars looks for them.
func Open(f *os.File, name string, o Options) (*Image, error) {
	i, err := open(f, o)
	if err != nil {
		return nil, fmt.Errorf("open image %q: %w", name, err)
	}
	return i, nil
}

func open(f *os.File, o Options) (*Image, error) {
	size, err := checkFile(f)
	if err != nil {
		return nil, err
	}
	if err := checkPolicy(o.Policy); err != nil {
		return nil, err
	}
	if err := checkAttributes(f); err != nil {
		return nil, err
	}
	volumes, format, err := dissect(f, size, architectures())
	if err != nil {
		return nil, err
	}
	i, err := mountAll(f, volumes, map[string]string{"/": o.RootOptions, "/usr": o.UsrOptions})
	if err != nil {
		return nil, err
	}
	i.Info.Format = format
	return i, nil
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
