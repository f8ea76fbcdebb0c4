package portable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// journalName is beside the directory of attached units for as long as a transaction
// exchanges things.
const journalName = stagePrefix + "journal"

// A journal says what a transaction exchanges, so that the next call can finish what one
// that was killed has begun, or go back.
type journal struct {
	Old    uint64            // the inode of the directory of units, 0 where there is none
	New    uint64            // and of what comes in its place
	Reload bool              // systemd is to read its units
	Staged string            // the name of the directory below that of links and copies; "" where none of these change
	Put    map[string]uint64 // names of links and copies that come, and their inodes
	Gone   []goneEntry       // that go, in that order

	at string // where it is written
}

// A goneEntry is a link or a copy that goes.
type goneEntry struct {
	Name   string
	Source string // the image
}

// journal is what there is to write of an edit that was staged.
func (e *edit) journal(units, images string, reload bool) (*journal, error) {
	j := &journal{Reload: reload, Put: map[string]uint64{}, at: filepath.Join(filepath.Dir(e.dir), journalName)}
	var err error
	if j.Old, err = inode(e.dir); err != nil {
		return nil, err
	}
	if j.New, err = inode(units); err != nil || images == "" {
		return j, err
	}
	j.Staged = filepath.Base(images)
	entries, err := os.ReadDir(images)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if j.Put[entry.Name()], err = inode(filepath.Join(images, entry.Name())); err != nil {
			return nil, err
		}
	}
	for _, c := range e.shelf.gone {
		j.Gone = append(j.Gone, goneEntry{Name: filepath.Base(c.Path), Source: c.Source})
	}
	return j, nil
}

// inode is the number of what is at a path, 0 where there is nothing.
func inode(p string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(p, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, &os.PathError{Op: "lstat", Path: p, Err: err}
	}
	return st.Ino, nil
}

// write makes the file, whole and on the disk, or leaves none.
func (j *journal) write() (err error) {
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	dir := filepath.Dir(j.at)
	f, err := os.CreateTemp(dir, stagePrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := rename(f.Name(), j.at, unix.RENAME_NOREPLACE); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := syncTree(dir); err != nil {
		return errors.Join(err, j.Close())
	}
	return nil
}

// Close removes the file: there is nothing to finish any more.
func (j *journal) Close() error {
	if err := os.Remove(j.at); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readJournal reads a journal; nil where there is none.
func readJournal(at string) (*journal, error) {
	text, err := readBounded(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	j := &journal{}
	if err == nil {
		err = errors.Join(json.Unmarshal(text, j), j.check())
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w: remove it, and look for links and copies that are not needed", at, err)
	}
	j.at = at
	return j, nil
}

// check refuses what would lead out of the directory of links and copies.
func (j *journal) check() error {
	if j.Staged != "" && (!plain(j.Staged) || !strings.HasPrefix(j.Staged, stagePrefix) && !strings.HasPrefix(j.Staged, keptPrefix)) {
		return fmt.Errorf("%q is no directory of ours", j.Staged)
	}
	for name, ino := range j.Put {
		if !plain(name) || ino == 0 {
			return fmt.Errorf("%q, inode %d, is nothing to put", name, ino)
		}
	}
	for _, g := range j.Gone {
		if !plain(g.Name) || g.Source == "" {
			return fmt.Errorf("%q of %q is nothing to remove", g.Name, g.Source)
		}
	}
	return nil
}

// plain says whether a name leads nowhere else.
func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// mend finishes what killed calls have begun, or goes back: where the new units are
// there, links and copies are made such, too, and else the old ones. The lock is held.
func (h Host) mend(ctx context.Context, r Request) (notes []string, err error) {
	for _, runtime := range []bool{false, true} {
		dir := h.attachedDir(runtime)
		j, err := readJournal(filepath.Join(filepath.Dir(dir), journalName))
		if err != nil {
			return notes, err
		}
		if j == nil {
			continue
		}
		note, err := h.settle(j, dir, h.linkDir(runtime))
		if err != nil {
			return notes, err
		}
		if j.Reload && !r.NoReload && h.Manager != nil {
			if err := h.Manager.DaemonReload(ctx); err != nil {
				return notes, err
			}
		}
		if err := j.Close(); err != nil {
			return notes, err
		}
		notes = append(notes, note)
	}
	return notes, nil
}

// settle goes on or back. Each of its steps can have been done before.
func (h Host) settle(j *journal, units, shelf string) (note string, err error) {
	now, err := inode(units)
	if err != nil {
		return "", err
	}
	staged := filepath.Join(shelf, j.Staged)
	left, err := there(staged)
	if err != nil {
		return "", err
	}
	left = left && j.Staged != "" // else it got as far as removing that
	switch now {
	case j.Old:
		if left {
			err = j.back(shelf, staged)
		}
		return "an earlier call was killed, and what it had begun is taken back: what it had stopped or disabled stays so", err
	case j.New, 0: // of units of which none stays there is no directory
		if left {
			err = h.forward(j, shelf, staged)
		}
		return fmt.Sprintf("an earlier call was killed, and its change of %q is made: it may not have started or enabled all units", units), err
	}
	return fmt.Sprintf("an earlier call was killed, and %q is another since: look for links and copies in %q that are not needed", units, shelf), nil
}

// back puts the old links and copies back.
func (j *journal) back(shelf, staged string) error {
	for name, ino := range j.Put {
		at := filepath.Join(shelf, name)
		if now, err := inode(at); err != nil {
			return err
		} else if now != ino {
			continue // it was not exchanged, or is back
		}
		if err := swap(filepath.Join(staged, name), at); err != nil {
			return err
		}
	}
	return nil
}

// forward takes away what is not needed any more, as clear does. The new links and copies
// are there: the units come after them.
func (h Host) forward(j *journal, shelf, staged string) error {
	all, err := h.othersThan(nil)
	if err != nil {
		return err
	}
	for n, g := range j.Gone {
		at := filepath.Join(shelf, g.Name)
		is, err := lookAt(at)
		if err != nil {
			return err
		}
		if is.target != g.Source && is.source != g.Source || named(all, at) || is.target != "" && named(all, is.target) {
			continue // gone already, or needed again
		}
		if err := rename(at, cleared(staged, n), unix.RENAME_NOREPLACE); err != nil && !errors.Is(err, fs.ErrExist) {
			return err // that it was taken away once says that somebody has put it there again
		}
	}
	return nil
}
