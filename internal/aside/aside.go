// Package aside makes files and directories under temporary names beside what they are
// to become, and removes those whose maker was killed.
//
// A maker holds a lock (flock(2)) on what it has made, until it is renamed or removed;
// who is killed holds none any more. What has a name of ours and no lock was left behind,
// and [Sweep] takes it away. Where a file system has no locks, nothing is taken away.
//
// Look-ups are made on the calling goroutine, and nothing here waits for anybody but a
// sweep that is under way.
package aside

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir makes a directory, with a name that begins with prefix, and opens it. Its lock is
// held for as long as what is returned is open, in a child that has inherited it too.
func Dir(dir, prefix string) (*os.File, error) {
	return hold(func() (*os.File, error) {
		path, err := os.MkdirTemp(dir, prefix)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errSwept
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		return f, nil
	})
}

// File is [Dir] for a file, open for writing.
func File(dir, prefix string) (*os.File, error) {
	return hold(func() (*os.File, error) { return os.CreateTemp(dir, prefix) })
}

var errSwept = errors.New("it was swept away")

// hold locks what is made. A sweep may be faster than that: then another one is made.
func hold(make func() (*os.File, error)) (*os.File, error) {
	for {
		f, err := make()
		if errors.Is(err, errSwept) {
			continue
		}
		if err != nil {
			return nil, err
		}
		_ = flock(f, unix.LOCK_EX) // fails where there are no locks, and then nothing is swept
		there, err := isAt(f)
		if there {
			return f, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, errors.Join(err, os.Remove(f.Name()))
		}
	}
}

// isAt says whether a file is still where it was opened.
func isAt(f *os.File) (bool, error) {
	at, err := os.Lstat(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	is, err := f.Stat()
	return err == nil && os.SameFile(is, at), err
}

// Sweep hands the paths of what was left behind to remove: of what is in the directory
// under a name that begins with prefix. Nobody else has it meanwhile. A directory that is
// not there has nothing in it.
func Sweep(dir, prefix string, remove func(path string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && (e.IsDir() || e.Type().IsRegular()) {
			errs = append(errs, sweep(filepath.Join(dir, e.Name()), remove))
		}
	}
	return errors.Join(errs...)
}

func sweep(path string, remove func(path string) error) error {
	f, err := os.OpenFile(path, unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its maker was at work
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	if there, err := isAt(f); !there {
		return err // its maker, or another sweep, was at work
	}
	return remove(path)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
