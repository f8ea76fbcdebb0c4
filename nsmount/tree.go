package nsmount

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
)

// Tree is a mount, with what is mounted below it, that is attached nowhere. It
// may be attached once, in any namespace. It owns its file descriptor.
type Tree struct {
	f        *os.File
	attached atomic.Bool // who has given up waiting for that may ask, see Do
	home     atomic.Pointer[Scratch]
}

func newTree(fd int, what string) *Tree {
	return &Tree{f: os.NewFile(uintptr(fd), "tree:"+what)}
}

// File is the tree's own descriptor; the tree keeps ownership.
func (t *Tree) File() *os.File { return t.f }

// Path names the tree's top in a way that the kernel understands from any
// thread of this process, as long as the tree is open.
func (t *Tree) Path() string { return fdPath(t.f) }

// Close gives the tree up. What was attached stays attached.
func (t *Tree) Close() error {
	err := t.f.Close()
	if home := t.home.Swap(nil); home != nil {
		err = errors.Join(err, home.Close())
	}
	return err
}

// Home is the scratch namespace in which [Scratch.MountOverlay] has attached the tree,
// nil where it did not. Other overlays of its directories can only be made there.
func (t *Tree) Home() *Scratch { return t.home.Load() }

// Gather hangs trees that are about to be closed onto the first of them. The kernel
// waits for a grace period for each tree that goes (namespace_unlock of
// fs/namespace.c), tens of microseconds on an idle machine and milliseconds on a
// busy one; gathered, they go as one. A tree that is attached is left alone; one
// that cannot be hung there (a file, or any before Linux 6.15) goes by itself.
func Gather(trees []*Tree) {
	var first *Tree
	for _, t := range trees {
		// What is attached to a shared mount appears on all of its peers, which for
		// a clone are the host's mounts. So each has to be private before another
		// comes near it.
		if t.attached.Load() || t.SetPropagation(Private, false) != nil {
			continue
		}
		if first == nil {
			first = t
			continue
		}
		_ = t.Attach(first.f)
	}
}

// OpenDir opens the directory rel of the tree as O_PATH. The lookup stays in
// the tree and follows no symbolic link. The caller owns the file.
func (t *Tree) OpenDir(rel string) (*os.File, error) {
	return lookup.Open(t.f, rel, unix.O_PATH|unix.O_DIRECTORY, lookup.Beneath)
}

// OpenFile opens rel with the same rules and the given open(2) flags;
// O_NONBLOCK and O_NOCTTY are added, so that neither a fifo nor a terminal that
// an image carries can hold us.
func (t *Tree) OpenFile(rel string, flags int) (*os.File, error) {
	return lookup.Open(t.f, rel, flags|unix.O_NONBLOCK|unix.O_NOCTTY, lookup.Beneath)
}

// OpenInRoot opens path as a process would see it whose root the tree is: symbolic
// links are followed and stay inside it, magic links are not followed.
func (t *Tree) OpenInRoot(path string, flags int) (*os.File, error) {
	return lookup.Open(t.f, path, flags, lookup.InRoot)
}

// SetAttr sets and clears attributes of the top mount; recursive includes what
// is mounted below it.
func (t *Tree) SetAttr(set, unset Attr, recursive bool) error {
	attr := &unix.MountAttr{Attr_set: uint64(set), Attr_clr: uint64(unset)}
	if (set|unset)&(AttrNoAtime|AttrStrictAtime) != 0 {
		// The atime attributes are one field, not bits: mount_setattr(2)
		// wants all of it cleared when any of it is set.
		attr.Attr_clr |= unix.MOUNT_ATTR__ATIME
	}
	return setAttr(t.f, recursiveFlag(recursive), attr)
}

// FSType is the magic number of the tree's file system, statfs(2).
func (t *Tree) FSType() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(t.f.Fd()), &st); err != nil {
		return 0, &OpError{Op: "fstatfs", Target: t.f.Name(), Err: err}
	}
	return int64(st.Type), nil
}

// Propagation is how mount events travel, mount_namespaces(7).
type Propagation uint64

// The propagation types that extexec sets.
const (
	Private Propagation = unix.MS_PRIVATE
	Slave   Propagation = unix.MS_SLAVE
	Shared  Propagation = unix.MS_SHARED
)

// SetPropagation changes the propagation of the top mount; recursive includes
// what is mounted below it.
func (t *Tree) SetPropagation(p Propagation, recursive bool) error {
	return setAttr(t.f, recursiveFlag(recursive), &unix.MountAttr{Propagation: uint64(p)})
}

func recursiveFlag(recursive bool) uint {
	if recursive {
		return unix.AT_RECURSIVE
	}
	return 0
}

// CloneDir makes a tree of the directory (or file) that dir, an O_PATH
// descriptor of the calling thread's namespace, shows: a bind mount that is
// attached nowhere, with the attributes added that are given.
func CloneDir(dir *os.File, recursive bool, a Attr) (*Tree, error) {
	t, err := clone(dir, recursive)
	if err != nil {
		return nil, err
	}
	if a != 0 {
		if err := t.SetAttr(a, 0, recursive); err != nil {
			_ = t.Close()
			return nil, err
		}
	}
	return t, nil
}

func clone(f *os.File, recursive bool) (*Tree, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	var fd int
	err := lookup.Use(f, func(from int) (err error) {
		fd, err = unix.OpenTree(from, "", flags)
		return err
	})
	if err != nil {
		return nil, &OpError{Op: "open_tree", Target: f.Name(), Flags: "clone", Err: err}
	}
	return newTree(fd, f.Name()), nil
}

// Option is one parameter of a file system, in the order in which it is given
// to fsconfig(2): a string, or a flag.
type Option struct {
	Key, Value string
	Flag       bool
}

// FSConfig describes a file system to be mounted.
type FSConfig struct {
	Type    string // as /proc/filesystems has it
	Source  string // the device or file; "" for none
	Options []Option
	Attr    Attr
}

// MountFS creates the file system and mounts it attached nowhere. A failure is
// an [*OpError] that carries the kernel's own words where it left any. A path in
// Source is looked up on the calling thread.
func MountFS(c FSConfig) (*Tree, error) {
	ctx, err := openContext(c.Type, c.Source)
	if err != nil {
		return nil, err
	}
	defer ctx.close()
	if c.Attr&AttrReadOnly != 0 {
		if err := ctx.setFlag("ro"); err != nil {
			return nil, err
		}
	}
	if c.Source != "" {
		if err := ctx.setString("source", c.Source); err != nil {
			return nil, err
		}
	}
	for _, o := range c.Options {
		if o.Flag {
			err = ctx.setFlag(o.Key)
		} else {
			err = ctx.setString(o.Key, o.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	return ctx.mount(c.Attr)
}

// EmptyTree is a read-only directory with nothing in it, or with the empty
// directories that are named.
func EmptyTree(dirs ...string) (*Tree, error) {
	t, err := MountFS(FSConfig{Type: "tmpfs", Options: []Option{{Key: "mode", Value: "0755"}}, Attr: AttrNoDev | AttrNoSuid})
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		if err := unix.Mkdirat(int(t.f.Fd()), d, 0o755); err != nil {
			_ = t.Close()
			return nil, &os.PathError{Op: "mkdir", Path: d, Err: err}
		}
	}
	if err := t.SetAttr(AttrReadOnly, 0, false); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// fdPath names an open file for the kernel's path lookups on any thread of this
// process: descriptors belong to the process, so /proc/self is right even on a
// thread in another namespace, as long as a procfs is mounted there.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
