package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// A Lock is the right to change what is remembered of a unit. It holds both
// directories open.
type Lock struct {
	unit    *Unit
	file    *os.File
	record  dir
	memory  dir // its f is nil where there is none
	warning *Warning
	checked bool // the record was looked at and may be replaced
}

// Lock takes the lock of the unit, and makes its directories where they are
// missing. Another holder is waited for, as long as wait; then the error is a
// [*LockedError]. The lock is not inherited by a program that is executed, and ends
// with the process at the latest.
func (u *Unit) Lock(ctx context.Context, wait time.Duration) (*Lock, error) {
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 25*time.Millisecond) {
		l, err := u.tryLock()
		if l != nil || err != nil {
			return l, err
		}
		if waited := time.Since(began); waited >= wait {
			return nil, &LockedError{Name: u.name, PID: u.holder(), Waited: waited}
		}
		// flock(2) can wait by itself, but neither for a time nor for a context.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %q: %w", u.name, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// tryLock returns nil, nil where someone else holds the lock.
func (u *Unit) tryLock() (*Lock, error) {
	f, err := makeDir(u.record, 0o755)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w%s", u.name, err, remedyFor(err))
	}
	l := &Lock{unit: u, record: dir{f: f, reach: u.reach}}
	ok, err := l.take()
	if !ok || err != nil {
		l.close()
		if err != nil {
			err = fmt.Errorf("lock %q: %w%s", u.name, err, remedyFor(err))
		}
		return nil, err
	}
	l.memory.reach = u.reach
	l.memory.f, err = makeDir(u.memory, 0o700)
	if err != nil {
		l.warning = &Warning{Dir: u.memory, Err: err}
	}
	l.sweep()
	return l, nil
}

// remedyFor says what to do where a record cannot be had or written.
func remedyFor(err error) string {
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return ": records are kept in directories: remove what stands there in place of one, or name another place with --state-dir"
	case errors.Is(err, unix.EROFS):
		return ": records need a file system that can be written to: name another place with --state-dir"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ": make room there"
	case errors.Is(err, fs.ErrPermission):
		return ": run extexec as root"
	}
	return ""
}

// sweep removes the half-written files of a holder that was killed. Nobody reads them,
// and not everyone who comes later writes the same ones.
func (l *Lock) sweep() {
	for _, name := range []string{recordFile, nextFile} {
		_ = l.record.remove(name + temporary)
	}
	if l.memory.f == nil {
		return
	}
	for _, name := range []string{memoryFile, historyFile} {
		_ = l.memory.remove(name + temporary)
	}
}

func (l *Lock) take() (bool, error) {
	var err error
	// 0600: see the package comment.
	l.file, err = l.record.open(lockFile, unix.O_RDWR|unix.O_CREAT, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // the directory was removed since it was opened
	}
	if err != nil {
		return false, err
	}
	err = unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "flock", Path: l.file.Name(), Err: err}
	}
	// Someone may have removed the directory between open and flock: then this is
	// the lock of nothing, and the next round makes another.
	here, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(l.file.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(here, there) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, l.sign(strconv.Itoa(os.Getpid()) + "\n")
}

// sign writes who holds the lock, for the message of one who waits.
func (l *Lock) sign(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(text), 0)
	return err
}

// Holder says whether someone holds the lock, and which process, as far as it is
// known: its pid is a hint. Whoever may not read the lock file is told that nobody
// does.
func (u *Unit) Holder() (pid int, held bool) {
	f, err := openDir(u.record)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	l, err := dir{f: f}.open(lockFile, unix.O_RDONLY, 0)
	if err != nil {
		return 0, false
	}
	defer l.Close()
	// A shared lock for a moment: one who comes meanwhile tries again.
	err = unix.Flock(int(l.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, false
	}
	return u.holder(), true
}

// holder returns the pid in the lock file, 0 where there is none. It is a hint: its
// writer may have been killed, or be just about to write it.
func (u *Unit) holder() int {
	f, err := openDir(u.record)
	if err != nil {
		return 0
	}
	defer f.Close()
	b, err := dir{f: f}.read(lockFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// Unit returns the unit that is locked.
func (l *Lock) Unit() *Unit { return l.unit }

// Close gives the lock back and closes what it holds open.
func (l *Lock) Close() error {
	l.clear()
	_ = l.sign("") // a hint, which is not asked for where nobody holds the lock
	// A child that was forked meanwhile may share the open file, and would keep the
	// lock: so it is unlocked, not only closed.
	err := unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	l.close()
	if err != nil {
		return fmt.Errorf("unlock %q: %w", l.unit.name, err)
	}
	return nil
}

// clear takes the directories away that have nothing in them: a start that failed
// leaves no record. By descriptors, since this may be in another mount namespace. The
// memory goes first: once the lock file is gone, another one may hold a lock here.
// That something stays is no failure.
func (l *Lock) clear() {
	if l.record.has(recordFile) || l.record.has(nextFile) {
		return
	}
	if l.memory.f != nil {
		l.memory.removeItself()
	}
	_ = l.record.remove(lockFile)
	l.record.removeItself()
}

func (l *Lock) close() {
	for _, f := range []*os.File{l.file, l.record.f, l.memory.f} {
		if f != nil {
			f.Close() // nothing was written through it that was not synced
		}
	}
}
