package compose

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/internal/lookup"
)

// A Part is one extension of a stack.
type Part struct {
	Name     string
	Releases []release.Release // one for each class that it is of
	// Dir opens a directory, an absolute path, for reading or as O_PATH, and
	// follows no symbolic link. The error satisfies [fs.ErrNotExist] where there
	// is none.
	Dir func(abs string) (*os.File, error)
}

// DirectoryPart is an extension that is a directory, which stays the caller's.
func DirectoryPart(name string, dir *os.File, releases []release.Release) Part {
	return Part{Name: name, Releases: releases, Dir: func(abs string) (*os.File, error) {
		return lookup.Open(dir, abs[1:], unix.O_PATH|unix.O_DIRECTORY, lookup.Beneath)
	}}
}

// A Conflict is a path that a part hides from others.
type Conflict struct {
	Path   string
	By     string   // the part that is seen, or whose whiteout hides the others
	Hidden []string // the others, the highest first
}

// Composed says what was written.
type Composed struct {
	Releases  []release.Release
	Conflicts []Conflict
	Newest    time.Time // the latest modification of anything in it
}

// Compose writes into the directory into, which must be empty, what a stack of parts,
// the lowest first, shows. The release files are named after name.
func Compose(ctx context.Context, into, name string, parts []Part) (*Composed, error) {
	w := &writer{ctx: ctx, into: into, links: map[[3]uint64]string{}}
	c := &Composed{}
	for _, class := range release.Classes() {
		of := slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return p.release(class) == nil })
		if len(of) == 0 {
			continue
		}
		r, err := combined(class, name, of)
		if err != nil {
			return nil, err
		}
		c.Releases = append(c.Releases, r)
		for _, h := range Hierarchies(class) {
			conflicts, err := w.hierarchy(h, class, of)
			if err != nil {
				return nil, fmt.Errorf("compose /%s: %w", h, err)
			}
			c.Conflicts = append(c.Conflicts, conflicts...)
		}
	}
	if len(c.Releases) == 0 {
		return nil, errors.New("there is no extension among them")
	}
	if err := w.finish(c.Releases); err != nil {
		return nil, err
	}
	c.Newest = w.newest
	return c, nil
}

func (p *Part) release(c release.Class) *release.Release {
	for i := range p.Releases {
		if p.Releases[i].Class == c {
			return &p.Releases[i]
		}
	}
	return nil
}

// combined is the one release file of several.
func combined(class release.Class, name string, parts []Part) (release.Release, error) {
	var demands []release.Demand
	for _, p := range parts {
		demands = append(demands, release.Demand{Extension: p.Name, Fields: p.release(class).Fields})
	}
	fields, err := release.Combine(class, demands)
	return release.Release{Class: class, File: release.FileOf(class, name), Fields: fields}, err
}

// hierarchy writes one hierarchy.
func (w *writer) hierarchy(h string, class release.Class, parts []Part) ([]Conflict, error) {
	var stack layers.Stack
	var names []string
	for _, p := range parts {
		dir, err := p.Dir("/" + h)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open that of %q: %w", p.Name, err)
		}
		defer dir.Close()
		stack.Layers = append(stack.Layers, dir)
		names = append(names, p.Name)
	}
	releases, err := filepath.Rel("/"+h, class.Dir())
	if err != nil {
		return nil, err
	}
	var conflicts []Conflict
	sealed := "//" // the opaque directory that we are in: beneath it is nothing to be hidden
	err = layers.Show(w.ctx, stack, func(s *layers.Shown) error {
		if filepath.Dir(s.Path) == releases {
			return nil // one is written at the end
		}
		if len(s.Hidden) > 0 {
			conflicts = append(conflicts, conflict("/"+filepath.Join(h, s.Path), s, names))
		}
		switch inside := strings.HasPrefix(s.Path, sealed+"/"); {
		case inside && s.File == nil:
			return nil
		case inside:
			s.Opaque = false
		case s.Opaque:
			sealed = s.Path
		}
		if err := w.write(filepath.Join(h, s.Path), s); err != nil {
			return fmt.Errorf("copy %q: %w", s.Path, err)
		}
		return nil
	})
	return conflicts, err
}

func conflict(path string, s *layers.Shown, names []string) Conflict {
	c := Conflict{Path: path, By: names[s.By]}
	for _, i := range s.Hidden {
		c.Hidden = append(c.Hidden, names[i])
	}
	return c
}
