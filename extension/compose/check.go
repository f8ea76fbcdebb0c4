package compose

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/architecture"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/internal/lookup"
)

// Hierarchies are the directories that an extension of a class carries, without
// the slash before them.
func Hierarchies(c release.Class) []string {
	if c == release.Confext {
		return []string{"etc"}
	}
	return []string{"usr", "opt"}
}

// Check says which release files a directory has that is to become the image of an
// extension with that name, one for each class. It refuses one without, one that
// fits nothing, and a directory that has more than extensions of these classes
// carry. Of the classes, only those that are given count; none given are all.
func Check(dir *os.File, name string, only ...release.Class) ([]release.Release, error) {
	all, err := release.FindAll(dir, name, false)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r release.Release) bool { return len(only) > 0 && !slices.Contains(only, r.Class) })
	if len(all) == 0 {
		return nil, fmt.Errorf("%q has no release file of a %s", name, only[0])
	}
	var classes []release.Class
	for _, r := range all {
		if err := CheckFields(r.Fields); err != nil {
			return nil, fmt.Errorf("%s: %w", r.File, err)
		}
		classes = append(classes, r.Class)
	}
	return all, Contents(dir, classes...)
}

// CheckFields refuses a release file that fits no system.
func CheckFields(fields map[string]string) error {
	if fields["ID"] == "" {
		return errors.New("it has no ID=, so it fits no system: write that of os-release, or ID=_any")
	}
	if a := fields["ARCHITECTURE"]; a != "" && a != "_any" && !architecture.Known(a) {
		return fmt.Errorf("ARCHITECTURE=%q is no architecture that systemd knows: write x86-64, arm64, ..., or _any", a)
	}
	return nil
}

// ClassesOf says for which classes a directory has something.
func ClassesOf(dir *os.File) ([]release.Class, error) {
	names, err := list(dir)
	if err != nil {
		return nil, err
	}
	var classes []release.Class
	for _, c := range release.Classes() {
		if slices.ContainsFunc(Hierarchies(c), func(h string) bool { return slices.Contains(names, h) }) {
			classes = append(classes, c)
		}
	}
	return classes, nil
}

// Contents refuses a directory that has more than extensions of these classes
// carry: it would be in the image, and never be seen.
func Contents(dir *os.File, classes ...release.Class) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	var carried, words []string
	for _, c := range classes {
		carried = append(carried, Hierarchies(c)...)
		words = append(words, c.String())
	}
	for _, name := range names {
		if !slices.Contains(carried, name) {
			return fmt.Errorf("it has %q, and a %s carries only /%s: move it out", name, strings.Join(words, " and "), strings.Join(carried, " and /"))
		}
		f, err := lookup.Open(dir, name, unix.O_PATH|unix.O_NOFOLLOW, lookup.Beneath)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		_ = f.Close()
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return fmt.Errorf("its %q is no directory: make it one", name)
		}
	}
	return forbidden(dir, classes)
}

// forbidden refuses what systemd-sysext refuses: an extension is no system.
func forbidden(dir *os.File, classes []release.Class) error {
	const path = "usr/lib/os-release"
	if !slices.Contains(classes, release.Sysext) {
		return nil
	}
	f, err := lookup.Open(dir, path, unix.O_PATH|unix.O_NOFOLLOW, lookup.Beneath)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	return fmt.Errorf("it has %q, which would hide that of the system, and systemd-sysext refuses it: remove it", path)
}

// list gives the names right below a directory, sorted.
func list(dir *os.File) ([]string, error) {
	f, err := lookup.Open(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, lookup.Beneath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}
