package vdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/aside"
)

// asidePrefix begins the names below which a version is put together; a name that
// begins with ".#" is never picked.
const asidePrefix = ".#extexec."

// A Part is a version on its way into a versioned directory: a copy on the same file
// system, below a name that nobody picks.
type Part struct {
	into, version string
	beside        []string // what belongs to the version by its name
	aside         *os.File // the directory with the copy; nil once it is gone
	moved         *Version // where it is, once it was renamed into place
	pin           *os.File // what was moved: while it is open, nothing else gets its inode number
}

// Copy makes a copy of a version beside the entries of a versioned directory, with
// files that belong to it by their name, which lie beside it. What is a link itself is
// followed; links below it are copied. All of it is on the
// disk when it returns. cp(1) copies: with owners, times, hard links, attributes and
// holes. Copies whose makers were killed are removed.
func Copy(ctx context.Context, source, into string, beside []string) (*Part, error) {
	if err := Sweep(into); err != nil {
		return nil, err
	}
	p := &Part{into: into, version: filepath.Base(source), beside: beside}
	if err := p.putAside(); err != nil {
		return nil, err
	}
	var err error
	for _, name := range append(slices.Clone(beside), p.version) {
		if err = p.copy(ctx, filepath.Join(filepath.Dir(source), name)); err != nil {
			break
		}
	}
	if err == nil {
		err = os.NewSyscallError("syncfs", unix.Syncfs(int(p.aside.Fd()))) // a rename that is there after a crash must not lead to what is not
	}
	if err != nil {
		return nil, errors.Join(err, p.Remove())
	}
	return p, nil
}

// Sweep removes the copies from a directory whose makers were killed.
func Sweep(dir string) error {
	if err := aside.Sweep(dir, asidePrefix, discard); err != nil {
		return fmt.Errorf("remove what was left behind: %w", err)
	}
	return nil
}

func (p *Part) putAside() (err error) {
	p.aside, err = aside.Dir(p.into, asidePrefix+p.version+".")
	return err
}

func (p *Part) copy(ctx context.Context, from string) error {
	c := exec.CommandContext(ctx, "cp", "-a", "-H", "-T", "--", from, filepath.Join(p.aside.Name(), filepath.Base(from)))
	// It ends with us; until it has, what it writes to is held.
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.ExtraFiles = []*os.File{p.aside}
	out, err := c.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("copy %q: %w", from, context.Cause(ctx))
	}
	// It goes on after an error, and each further one has the same cause most often.
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if first == "" { // it was not even started
		return fmt.Errorf("copy %q: %w", from, err)
	}
	return fmt.Errorf("copy %q: %w: %s", from, err, first)
}

// Path is where the copy is, under its own name.
func (p *Part) Path() string { return filepath.Join(p.aside.Name(), p.version) }

// Moved says whether the version was renamed into the directory, by Move.
func (p *Part) Moved() bool { return p.moved != nil }

// Move puts the copy into the directory, and never onto something: first what belongs
// to it, at last, by a rename, the version itself. It returns the path that it has then.
func (p *Part) Move() (path string, err error) {
	st, err := p.hold()
	if err != nil {
		return "", err
	}
	for _, name := range p.beside {
		// A link, and no rename: by it is known later that the file is ours.
		if err := os.Link(filepath.Join(p.aside.Name(), name), filepath.Join(p.into, name)); err != nil {
			return "", err
		}
	}
	path = filepath.Join(p.into, p.version)
	if err := unix.Renameat2(unix.AT_FDCWD, p.Path(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		return "", &os.LinkError{Op: "rename", Old: p.Path(), New: path, Err: err}
	}
	p.moved = At(path, suffixOf(path), st.Dev, st.Ino)
	if err := p.discard(); err != nil {
		return "", err
	}
	dir, err := os.Open(p.into)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return path, dir.Sync()
}

// hold opens the copy, for as long as it may be taken back: by then it has been in
// everybody's reach.
func (p *Part) hold() (st unix.Stat_t, err error) {
	fd, err := unix.Open(p.Path(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, &fs.PathError{Op: "open", Path: p.Path(), Err: err}
	}
	p.pin = os.NewFile(uintptr(fd), p.Path())
	if err := unix.Fstat(fd, &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: p.Path(), Err: err}
	}
	return st, nil
}

func suffixOf(path string) string {
	if filepath.Ext(path) == ".raw" {
		return ".raw"
	}
	return ""
}

// Remove takes back what Copy and Move did. What was moved gets a name that nobody
// picks before it is removed: nobody sees half of it.
func (p *Part) Remove() error {
	defer p.Close()
	if p.moved == nil {
		return p.discard()
	}
	if err := p.moveBack(); err != nil {
		return err
	}
	for _, name := range p.beside { // also where the version is gone
		if err := removeLink(filepath.Join(p.into, name), filepath.Join(p.aside.Name(), name)); err != nil {
			return err
		}
	}
	return p.discard()
}

// Close gives up what is held for [Part.Remove], which calls it itself; there is nothing
// to take back afterwards.
func (p *Part) Close() {
	p.letGo()
	if p.pin != nil {
		p.pin.Close() // nothing was written through it
	}
	p.pin, p.moved = nil, nil
}

// moveBack undoes the rename of Move. The version may count tries by now.
func (p *Part) moveBack() error {
	if p.aside == nil {
		if err := p.putAside(); err != nil {
			return err
		}
	}
	for _, name := range p.beside {
		err := os.Link(filepath.Join(p.into, name), filepath.Join(p.aside.Name(), name))
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	path, err := p.moved.Path()
	if err == nil {
		err = os.Rename(path, p.Path())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is gone: somebody was faster
		return err
	}
	p.moved = nil
	return nil
}

func (p *Part) discard() error {
	if p.aside == nil {
		return nil
	}
	if err := discard(p.aside.Name()); err != nil {
		return err
	}
	p.letGo()
	return nil
}

// letGo gives the lock up: what is left is for the next copy to remove.
func (p *Part) letGo() {
	if p.aside != nil {
		p.aside.Close()
	}
	p.aside = nil
}

// discard removes a directory with a copy. Where the version itself is still in it,
// what belongs to it is taken out of the directory above, too.
func discard(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	version := strings.TrimPrefix(filepath.Base(dir), asidePrefix)
	version = version[:max(0, strings.LastIndex(version, "."))]
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == version }) {
		for _, e := range entries {
			if err := removeLink(filepath.Join(filepath.Dir(dir), e.Name()), filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}

// removeLink removes a path that is the same file as another one.
func removeLink(path, other string) error {
	one, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	two, err := os.Lstat(other)
	if err != nil || !os.SameFile(one, two) {
		return err
	}
	return os.Remove(path)
}
