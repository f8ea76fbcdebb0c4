package portable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/vdir"
)

// A shelf is how the directory with links to images and copies of them changes.
type shelf struct {
	dir   string
	mkdir bool     // it is not there
	put   []Change // symlink or copy; what is there of that name goes
	gone  []Change // unlink, once no unit needs them
	// left are the names of copies that go for new ones, and that nobody knows the users of.
	left []string
}

// all are the changes as they are shown.
func (s *shelf) all() (all []Change) {
	if s.mkdir && len(s.put) > 0 {
		all = append(all, Change{Type: "mkdir", Path: s.dir})
	}
	for _, c := range s.put {
		if exists(c.Path) {
			all = append(all, Change{Type: "unlink", Path: c.Path})
		}
		all = append(all, c)
	}
	return append(all, s.gone...)
}

// stage makes what is to be put there, in a directory of its own below, and returns its
// path. On failure nothing is left.
func (s *shelf) stage(ctx context.Context) (string, error) {
	if len(s.put)+len(s.gone) == 0 {
		return "", nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return "", err
	}
	if s.mkdir { // whatever the umask is
		if err := os.Chmod(s.dir, 0o755); err != nil {
			return "", errors.Join(err, s.unmake())
		}
	}
	dir, err := os.MkdirTemp(s.dir, stagePrefix)
	if err != nil {
		return "", errors.Join(err, s.unmake())
	}
	if err := s.fill(ctx, dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir), s.unmake())
	}
	return dir, nil
}

