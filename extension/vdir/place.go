package vdir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Part is a version on its way into a versioned directory: a copy on the same file
// system, below a name that nobody picks.
type Part struct {
	into, aside string
	names       []string // what belongs to the version first, the version itself last
	moved       []string
}

// Copy makes a copy of a version beside the entries of a versioned directory, with
// files that belong to it by their name, which lie beside it. All of it is on the
// disk when it returns. cp(1) copies: with owners, times, hard links, attributes and
// holes.
func Copy(ctx context.Context, source, into string, beside []string) (*Part, error) {
	p := &Part{into: into, names: append(beside[:len(beside):len(beside)], filepath.Base(source))}
	var err error
	if p.aside, err = os.MkdirTemp(into, ".#"+filepath.Base(source)+"."); err != nil {
		return nil, err
	}
	for _, name := range p.names {
		if err = p.copy(ctx, filepath.Join(filepath.Dir(source), name)); err != nil {
			break
		}
	}
	if err == nil {
		err = p.sync()
	}
	if err != nil {
		return nil, errors.Join(err, p.Remove())
	}
	return p, nil
}

func (p *Part) copy(ctx context.Context, from string) error {
	c := exec.CommandContext(ctx, "cp", "-a", "-T", "--", from, filepath.Join(p.aside, filepath.Base(from)))
	out, err := c.CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(string(out), "\n") // on a full disk there is one for each file
		return fmt.Errorf("copy %q: %w: %s", from, cmp.Or(context.Cause(ctx), err), first)
	}
	return nil
}

// sync writes all of it to the disk: a rename that is there after a crash must not
// lead to what is not.
func (p *Part) sync() error {
	dir, err := os.Open(p.aside)
	if err != nil {
		return err
	}
	defer dir.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// Path is where the copy is, under its own name.
func (p *Part) Path() string { return filepath.Join(p.aside, p.names[len(p.names)-1]) }

// Move renames the copy into the directory, and never onto something. It returns the
// path that it has then.
func (p *Part) Move() (path string, err error) {
	for _, name := range p.names {
		path = filepath.Join(p.into, name)
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(p.aside, name), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if err != nil {
			return "", &os.LinkError{Op: "rename", Old: filepath.Join(p.aside, name), New: path, Err: err}
		}
		p.moved = append(p.moved, path)
	}
	if err := os.Remove(p.aside); err != nil {
		return "", err
	}
	dir, err := os.Open(p.into)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return path, dir.Sync()
}

// Remove takes back what Copy and Move did. What was moved gets a name that nobody
// picks before it is removed: nobody sees half of it.
func (p *Part) Remove() error {
	if err := os.Mkdir(p.aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var errs []error
	for i := len(p.moved) - 1; i >= 0; i-- {
		err := os.Rename(p.moved[i], filepath.Join(p.aside, filepath.Base(p.moved[i])))
		if !errors.Is(err, fs.ErrNotExist) { // somebody was faster
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(p.aside))...)
}
