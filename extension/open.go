package extension

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/unitfile/settings"
)

// Opened is an extension that fits the service root, as a tree that is attached
// nowhere. It owns the tree.
type Opened struct {
	*Picked
	Classes  []release.Class   // those that it has a release file of
	Release  release.Release   // the file of the first class
	Releases []release.Release // one for each class
	Tree     *nsmount.Tree     // the whole of it; for layers there is Layer
	Info     image.Info        // of an image

	image *image.Image
}

// OpenOptions say what an extension must be.
type OpenOptions struct {
	OS           release.OS // the os-release of the service root
	Architecture string     // in systemd's words; empty: that of the kernel

	Policy           policy.Policy // of images, as the next two
	RequireSignature bool
	VerifiedCopyMax  int64 // bytes
}

// Open makes a tree of what was picked, read-only, and matches it against the
// service root. An error is an [*Error]; it wraps a [*release.MismatchError],
// [release.ErrNoFile] or [policy.ErrDenied] where one of these is the cause.
func Open(ctx context.Context, p *Picked, o OpenOptions) (*Opened, error) {
	opened := &Opened{Picked: p}
	fail := func(step string, err error) (*Opened, error) {
		return nil, &Error{Ref: p.Ref.String(), Step: step, Err: errors.Join(err, opened.Close())}
	}
	err := opened.openPath(ctx, o)
	for try := 0; errors.Is(err, fs.ErrNotExist) && p.Follow(try); try++ {
		err = opened.openPath(ctx, o)
	}
	if err != nil {
		return fail(stepOpen, err)
	}
	if opened.Releases, err = release.FindAll(opened.Tree.File(), p.Name, p.Ref.Relax); err != nil {
		return fail(stepOpen, err)
	}
	for _, r := range opened.Releases {
		if err := r.Match(p.Name, release.Host{OS: o.OS, Architecture: o.Architecture}); err != nil {
			return fail(stepMatch, err)
		}
		opened.Classes = append(opened.Classes, r.Class)
	}
	opened.Release = opened.Releases[0]
	return opened, nil
}

// Follow takes the path that the entry has now, where it is not found at the one that
// it had: another service may have counted a try of it since. It says false where it
// is gone, or was followed often enough.
func (p *Picked) Follow(times int) bool {
	const most = 10
	if p.Entry == nil || times == most {
		return false
	}
	path, err := p.Entry.Path()
	if err == nil {
		p.Path = path
	}
	return err == nil
}

func (o *Opened) openPath(ctx context.Context, opt OpenOptions) error {
	if o.Kind == settings.Image {
		return o.openImage(ctx, opt)
	}
	return o.openDirectory()
}

// errReplaced: what was picked and what would be opened are not the same.
var errReplaced = errors.New("it was replaced meanwhile: try again")

func (o *Opened) openDirectory() error {
	fd, err := unix.Open(o.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: o.Path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), o.Path)
	defer dir.Close()
	// The content is not looked at again: a change in place is visible at once
	// anyhow, and is seen by the next pick.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: o.Path, Err: err}
	}
	if (inode{dev: st.Dev, ino: st.Ino}) != o.file {
		return errReplaced
	}
	o.Tree, err = nsmount.CloneDir(dir, false, nsmount.AttrReadOnly|nsmount.AttrNoDev)
	return err
}

// Close gives the trees up. What an overlay has as its layer stays.
func (o *Opened) Close() error {
	switch {
	case o.image != nil:
		return o.image.Close()
	case o.Tree != nil:
		return o.Tree.Close()
	}
	return nil
}

// Owners are the trees that the layers lie in. The opened extension keeps them.
func (o *Opened) Owners() []*nsmount.Tree {
	if o.image != nil {
		return o.image.Trees()
	}
	return []*nsmount.Tree{o.Tree}
}

// ClassOf is the class whose extensions give a hierarchy.
func ClassOf(hierarchy string) release.Class {
	if h := path.Clean("/" + hierarchy); h == "/etc" || strings.HasPrefix(h, "/etc/") {
		return release.Confext
	}
	return release.Sysext
}

// Layer opens the extension's part of a hierarchy, an absolute path, as an O_PATH
// descriptor that the caller owns. It says false where the extension has none,
// or is not of the class that gives one. The part must be a directory, and not
// be reached through a symbolic link.
func (o *Opened) Layer(hierarchy string) (*os.File, bool, error) {
	if !slices.Contains(o.Classes, ClassOf(hierarchy)) {
		return nil, false, nil
	}
	f, err := o.openDir(hierarchy)
	switch {
	case err == nil:
		return f, true, nil
	case errors.Is(err, unix.ENOENT):
		return nil, false, nil
	case errors.Is(err, unix.ELOOP):
		err = fmt.Errorf("%s in %q is a symbolic link, or lies beyond one: make it a directory", hierarchy, o.Path)
	case errors.Is(err, unix.ENOTDIR):
		err = fmt.Errorf("%s in %q is no directory, or lies below what is none: make it a directory", hierarchy, o.Path)
	}
	return nil, false, &Error{Ref: o.Ref.String(), Step: stepLayer, Err: err}
}

func (o *Opened) openDir(hierarchy string) (*os.File, error) {
	if o.image != nil {
		return o.image.Dir(hierarchy)
	}
	return o.Tree.OpenDir(strings.TrimPrefix(path.Clean("/"+hierarchy), "/"))
}