// fill makes what is to be put there in a directory.
func (s *shelf) fill(ctx context.Context, dir string) error {
	for _, c := range s.put {
		var err error
		if c.Type == "symlink" {
			err = os.Symlink(c.Source, filepath.Join(dir, filepath.Base(c.Path)))
		} else {
			err = copyImage(ctx, c.Source, dir, s.dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replacesRoots says whether a copy goes that a service may have as its root until then.
func (s *shelf) replacesRoots() (bool, error) {
	for _, c := range slices.Concat(s.put, s.gone) {
		if is, err := lookAt(c.Path); err != nil || is.source != "" && is.dir {
			return err == nil, err
		}
	}
	return false, nil
}

// unmake removes the directory where stage made it.
func (s *shelf) unmake() error {
	if !s.mkdir {
		return nil
	}
	if err := os.Remove(s.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyImage copies an image into a directory, with what belongs to it by its name; it
// will be moved to the directory shelf.
func copyImage(ctx context.Context, image, into, shelf string) error {
	with, err := beside(image)
	if err != nil {
		return err
	}
	p, err := vdir.Copy(ctx, image, into, with)
	if err != nil {
		return err
	}
	for _, name := range append(with, filepath.Base(image)) {
		at := filepath.Join(filepath.Dir(p.Path()), name)
		if err := unix.Lsetxattr(at, copyOf, []byte(image+"\x00"+filepath.Join(shelf, name)), 0); err != nil {
			return errors.Join(&os.PathError{Op: "setxattr", Path: at, Err: err}, p.Remove())
		}
	}
	if _, err := p.Move(); err != nil {
		return errors.Join(err, p.Remove())
	}
	p.Close()
	return nil
}

// beside are the names of the files that belong to an image, systemd.exec(5), RootHash=.
func beside(image string) (names []string, err error) {
	stem, raw := strings.CutSuffix(image, ".raw")
	if !raw {
		return nil, nil
	}
	for _, suffix := range []string{".verity", ".roothash", ".roothash.p7s", ".usrhash", ".usrhash.p7s"} {
		ok, err := there(stem + suffix)
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, filepath.Base(stem+suffix))
		}
	}
	return names, nil
}

// exchange puts what was staged into the directory: names are exchanged for those that
// are there. It returns them.
func (s *shelf) exchange(staged string) (names []string, err error) {
	if staged == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(staged)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := swap(filepath.Join(staged, e.Name()), filepath.Join(s.dir, e.Name())); err != nil {
			return nil, errors.Join(err, s.exchangeBack(staged, names))
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// exchangeBack is the inverse.
func (s *shelf) exchangeBack(staged string, names []string) error {
	var errs []error
	for _, name := range slices.Backward(names) {
		errs = append(errs, swap(filepath.Join(staged, name), filepath.Join(s.dir, name)))
	}
	return errors.Join(errs...)
}

// clear takes what is not needed any more away, into what was staged: that is removed
// in the end.
func (s *shelf) clear(staged string) error {
	for n, c := range s.gone {
		if err := swap(cleared(staged, n), c.Path); err != nil {
			return errors.Join(err, s.restore(staged, n))
		}
	}
	return nil
}

// restore is the inverse, of the first n.
func (s *shelf) restore(staged string, n int) error {
	var errs []error
	for n, c := range slices.Backward(s.gone[:n]) {
		errs = append(errs, swap(cleared(staged, n), c.Path))
	}
	return errors.Join(errs...)
}

// cleared is where the n-th is that was taken away. A name has no room for a prefix.
func cleared(staged string, n int) string {
	return filepath.Join(staged, fmt.Sprint(stagePrefix, n))
}

// place says where the images are that the units name: at their paths, of which there
// are links where nobody would find them by name, or at those of copies. leaving are
// the images of the attachment that goes, and in use where its units run on; others are
// those of all that stay.
func (h Host) place(images []*Image, r Request, leaving Marker, others []Marker, inUse bool) (*shelf, error) {
	s := &shelf{dir: h.linkDir(r.Runtime)}
	ok, err := there(s.dir)
	if err != nil {
		return nil, err
	}
	s.mkdir = !ok
	for _, i := range images {
		if i.findable(s.dir) {
			continue
		}
		at := filepath.Join(s.dir, filepath.Base(i.Picked))
		if slices.ContainsFunc(s.put, func(c Change) bool { return c.Path == at }) {
			if r.Copy == "mixed" && i.copied() {
				return nil, fmt.Errorf("copy image %q: another image has the same name: rename it, or do without --copy=mixed", i.Picked)
			}
			continue
		}
		is, err := lookAt(at)
		if err != nil {
			return nil, err
		}
		orphan := is.source != "" && !named(others, at)
		used := orphan && inUse // perhaps the root of a service that runs on
		if r.Copy == "mixed" && i.copied() {
			if used {
				return nil, fmt.Errorf("copy image %q: units run that may use %q: stop them, or give --now", i.Picked, at)
			}
			if err := s.copy(i, at, is, leaving, others); err != nil {
				return nil, err
			}
			if orphan && is.dir && !slices.Contains(leaving, at) { // detached, and its services may run on
				s.left = append(s.left, filepath.Base(at))
			}
			continue
		}
		if !used && is.free(at, i.Picked, leaving, others) {
			s.put = append(s.put, Change{Type: "symlink", Path: at, Source: i.Picked})
		}
	}
	return s, nil
}

// free says whether a link to the image can be made there. What is there already is not
// ours to touch, unless it goes with what is attached.
func (is spot) free(at, image string, leaving Marker, others []Marker) bool {
	switch {
	case is.target != "":
		return is.target != image && slices.Contains(leaving, is.target) && !named(others, is.target)
	case is.source != "":
		return slices.Contains(leaving, at) && !named(others, at)
	}
	return !is.taken
}

// findable says whether the image lies where it is found by its name, or is such a
// copy.
func (i *Image) findable(dir string) bool {
	return slices.Contains(searchDirs(), filepath.Dir(i.Picked)) || filepath.Dir(i.Picked) == dir
}

// copied says whether an image can be copied: a ".v/" stays where its versions appear.
func (i *Image) copied() bool { return i.ref.Path == "" || i.ref.Path == i.Picked }

// copy has an image copied, and the units use the copy.
func (s *shelf) copy(i *Image, at string, is spot, leaving Marker, others []Marker) error {
	switch {
	case is.target == i.Picked || is.free(at, i.Picked, leaving, others):
	case is.source == "":
		return fmt.Errorf("copy image %q: %q is there already, and is no copy of it: move one of them", i.Picked, at)
	case named(others, at) && is.source != i.Picked:
		return fmt.Errorf("copy image %q: %q is a copy of %q, which other units use: detach them, or rename the image", i.Picked, at, is.source)
	case named(others, at):
		i.use(at)
		return nil
	}
	with, err := beside(i.Picked)
	if err != nil {
		return err
	}
	for _, name := range with {
		p := filepath.Join(s.dir, name)
		if is, err := lookAt(p); err != nil {
			return err
		} else if is.taken && is.source == "" {
			return fmt.Errorf("copy image %q: %q is there already: move it", i.Picked, p)
		}
	}
	s.put = append(s.put, Change{Type: "copy", Path: at, Source: i.Picked})
	i.use(at)
	return nil
}

// use has the units name another path.
func (i *Image) use(at string) {
	i.Path, i.Picked = at, at
	if i.ref.Path != "" {
		i.ref.Path = at
	}
}

func named(markers []Marker, image string) bool {
	return slices.ContainsFunc(markers, func(m Marker) bool { return slices.Contains(m, image) })
}

// clearOf has the links and copies go that an attach made of images: nothing else,
// however it is called, and none that is still needed. Copies that are in use stay, and
// are returned: a service may have a directory as its root.
func (s *shelf) clearOf(images Marker, others []Marker, inUse bool) (kept []string, err error) {
	for _, image := range images {
		at := filepath.Join(s.dir, filepath.Base(image))
		if named(others, image) || slices.ContainsFunc(s.put, func(c Change) bool { return c.Path == at }) {
			continue
		}
		is, err := lookAt(at)
		if err != nil {
			return nil, err
		}
		switch {
		case is.target == image:
			s.gone = append(s.gone, Change{Type: "unlink", Path: at, Source: image})
		case at != image || is.source == "":
		case inUse:
			kept = append(kept, at)
		default:
			with, err := beside(at)
			if err != nil {
				return nil, err
			}
			for _, name := range append(with, filepath.Base(at)) {
				s.gone = append(s.gone, Change{Type: "unlink", Path: filepath.Join(s.dir, name), Source: is.source})
			}
		}
	}
	return kept, nil
}

// othersThan are the images of all that is attached but one.
func (h Host) othersThan(a *attachment) (others []Marker, err error) {
	all, err := h.attachments()
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if a == nil || o.Runtime != a.Runtime || !o.Marker.exactly(a.Marker) {
			others = append(others, o.Marker)
		}
	}
	return others, nil
}
