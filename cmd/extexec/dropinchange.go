package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/extexec/extexec/internal/aside"
	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/units/manager"
)

// A change is a drop-in that is written, or, without a text, removed.
type change struct {
	unit, path string
	text       []byte
	hook       func(point string) error // for tests, see steps.Run
}

// A reloader is what a change needs of systemd: *manager.Manager, and what a test
// puts in its place to fail.
type reloader interface {
	DaemonReload(ctx context.Context) error
	Unit(ctx context.Context, name string) (manager.Unit, error)
}

// apply is the transaction: the file, then systemd. When it fails, the file is as it
// was, and systemd has read that.
func (c change) apply(ctx context.Context, m reloader) (err error) {
	run := &steps.Run{Hook: c.hook}
	defer func() {
		if err != nil {
			err = errors.Join(err, run.Undo(ctx))
		}
		err = errors.Join(err, run.Close())
	}()
	run.OnUndo("daemon-reload", m.DaemonReload) // once the file is back
	if _, err := steps.Do(ctx, run, "write", c.write()); err != nil {
		return err
	}
	if _, err := steps.Do(ctx, run, "daemon-reload", steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.DaemonReload(ctx)
	}}); err != nil {
		return err
	}
	_, err = steps.Do(ctx, run, "look", steps.Step[struct{}]{Do: func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.look(ctx, m)
	}})
	return err
}

// write is the step that changes the file; its inverse puts back what was there.
func (c change) write() steps.Step[[]byte] {
	return steps.Step[[]byte]{
		Do: func(context.Context) ([]byte, error) {
			old, err := os.ReadFile(c.path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			return old, put(c.path, c.text)
		},
		Undo: func(_ context.Context, old []byte) error { return put(c.path, old) },
	}
}

// look asks systemd what it has made of it.
func (c change) look(ctx context.Context, m reloader) error {
	u, err := m.Unit(ctx, c.unit)
	if c.text == nil && (err == nil || errors.Is(err, manager.ErrNotFound)) {
		return nil // of a unit that has gone meanwhile the drop-in goes too
	}
	switch {
	case err != nil:
		return err
	case u.LoadState != "loaded":
		return fmt.Errorf("systemd calls the unit %q with this drop-in %q: see journalctl -b -u %s", c.unit, u.LoadState, c.unit)
	case !slices.Contains(u.DropIns, c.path):
		return fmt.Errorf("systemd does not take %q for unit %q: is there another drop-in of that name?", c.path, c.unit)
	}
	return nil
}

// asidePrefix begins the names under which a drop-in is written first. systemd takes no
// name for a drop-in that does not end in ".conf".
const asidePrefix = ".extexec-"

// put makes a file what it is to be, by rename, with its directory; without a text
// both go, the directory if nothing is left in it.
func put(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	if err := aside.Sweep(dir, asidePrefix, os.Remove); err != nil {
		return fmt.Errorf("remove what was left behind: %w", err)
	}
	defer func() {
		if err != nil || text == nil {
			_ = os.Remove(dir) // which fails where somebody else has a drop-in there
		}
	}()
	if text == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	_, err = os.Lstat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if made { // whatever the umask is
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return putInto(dir, path, text)
}

func putInto(dir, path string, text []byte) error {
	f, err := aside.File(dir, asidePrefix)
	if err != nil {
		return err
	}
	defer f.Close() // once it has its name: until then it is locked
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
