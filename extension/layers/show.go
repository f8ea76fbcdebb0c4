package layers

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Shown is a path that the layers of a stack show, or hide from what is beneath them.
type Shown struct {
	Path string // below the hierarchy; "." is its top
	// File is what is shown; nil for a whiteout: nothing, whatever there is beneath.
	File *File
	// Opaque says that a directory shows nothing of what is beneath the stack: one of its layers says so, or has
	// something else in its place.
	Opaque bool
	By     int   // the layer that hides what is beneath it, or the lowest that is seen
	Hidden []int // the layers that have the path too and are not seen, top to bottom
}

// Show calls visit for each path that a stack without a base has, in the order of the paths, a directory before what
// is in it. What it is given is valid during the call only. It stops at the first error, and returns that.
//
// The top of the stack is that of the highest layer; overlayfs merges the tops, whatever they say. Something that is
// mounted on an entry is an error: it is no part of the layer, and hides what is.
func Show(ctx context.Context, s Stack, visit func(*Shown) error) error {
	if s.Base != nil {
		return errors.New("show a stack: it has a base")
	}
	if len(s.Layers) == 0 {
		return nil
	}
	w := &shower{comparer: comparer{Differ: &Differ{}, ctx: ctx, names: make([]byte, 32<<10)}, visit: visit}
	defer runtime.KeepAlive(s)
	root := &pair{}
	defer root.close()
	for i := len(s.Layers) - 1; i >= 0; i-- {
		if err := root.top(after, s.Layers[i], i); err != nil {
			return err
		}
		root.members[after][len(root.members[after])-1].dir.attributes()
	}
	first := root.members[after][0]
	top := shown{found: &found{name: here, parent: first.dir}, layer: first.layer}
	if err := top.found.look(); err != nil {
		return fmt.Errorf("look at the top of %q: %w", first.dir.label, err)
	}
	file := top.file()
	if err := visit(&Shown{Path: ".", File: &file}); err != nil {
		return err
	}
	return w.directory(root)
}

type shower struct {
	comparer
	visit func(*Shown) error
}

func (w *shower) directory(p *pair) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if w.depth == maxDepth {
		return fmt.Errorf("show %q: more than %d directories deep", w.path, maxDepth)
	}
	names, err := p.names(w.names)
	if err != nil {
		return fmt.Errorf("read %q: %w", w.at("."), err)
	}
	for _, name := range names {
		p.turnTo(name)
		if err := w.entry(p, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *shower) entry(p *pair, name string) error {
	defer p.leave()
	s, err := p.resolve(after, name)
	if err != nil {
		return fmt.Errorf("look at %q: %w", w.at(name), err)
	}
	if s.covered {
		return fmt.Errorf("look at %q: something is mounted on it: unmount it first", w.at(name))
	}
	if s.found == nil && !s.cut {
		return nil // it went away meanwhile
	}
	shown := Shown{Path: w.at(name), By: s.by, Hidden: s.hidden, Opaque: s.cut && len(s.members) > 0}
	if s.found != nil {
		file := s.file()
		shown.File = &file
	}
	if n := len(s.members); n > 0 && s.members[n-1].dir.attributes() {
		shown.Opaque = true // resolve asks only where something is beneath
	}
	if err := w.visit(&shown); err != nil || len(s.members) == 0 {
		return err
	}
	mark := len(w.path)
	if mark > 0 {
		w.path = append(w.path, '/')
	}
	w.path = append(w.path, name...)
	w.depth++
	err = w.directory(&pair{members: [2][]member{after: s.members}})
	w.path, w.depth = w.path[:mark], w.depth-1
	return err
}

// HardLink gives what a file has in common with its other names, and says whether it has any. Directories have none.
func (f *File) HardLink() (id [3]uint64, ok bool) {
	st := &f.found.st
	return [3]uint64{uint64(st.Dev_major), uint64(st.Dev_minor), st.Ino}, st.Nlink > 1 && !f.found.isDir()
}

// maxAttributes bounds what is read of one file, in bytes: what a name list or a value may have, xattr(7).
const maxAttributes = 64 << 10

// Attributes reads the extended attributes of a file, all that this process may see.
func (f *File) Attributes() (map[string][]byte, error) {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", f.found.parent.fd, f.found.name)
	list := make([]byte, maxAttributes)
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	values := make(map[string][]byte, len(names))
	for _, name := range names {
		n, err := unix.Lgetxattr(path, name, list)
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		values[name] = slices.Clone(list[:n])
	}
	return values, nil
}
