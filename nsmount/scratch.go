package nsmount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
)

// Limits says what the kernel, or its configuration, cannot do. [Probe] fills it
// in; tests set it to walk the other paths.
type Limits struct {
	NoBeneath  bool // MOVE_MOUNT_BENEATH, Linux 6.5
	NoLowerdir bool // lowerdir+, Linux 6.7
	NoUserNS   bool // a user namespace of our own, to lock trees in
}

// Probe asks the kernel what it can do, cheaply: what is expensive to ask is
// found when it is first needed.
func Probe() Limits {
	return Limits{NoBeneath: !HaveBeneath(), NoLowerdir: legacyContext("overlay")}
}

// ErrNoLock says that trees cannot be locked, since the host forbids user
// namespaces.
var ErrNoLock = errors.New("user namespaces are not available")

// Scratch is a private namespace of ours in which trees are put together: a
// mount can only be dressed with others while it is attached somewhere (a
// detached one takes children from Linux 6.15 only). Its thread's root stays the
// host's, the workbench is reached by descriptor.
type Scratch struct {
	ns     *Namespace
	bench  *os.File // a tmpfs
	at     string   // where the bench is mounted
	spots  int
	limits Limits
	users  atomic.Int32 // who made it, and the trees that have it as their home
}

// NewScratch makes a scratch namespace, a copy of the process's own.
func NewScratch(limits Limits) (*Scratch, error) {
	s := &Scratch{limits: limits}
	s.users.Store(1)
	ns, err := start(func() error {
		if err := copyNamespace(Private); err != nil {
			return err
		}
		return s.layBench()
	})
	if err != nil {
		return nil, fmt.Errorf("make scratch namespace: %w", err)
	}
	s.ns = ns
	return s, nil
}

// benchPlaces are directories that every system has one of. What the bench hides
// in the scratch namespace nobody needs there. It cannot be "/": then the thread's
// root would not be the namespace's, and the kernel makes no user namespace for
// who is chrooted (EPERM, user_namespaces(7)).
var benchPlaces = []string{"/sys", "/run", "/tmp", "/etc"}

// openPlace opens the first of them. The file's name is its path.
func openPlace() (place *os.File, err error) {
	for _, at := range benchPlaces {
		if place, err = OpenInRoot(at, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			return place, nil
		}
	}
	return nil, fmt.Errorf("find a directory to work in (one of %s): %w", strings.Join(benchPlaces, " "), err)
}

func (s *Scratch) layBench() error {
	place, err := openPlace()
	if err != nil {
		return err
	}
	defer place.Close()
	s.at = place.Name()
	t, err := MountFS(FSConfig{Type: "tmpfs", Attr: AttrNoDev | AttrNoSuid | AttrNoExec})
	if err != nil {
		return err
	}
	if err := t.Attach(place); err != nil {
		return errors.Join(err, t.Close())
	}
	s.bench = t.f
	return nil
}

// Hold has the namespace stay until Close is called once more.
func (s *Scratch) Hold() *Scratch {
	s.users.Add(1)
	return s
}

// Close dissolves the namespace and all that is attached in it, unless it is held, by
// [Scratch.Hold] or by a tree whose home it is.
func (s *Scratch) Close() error {
	if s.users.Add(-1) > 0 {
		return nil
	}
	return errors.Join(s.ns.Close(), s.bench.Close())
}

// Do is the function [Do] where nothing but an error comes back.
func (s *Scratch) Do(ctx context.Context, f func() error) error { return doError(ctx, s, f) }

func (s *Scratch) queue() chan<- func() { return s.ns.work }

// Spot is a place on the bench with a tree attached.
type Spot struct {
	name string
	dir  *os.File // the attached tree's root, O_PATH
}

// Dir is the attached tree's root; the spot keeps ownership.
func (p *Spot) Dir() *os.File { return p.dir }

// Close closes the spot's descriptor.
func (p *Spot) Close() error { return p.dir.Close() }

// Attach puts the tree on the bench. Must be called on the scratch thread.
func (s *Scratch) Attach(t *Tree) (*Spot, error) {
	spot := &Spot{name: strconv.Itoa(s.spots)}
	s.spots++
	place, err := s.place(spot.name, t)
	if err != nil {
		return nil, err
	}
	defer place.Close()
	if err := t.Attach(place); err != nil {
		return nil, err
	}
	spot.dir, err = lookup.Open(s.bench, spot.name, unix.O_PATH, lookup.Beneath)
	return spot, err
}

