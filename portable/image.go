package portable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/internal/pathtrust"
	"github.com/extexec/extexec/unitfile/settings"
)

// verifiedCopyMax bounds the data of an image with a hash tree that is read to look at
// its units: as VerifiedCopyMax= is by default.
const verifiedCopyMax = 256 << 20

// An Image is a base or an extension, open and read-only.
type Image struct {
	Path   string // as it stands in a drop-in: of an extension perhaps a ".v/"
	Picked string // what that is now
	Kind   settings.Kind
	// Fields are os-release's of a base, the first release file's of an extension.
	Fields map[string]string
	// Classes are "sysext" and "confext"; nil of a base.
	Classes []string

	ref   settings.Ref // of an extension
	root  *os.File
	own   io.Closer
	guard protection // of an image file
}

// Close gives up what is open.
func (i *Image) Close() error { return i.own.Close() }

// openBase opens what units have as their root. Of a ".v/" the newest version is taken
// and stays: the units are that version's.
func (h Host) openBase(ctx context.Context, given string) (*Image, error) {
	path, err := h.find(given, searchDirs())
	if err != nil {
		return nil, err
	}
	result, err := vpick.Pick(path, vpick.Options{}, vpick.Any()...)
	if err != nil {
		return nil, fmt.Errorf("open base image %q: %w", path, err)
	}
	i := &Image{Path: result.Picked().Path, Picked: result.Picked().Path, Kind: settings.Directory}
	if result.Picked().Type != vpick.Directory {
		i.Kind = settings.Image
	}
	if err := h.trust(i.Picked); err != nil {
		return nil, err
	}
	if err := i.open(ctx); err != nil {
		return nil, fmt.Errorf("open base image %q: %w", i.Path, err)
	}
	if err := i.readOS(); err != nil {
		return nil, errors.Join(fmt.Errorf("open base image %q: %w", i.Path, err), i.Close())
	}
	return i, nil
}

func (i *Image) open(ctx context.Context) error {
	if i.Kind == settings.Directory {
		fd, err := unix.Open(i.Picked, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: i.Picked, Err: err}
		}
		i.root = os.NewFile(uintptr(fd), i.Picked)
		i.own = i.root
		return nil
	}
	f, err := openFile(i.Picked)
	if err != nil {
		return err
	}
	defer f.Close()
	opened, err := image.Open(ctx, f, i.Picked, image.Options{Policy: policy.Default(), CopyMax: verifiedCopyMax})
	if err != nil {
		return err
	}
	i.root, i.own = opened.Tree.File(), opened
	return i.measure(f)
}

