package portable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/lookup"
	"github.com/extexec/extexec/unitfile"
)

const (
	maxUnitSize  = 1 << 20
	maxUnitsSize = 64 << 20 // of all, which are held in memory
	maxEntries   = 1 << 14
)

// A UnitFile is a unit of an image.
type UnitFile struct {
	Name string
	Text []byte
	From *Image
	// Source is the file: in the image, and of a directory on the host.
	Source, HostPath string
}

// unitDirs are where an image has its units, the first one wins.
func unitDirs() []string {
	return []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// unitFiles are the units of the images with one of the prefixes, by name. A unit of the
// base counts, not that of an extension with the same name.
func unitFiles(images []*Image, prefixes []string) ([]UnitFile, error) {
	var found []UnitFile
	size := 0
	for _, i := range images {
		for _, dir := range unitDirs() {
			names, err := i.names(dir)
			if err != nil {
				return nil, fmt.Errorf("read units of image %q: %w", i.Path, err)
			}
			for _, name := range names {
				if !attachable(name) || !hasPrefix(name, prefixes) || slices.ContainsFunc(found, func(u UnitFile) bool { return u.Name == name }) {
					continue
				}
				u, masked, err := i.unit(dir, name)
				if err != nil {
					return nil, fmt.Errorf("read unit %q of image %q: %w", name, i.Path, err)
				}
				if size += len(u.Text); size > maxUnitsSize {
					return nil, fmt.Errorf("read units of image %q: they have more than %d bytes: name a prefix that fewer have", i.Path, maxUnitsSize)
				}
				if !masked {
					found = append(found, u)
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b UnitFile) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// names lists a directory of the image, sorted. What is not there has none.
func (i *Image) names(dir string) ([]string, error) {
	f, err := lookup.Open(i.root, dir, unix.O_RDONLY|unix.O_DIRECTORY, lookup.InRoot)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%s has more than %d entries", dir, maxEntries)
	}
	slices.Sort(names)
	return names, nil
}

// unit reads one unit. A link is followed inside the image; one that masks the unit, and
// an empty file, is no unit.
func (i *Image) unit(dir, name string) (u UnitFile, masked bool, err error) {
	if err := attachableAs(name); err != nil {
		return u, false, err
	}
	u = UnitFile{Name: name, From: i, Source: dir + "/" + name}
	target := i.link(u.Source)
	if target == "/dev/null" {
		return u, true, nil
	}
	f, err := lookup.Open(i.root, u.Source, unix.O_PATH, lookup.InRoot)
	switch {
	case target != "" && errors.Is(err, fs.ErrNotExist):
		return u, false, fmt.Errorf("it is a symbolic link to %q, which is not in the image: put the unit in, or take the link out", target)
	case err != nil:
		return u, false, err
	}
	defer f.Close()
	if u.Text, err = readRegular(f); err != nil {
		return u, false, err
	}
	u.HostPath, err = os.Readlink(fdPath(f))
	return u, len(u.Text) == 0, err
}

// readRegular reads the file that an O_PATH descriptor stands for. Nothing else is
// opened: to open a device can be enough for it to act, a watchdog say.
func readRegular(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("it is no regular file: put the unit in, or take this out")
	case st.Size() > maxUnitSize:
		return nil, fmt.Errorf("it has %d bytes, and a unit may have %d", st.Size(), maxUnitSize)
	}
	r, err := openFile(fdPath(f))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxUnitSize))
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// attachableAs refuses a name that is none, and one whose drop-ins would not be the
// unit's alone: "web-.service.d" is read for every "web-*.service" of the host,
// systemd.unit(5).
func attachableAs(name string) error {
	n, err := unitfile.ParseName(name)
	switch {
	case err != nil:
		return err
	case strings.HasSuffix(n.Prefix(), "-"):
		return fmt.Errorf("its drop-ins would be those of every unit of the host that begins with %q: rename it in the image", n.Prefix())
	case len(name)+len(".d") > unix.NAME_MAX:
		return fmt.Errorf("its name has %d bytes, and with drop-ins it may have %d: rename it in the image", len(name), unix.NAME_MAX-len(".d"))
	}
	return nil
}

// link is where a symbolic link of the image points to, "" for what is none.
func (i *Image) link(path string) string {
	f, err := lookup.Open(i.root, path, unix.O_PATH|unix.O_NOFOLLOW, lookup.InRoot)
	if err != nil {
		return ""
	}
	defer f.Close()
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", target)
	if err != nil {
		return ""
	}
	return string(target[:n])
}