// place makes what a tree can be attached to: a directory for a directory, else
// a file.
func (s *Scratch) place(name string, t *Tree) (*os.File, error) {
	var st unix.Stat_t
	if err := lookup.Use(t.f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, &OpError{Op: "fstat", Target: t.f.Name(), Err: err}
	}
	err := lookup.Use(s.bench, func(bench int) error {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return unix.Mkdirat(bench, name, 0o700)
		}
		return unix.Mknodat(bench, name, unix.S_IFREG|0o600, 0)
	})
	if err != nil {
		return nil, &OpError{Op: "make place", Target: name, Err: err}
	}
	return lookup.Open(s.bench, name, unix.O_PATH, lookup.Beneath)
}

// CopyFile makes a tree of a file of our own with the given content, mode and owner:
// what is bound in place of a file that is gone. Must be called on the scratch
// thread.
func (s *Scratch) CopyFile(content []byte, mode uint32, uid, gid int) (*Tree, error) {
	name := "file" + strconv.Itoa(s.spots)
	s.spots++
	var fd int
	err := lookup.Use(s.bench, func(bench int) (err error) {
		fd, err = unix.Openat(bench, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, &OpError{Op: "open", Target: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	_, werr := f.Write(content)
	if err := errors.Join(werr, f.Chown(uid, gid), f.Chmod(os.FileMode(mode&0o777)), f.Close()); err != nil {
		return nil, fmt.Errorf("copy file: %w", err)
	}
	p, err := lookup.Open(s.bench, name, unix.O_PATH, lookup.Beneath)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return CloneDir(p, false, AttrReadOnly|AttrNoDev|AttrNoSuid)
}

// Take clones what is attached at the spot, with all that is mounted below it.
// Must be called on the scratch thread.
func (s *Scratch) Take(spot *Spot) (*Tree, error) { return clone(spot.dir, true) }

// MountOverlay mounts an overlay on kernels without lowerdir+, or whose overlays
// take no layer from a detached mount (before 6.15): the trees that own the layers
// are attached here first, and on the oldest the options go through mount(2),
// which takes one page. Such a kernel cannot clone what is attached nowhere, nor take
// back what was attached: so this stays the owners' home until they are closed, and
// where more overlays of them are made. Must be called on the scratch thread, before
// [Scratch.Lock].
func (s *Scratch) MountOverlay(o Overlay, owners []*Tree) (*Tree, error) {
	for _, t := range owners {
		if t.Home() == s {
			continue
		}
		spot, err := s.Attach(t)
		if err != nil {
			return nil, err
		}
		_ = spot.Close()
		t.home.Store(s.Hold())
	}
	if !s.limits.NoLowerdir {
		t, err := MountOverlay(o)
		if !errors.Is(err, ErrNotSupported) {
			return t, err
		}
		s.limits.NoLowerdir = true // the kernel's log has a line for each try
	}
	return s.mountOverlayByPath(o)
}

func (s *Scratch) mountOverlayByPath(o Overlay) (*Tree, error) {
	var lower []string
	for i := len(o.Layers) - 1; i >= 0; i-- {
		lower = append(lower, fdPath(o.Layers[i]))
	}
	lower = append(lower, fdPath(o.Base))
	data := "lowerdir=" + strings.Join(lower, ":")
	for _, opt := range overlayOptions {
		data += "," + opt.Key + "=" + opt.Value
	}
	if len(data) >= os.Getpagesize() {
		return nil, &OpError{Op: "mount", FSType: "overlay", Target: o.Source, Err: fmt.Errorf(
			"%d layers do not fit into the one page of options that this kernel takes: use fewer extensions, or Linux 6.7", len(lower))}
	}
	name := "overlay" + strconv.Itoa(s.spots)
	s.spots++
	if err := lookup.Use(s.bench, func(bench int) error { return unix.Mkdirat(bench, name, 0o700) }); err != nil {
		return nil, &OpError{Op: "mkdir", Target: name, Err: err}
	}
	place, err := lookup.Open(s.bench, name, unix.O_PATH, lookup.Beneath)
	if err != nil {
		return nil, err
	}
	defer place.Close()
	if err := unix.Mount(o.Source, fdPath(place), "overlay", unix.MS_RDONLY, data); err != nil {
		return nil, &OpError{Op: "mount", FSType: "overlay", Target: o.Source, Err: err}
	}
	at, err := lookup.Open(s.bench, name, unix.O_PATH, lookup.Beneath)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return CloneDir(at, false, o.Attr)
}