func openFile(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// readOS reads os-release of a base, and holds it against what a base must say.
func (i *Image) readOS() error {
	system, err := release.ReadOS(i.root)
	if err != nil {
		return err
	}
	i.Fields = system.Fields
	if i.Fields["ID"] == "" {
		return fmt.Errorf("%s has no ID=, so no extension could be matched with it: give it one", system.File)
	}
	switch scope := i.Fields["PORTABLE_SCOPE"]; scope {
	case "", "system", "any":
		return nil
	default:
		return fmt.Errorf("%s has PORTABLE_SCOPE=%q, and services of the system need \"system\" or \"any\"", system.File, scope)
	}
}

// openExtension opens an extension, and matches it with the base, a confext as a
// confext.
func (h Host) openExtension(ctx context.Context, given string, base *Image, force bool) (*Image, error) {
	path, err := h.find(given, append(searchDirs(), "/etc/extensions", "/run/extensions", "/var/lib/extensions", "/run/confexts", "/var/lib/confexts"))
	if err != nil {
		return nil, err
	}
	kind := kindOf(path)
	ref := settings.Ref{Kind: kind, Path: path, Relax: force && kind == settings.Image}
	picked, err := extension.Pick(ref, extension.PickOptions{Given: true})
	if err != nil {
		return nil, err
	}
	if err := h.trust(picked.Path); err != nil {
		return nil, err
	}
	system := release.OS{File: "os-release", Fields: base.Fields}
	opened, err := extension.Open(ctx, picked, extension.OpenOptions{OS: system, Policy: policy.Default(), VerifiedCopyMax: verifiedCopyMax})
	if err != nil {
		return nil, err
	}
	i := &Image{Path: path, Picked: picked.Path, Kind: kind, Fields: opened.Release.Fields, ref: ref, root: opened.Tree.File(), own: opened}
	for _, r := range opened.Releases {
		i.Classes = append(i.Classes, r.Class.String())
		if err := r.Match(picked.Name, release.Host{OS: system, Scope: "portable"}); err != nil {
			return nil, errors.Join(fmt.Errorf("extension %q: %w", path, err), i.Close())
		}
		if err := h.known(path, r.File); err != nil {
			return nil, errors.Join(err, i.Close())
		}
	}
	if kind == settings.Image {
		f, err := openFile(picked.Path)
		if err == nil {
			err = errors.Join(i.measure(f), f.Close())
		}
		if err != nil {
			return nil, errors.Join(err, i.Close())
		}
	}
	return i, nil
}

// known refuses an extension whose release file systemd would not find at a start: 252
// takes the version in the name of an extension for a part of its name.
func (h Host) known(extension, releaseFile string) error {
	name := strings.TrimSuffix(filepath.Base(extension), ".raw")
	short := shortName(name)
	if v := h.Facts.Systemd; v == 0 || v > 252 || short == name || filepath.Ext(name) == ".v" || !strings.HasSuffix(releaseFile, "/extension-release."+short) {
		return nil
	}
	return fmt.Errorf("extension %q: systemd %d looks for a file extension-release.%s in it, and there is extension-release.%s: call it %s%s", extension, h.Facts.Systemd,
		name, short, short, strings.TrimPrefix(filepath.Base(extension), name))
}

// kindOf says as what a path is listed in a unit.
func kindOf(path string) settings.Kind {
	st, err := os.Stat(path)
	switch {
	case strings.HasSuffix(path, ".raw.v"):
		return settings.Image
	case err == nil && !st.IsDir():
		return settings.Image
	case err == nil && strings.HasSuffix(path, ".v"):
		if _, err := vpick.Pick(path, vpick.Options{}, vpick.Dir()); err != nil {
			return settings.Image
		}
	case err != nil && strings.HasSuffix(path, ".raw"):
		return settings.Image
	}
	return settings.Directory
}

// searchDirs are where an image is found by its name, portablectl(1).
func searchDirs() []string {
	return []string{"/etc/portables", "/run/portables", "/usr/local/lib/portables", "/usr/lib/portables", "/var/lib/portables"}
}

// find gives the absolute path of what was given: a path, or the name of an image in
// the directories. A link that an earlier attach made is followed.
func (h Host) find(given string, dirs []string) (string, error) {
	if given == "" {
		return "", errors.New("find image: the name is empty")
	}
	if strings.Contains(given, "/") {
		abs, err := filepath.Abs(given)
		if err != nil {
			return "", fmt.Errorf("find image %q: %w", given, err)
		}
		return abs, nil
	}
	if !release.ValidName(given) {
		return "", fmt.Errorf("find image %q: this cannot be the name of an image", given)
	}
	for _, dir := range dirs {
		for _, suffix := range []string{"", ".raw", ".v", ".raw.v"} {
			p := h.path(dir, given+suffix)
			if _, err := os.Lstat(p); err != nil {
				continue
			}
			if target, err := os.Readlink(p); err == nil && filepath.IsAbs(target) {
				return target, nil
			}
			return p, nil
		}
	}
	return "", fmt.Errorf("find image %q: it is in none of %s: %w: give its path", given, strings.Join(dirs, ", "), fs.ErrNotExist)
}

// trust refuses what somebody else than root could replace.
func (h Host) trust(path string) error {
	if h.AllowUntrusted {
		return nil
	}
	return pathtrust.Check(path)
}
