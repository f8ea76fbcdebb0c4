package extension

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/unitfile/settings"
)

func (o OpenOptions) image(p *Picked) image.Options {
	return image.Options{
		Policy: o.Policy, RequireSignature: o.RequireSignature, CopyMax: o.VerifiedCopyMax, Stems: stems(p.Path),
		RootOptions: p.Ref.Options["root"], UsrOptions: p.Ref.Options["usr"],
	}
}

func (o *Opened) openImage(ctx context.Context, opt OpenOptions) error {
	f, err := openFile(o.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := complete(f); err != nil {
		return err
	}
	i, err := image.Open(ctx, f, o.Path, opt.image(o.Picked))
	if err != nil {
		// What is wrong with another image says nothing of the one that was picked.
		if now, ierr := identify(f, o.Path, settings.Image); ierr == nil && now.unread == nil && now.identity != o.Identity {
			err = fmt.Errorf("%w: %w", o.other(), err)
		}
		return err
	}
	// What was verified is what counts: what lies beside the image may have been replaced
	// since the pick.
	if err := o.still(f, i.Info.RootHash); err != nil {
		return errors.Join(err, i.Close())
	}
	o.image, o.Tree, o.Info = i, i.Tree, i.Info
	return nil
}

// still says whether an open image is what was picked, by the root hash that it turned out
// to have.
func (p *Picked) still(f *os.File, root []byte) error {
	now, err := identifyImage(f, root)
	if err == nil && now.identity != p.Identity {
		err = p.other()
	}
	return err
}

// other says why an image is not what was picked.
func (p *Picked) other() error {
	if p.Unread != nil {
		return fmt.Errorf("it could not be read when it was picked: try again: %w", p.Unread)
	}
	return errReplaced
}

func openFile(path string) (*os.File, error) {
	// O_NONBLOCK: what was a file may have been replaced by a fifo.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Judge says whether the policy and the signatures, as they are now, let an image be used. It is for one that is not
// opened because nothing of it has changed: a certificate that was taken away counts then, too. Directories have
// neither.
func Judge(p *Picked, o OpenOptions) error {
	if p.Kind != settings.Image {
		return nil
	}
	err := judge(p, o)
	for try := 0; errors.Is(err, fs.ErrNotExist) && p.Follow(try); try++ {
		err = judge(p, o)
	}
	if err != nil {
		return &Error{Ref: p.Ref.String(), Step: stepOpen, Err: err}
	}
	return nil
}

func judge(p *Picked, o OpenOptions) error {
	f, err := openFile(p.Path)
	if err != nil {
		return err
	}
	root, err := image.Judge(f, p.Path, o.image(p))
	if err == nil {
		err = p.still(f, root)
	}
	return errors.Join(err, f.Close())
}

// Corrupted says whether the kernel has seen a changed block in the image that is
// mounted from a device that verifies it, see [image.Info].
func Corrupted(device string) bool { return device != "" && image.Corrupted(device) }

// rootHash gives the root hash of an image, nil where it has none. What is wrong with
// it, opening it says; an error is one of the system's, and nobody knows then.
func rootHash(f *os.File, path string) (root []byte, err error) {
	// f may be an O_PATH descriptor.
	g, err := openFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, err
	}
	defer g.Close()
	root, err = image.RootHash(g, path, stems(path))
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return nil, err
	}
	return root, nil
}

// stems are what the names of files beside an image begin with: root hash,
// signature and hash tree. Counters of tries come and go in the name of a version,
// and the names of those need not follow; an image would lose its protection with
// a rename.
func stems(path string) []string {
	stem := strings.TrimSuffix(path, ".raw")
	dir, plain := filepath.Dir(path), vpick.WithoutTries(stem)
	all := []string{stem}
	if plain != stem {
		all = append(all, plain)
	}
	if filepath.Ext(dir) != ".v" {
		return all
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return all // The files themselves are looked for all the same.
	}
	for _, e := range entries {
		name, ok := besideSuffix(e.Name())
		if other := filepath.Join(dir, name); ok && other != stem && other != plain && vpick.WithoutTries(other) == plain {
			all = append(all, other)
		}
	}
	return all
}

// besideSuffix takes the end off the name of a file that belongs to an image.
func besideSuffix(name string) (string, bool) {
	for _, suffix := range besideSuffixes() {
		if stem, ok := strings.CutSuffix(name, suffix); ok {
			return stem, true
		}
	}
	return "", false
}

func besideSuffixes() []string {
	return []string{".verity", ".roothash", ".usrhash", ".roothash.p7s", ".usrhash.p7s"}
}
