package extension

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/unitfile/settings"
)

// Arrived tells a version that was renamed into its directory from one that is being
// copied there, as far as the file system can tell: a rename is a change of the
// directory itself (rename(2), st_ctime), later than all changes below it. It is an
// error where something below is newer, or the release file is not there yet.
//
// It says false for sure where all was made within one tick of the kernel's clock:
// then it is the caller's to wait, and to look again.
//
// Of an image it says whether somebody writes to it, as opening it does.
func Arrived(p *Picked) (sure bool, err error) {
	if p.Kind == settings.Image {
		if err := Complete(p.Path); err != nil {
			return false, &Error{Ref: p.Ref.String(), Step: stepOpen, Err: err}
		}
		return true, nil
	}
	if p.Entry == nil {
		return true, nil
	}
	dir, err := os.OpenFile(p.Path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &Error{Ref: p.Ref.String(), Step: stepOpen, Err: err}
	}
	defer dir.Close()
	if _, err := release.FindAll(dir, p.Name, p.Ref.Relax); err != nil {
		return false, &Error{Ref: p.Ref.String(), Step: stepOpen, Err: err}
	}
	var top unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &top); err != nil {
		return false, &os.PathError{Op: "fstat", Path: p.Path, Err: err}
	}
	changed := time.Unix(top.Ctim.Unix())
	err = layers.Walk(dir, func(e *layers.Entry) error {
		if !e.Covered && e.Ctime.After(changed) {
			return fmt.Errorf("%q in it is newer than the directory itself, so it may not be complete: rename it into place, or \"touch %s\" when it is", e.Path(), p.Path)
		}
		return nil
	})
	if err != nil {
		return false, &Error{Ref: p.Ref.String(), Step: stepOpen, Err: err}
	}
	return top.Ctim != top.Mtim, nil
}
