package release

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoFile is returned for a tree that has no release file of a class: it is no
// extension of that class.
var ErrNoFile = errors.New("no release file")

// Class says which hierarchies an extension is for.
type Class int

// The classes: a sysext is for /usr and /opt, a confext for /etc.
const (
	Sysext Class = iota + 1
	Confext
)

// Classes are all of them, in the order in which systemd looks for them.
func Classes() []Class { return []Class{Sysext, Confext} }

func (c Class) String() string {
	switch c {
	case Sysext:
		return "sysext"
	case Confext:
		return "confext"
	}
	return fmt.Sprintf("Class(%d)", int(c))
}

// Dir is the directory of a tree that has the release files of this class.
func (c Class) Dir() string {
	if c == Confext {
		return "/etc/extension-release.d"
	}
	return "/usr/lib/extension-release.d"
}

// FileOf is the path that the release file of an extension with that name has in its
// tree, for a class: without the version, so that it counts for every one.
func FileOf(c Class, name string) string { return c.Dir() + "/" + filePrefix + BaseName(name) }

// LevelField is the name of the field that says which level of a system an
// extension of this class fits.
func (c Class) LevelField() string { return c.prefix() + "LEVEL" }

func (c Class) prefix() string { return strings.ToUpper(c.String()) + "_" }

// Release is an extension's release file.
type Release struct {
	Class  Class
	File   string // where it was found in the tree
	Fields map[string]string
}

const (
	filePrefix = "extension-release."

	// strictXattr, when it is false, lets a file count whatever its name.
	strictXattr = "user.extension-release.strict"

	// maxEntries bounds how much of a foreign directory is looked at.
	maxEntries = 4096
)

// noFileError is ErrNoFile with what was looked for, and what was there instead.
type noFileError struct {
	path string
	note string
}

func (e *noFileError) Error() string {
	return fmt.Sprintf("%v %s%s", ErrNoFile, e.path, e.note)
}

func (e *noFileError) Is(target error) bool { return target == ErrNoFile }

// FindAll looks for the release files of all classes, as [Find] does. An
// extension can have several. Without any, the error is [ErrNoFile].
func FindAll(root *os.File, name string, relax bool) ([]Release, error) {
	var found []Release
	var paths, notes string
	for _, class := range Classes() {
		r, err := Find(root, class, name, relax)
		var none *noFileError
		switch {
		case err == nil:
			found = append(found, r)
		case errors.As(err, &none):
			paths += fmt.Sprintf(" or %s (a %s)", none.path, class)
			notes += none.note
		default:
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%q has %w%s: it needs %s", name, ErrNoFile, notes, strings.TrimPrefix(paths, " or "))
	}
	return found, nil
}

// Find looks for the release file of one class in a tree, whose top directory is
// given and may be an O_PATH descriptor. The file must be named after the
// extension; else it counts if it is named after [BaseName] of it, if its author
// said that the name does not matter, or with relax. Two files that count so are
// an error.
//
// Where there is none, the error is [ErrNoFile], wrapped with what was found
// instead.
func Find(root *os.File, class Class, name string, relax bool) (Release, error) {
	if !ValidName(name) {
		return Release{}, fmt.Errorf("look for the release file of %q: this cannot be the name of an extension", name)
	}
	r := Release{Class: class, File: class.Dir() + "/" + filePrefix + name}
	f, err := openExact(root, r.File)
	if errors.Is(err, unix.ELOOP) {
		return Release{}, fmt.Errorf("%w: a link leads back to itself: put the release file itself there", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.File, f, err = scan(root, class, name, relax, danglingNote(root, r.File))
	}
	if err != nil {
		return Release{}, err
	}
	defer f.Close()
	r.Fields, err = readFields(f)
	return r, err
}

func openExact(root *os.File, path string) (*os.File, error) {
	pinned, err := openIn(root, path, 0)
	if err != nil {
		return nil, err
	}
	return openRegular(pinned)
}

// danglingNote explains a file that is there, as a symbolic link, and not there
// when it is followed inside the tree.
func danglingNote(root *os.File, path string) string {
	link, err := openIn(root, path, unix.O_NOFOLLOW)
	if err != nil {
		return ""
	}
	defer link.Close()
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(link.Fd()), "", target)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; %q is a symbolic link to %q, which is not in the extension", path, target[:n])
}

// scan looks at all files of the class's directory. Only regular files count,
// not symbolic links to them.
func scan(root *os.File, class Class, name string, relax bool, note string) (string, *os.File, error) {
	missing := func(note string) error {
		return &noFileError{path: class.Dir() + "/" + filePrefix + name, note: note}
	}
	names, err := readNames(root, class.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, missing(note)
	}
	if err != nil {
		return "", nil, err
	}
	var path string
	var found *os.File
	for _, entry := range names {
		suffix, ok := strings.CutPrefix(entry, filePrefix)
		if !ok || !ValidName(suffix) || suffix == name {
			continue // The exact name was tried: it leads nowhere, and the note says so.
		}
		f, err := openEntry(root, class.Dir()+"/"+entry)
		if err != nil {
			note += "; " + err.Error()
			continue
		}
		if !relax && suffix != BaseName(name) && !freeName(f) {
			note += fmt.Sprintf("; %q has another name", class.Dir()+"/"+entry)
			_ = f.Close()
			continue
		}
		if found != nil {
			_, _ = f.Close(), found.Close()
			return "", nil, fmt.Errorf("look for the release file of %q: two release files, %q and %q: "+
				"remove one, or name one of them %q", name, path, class.Dir()+"/"+entry, filePrefix+name)
		}
		path, found = class.Dir()+"/"+entry, f
	}
	if found == nil {
		return "", nil, missing(note)
	}
	return path, found, nil
}

func readNames(root *os.File, dir string) ([]string, error) {
	pinned, err := openIn(root, dir, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer pinned.Close()
	d, err := reopen(pinned, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("read %q: more than %d entries", dir, maxEntries)
	}
	return names, nil
}

// openEntry opens an entry that is a regular file itself.
func openEntry(root *os.File, path string) (*os.File, error) {
	pinned, err := openIn(root, path, unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return openRegular(pinned)
}

// freeName says whether a file's author wrote that its name does not matter:
// the attribute is there and is a false boolean.
func freeName(f *os.File) bool {
	value := make([]byte, 16)
	n, err := unix.Fgetxattr(int(f.Fd()), strictXattr, value)
	if err != nil {
		return false // Without it, or unreadable: strict.
	}
	switch strings.ToLower(string(value[:n])) {
	case "0", "no", "n", "false", "f", "off":
		return true
	}
	return false
}
