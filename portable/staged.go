package portable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A staged directory goes with the transaction: what is in it then was not taken, or is
// the old one.
type staged struct {
	dir  string
	made string   // where it was made, where keep has moved it
	stay []string // names in it that do not go
}

// keptPrefix begins the names of staged directories in which there are copies that a
// service may have as its root; the boot, in which it may, comes after it. portablectl
// shows nothing with such a name (systemd's image_name_is_valid).
const keptPrefix = ".#extexec-kept-"

// keep has a kill leave the directory, for as long as services run that were started
// before it.
func (s *staged) keep() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	name := keptPrefix + boot + "-" + strings.TrimPrefix(filepath.Base(s.dir), stagePrefix)
	to := filepath.Join(filepath.Dir(s.dir), name)
	if err := rename(s.dir, to, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	s.dir, s.made = to, s.dir
	return nil
}

// Close removes it, but for what stays.
func (s *staged) Close() error {
	if len(s.stay) == 0 {
		if s.made != "" && rename(s.dir, s.made, unix.RENAME_NOREPLACE) == nil {
			s.dir, s.made = s.made, "" // what cannot be removed now, the next call removes
		}
		return os.RemoveAll(s.dir)
	}
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if !slices.Contains(s.stay, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

// notes say what stays.
func (s *staged) notes() (notes []string) {
	for _, name := range s.stay {
		notes = append(notes, fmt.Sprintf("%q stays, since a service that was detached may run from it: remove it, or call extexec portable after the next boot", filepath.Join(s.dir, name)))
	}
	return notes
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
