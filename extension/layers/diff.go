package layers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Base stands for the base where a layer's number is asked for.
const Base = -1

// Stack is what one hierarchy is made of. The directories may be O_PATH
// descriptors and stay the caller's.
type Stack struct {
	Layers []*os.File // bottom to top
	Base   *os.File   // beneath all of them; nil where there is none
}

// A Differ compares what two stacks show. It calls back in the order of the paths,
// a directory before what is in it; an error of a callback ends it and is
// returned. Nil callbacks are not called.
//
// It reads the stacks as an overlay does that follows no redirects, as
// [github.com/extexec/extexec/nsmount.MountOverlay] makes them: whiteouts (a
// character device 0:0, and those of trusted.overlay.whiteout), opaque directories
// (trusted.overlay.opaque), a file over a directory and the other way round. To see
// the attributes takes CAP_SYS_ADMIN. What is mounted on an entry of a layer stays
// what it is, so the entry is passed over.
//
// Memory is bounded by the largest directory and the depth. Directories that both
// stacks have in the same place are not read.
type Differ struct {
	// Checksum reads regular files of the same size; else their metadata decide.
	Checksum bool

	// Changed is called for each path that differs. The change, and what it
	// points to, is valid during the call only.
	Changed func(*Change) error
	// Shadowed is called for each path that the new stack has in more than one
	// layer, the base not counted, and does not show from all of them.
	Shadowed func(*Shadow) error
}

// A Change is a path that the two stacks show differently.
type Change struct {
	Path     string // below the hierarchy; "." is its top
	Old, New *File  // nil: it is not there
	Differs  Aspects
}

// File is one end of a change.
type File struct {
	Layer  int    // its number in the stack, 0 is the lowest, or [Base]
	Mode   uint32 // type and permissions, as st_mode has them
	UID    uint32
	GID    uint32
	Size   uint64
	Device uint64 // of a device node
	Mtime  time.Time
	Target string // of a symbolic link

	found *found
}

// Open opens a regular file for reading.
func (f *File) Open() (*os.File, error) { return f.found.open() }

// A Shadow is a path that a layer hides from those beneath: by a file, by a
// directory over what is none, by an opaque directory or by a whiteout.
type Shadow struct {
	Path   string
	By     int   // the layer that hides, the lowest one where several are seen
	Hidden []int // the layers that have it too, top to bottom
	Gone   bool  // nothing is to be seen under the path
}

// Aspects are what differs between two files.
type Aspects uint8

// The aspects. Content is known to differ where the size does, or where it was
// read. Times of directories and of links do not count, nor sizes of directories.
const (
	Type Aspects = 1 << iota
	Size
	Content
	Mode
	Owner
	Mtime
	Target
	Device
)

// Names lists the aspects in words.
func (a Aspects) Names() []string {
	var names []string
	for i, name := range []string{"type", "size", "content", "mode", "owner", "mtime", "target", "device"} {
		if a&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Diff compares two stacks.
func (d *Differ) Diff(ctx context.Context, before, after Stack) error {
	c := &comparer{Differ: d, ctx: ctx, names: make([]byte, 32<<10)}
	defer runtime.KeepAlive(before)
	defer runtime.KeepAlive(after)
	root := &pair{}
	defer root.close()
	var err error
	for side, s := range []Stack{before, after} {
		for i := len(s.Layers) - 1; i >= 0; i-- {
			if err = root.top(side, s.Layers[i], i); err != nil {
				return err
			}
		}
		if s.Base == nil {
			continue
		}
		if err = root.top(side, s.Base, Base); err != nil {
			return err
		}
	}
	if err := c.top(root); err != nil {
		return err
	}
	return c.directory(root)
}

// The sides of a comparison.
const (
	before = iota
	after
)

type comparer struct {
	*Differ
	ctx     context.Context
	path    []byte // of the directory
	depth   int
	names   []byte // one read of a directory
	buffers [2][]byte
}

// at is the path of a name in the directory that is being compared.
func (c *comparer) at(name string) string {
	if len(c.path) == 0 {
		return name
	}
	return string(c.path) + "/" + name
}

// top compares the tops of the hierarchies: what is seen of one is that of the
// highest layer.
func (c *comparer) top(root *pair) error {
	var shown [2]shown
	for side := range shown {
		if members := root.members[side]; len(members) > 0 {
			f := &found{name: here, parent: members[0].dir}
			if err := f.look(); err != nil {
				return fmt.Errorf("look at the top of %q: %w", members[0].dir.label, err)
			}
			shown[side].found, shown[side].layer = f, members[0].layer
		}
	}
	if shown[before].found == nil || shown[after].found == nil {
		return nil
	}
	return c.compare(".", shown[before], shown[after])
}

// directory compares what a directory has in both stacks.
func (c *comparer) directory(p *pair) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	if c.depth == maxDepth {
		return fmt.Errorf("compare %q: more than %d directories deep", c.path, maxDepth)
	}
	names, err := p.names(c.names)
	if err != nil {
		return fmt.Errorf("read %q: %w", c.at("."), err)
	}
	for _, name := range names {
		if !p.turnTo(name) {
			continue
		}
		if err := c.entry(p, name); err != nil {
			return err
		}
	}
	return nil
}

// entry compares one name.
func (c *comparer) entry(p *pair, name string) error {
	defer p.leave()
	var shown [2]shown
	for side := range shown {
		var err error
		if shown[side], err = p.resolve(side, name); err != nil {
			return fmt.Errorf("look at %q: %w", c.at(name), err)
		}
	}
	if shown[before].covered || shown[after].covered {
		return nil
	}
	if err := c.compare(name, shown[before], shown[after]); err != nil {
		return err
	}
	if s := &shown[after]; len(s.hidden) > 0 && c.Shadowed != nil {
		err := c.Shadowed(&Shadow{Path: c.at(name), By: s.by, Hidden: s.hidden, Gone: s.found == nil})
		if err != nil {
			return err
		}
	}
	below := &pair{members: [2][]member{shown[before].members, shown[after].members}}
	if !below.interesting() {
		return nil
	}
	mark := len(c.path)
	if mark > 0 {
		c.path = append(c.path, '/')
	}
	c.path = append(c.path, name...)
	c.depth++
	err := c.directory(below)
	c.path, c.depth = c.path[:mark], c.depth-1
	return err
}

// compare reports the difference between what is shown for a name, if any.
func (c *comparer) compare(name string, a, b shown) error {
	if c.Changed == nil || a.found == nil && b.found == nil || a.found == b.found {
		return nil
	}
	change := Change{}
	if a.found != nil && b.found != nil {
		differs, err := c.differs(a.found, b.found)
		if err != nil {
			return fmt.Errorf("compare %q: %w", c.at(name), err)
		}
		if differs == 0 {
			return nil
		}
		change.Differs = differs
	}
	change.Path = c.at(name)
	var files [2]File
	for i, s := range []shown{a, b} {
		if s.found != nil {
			files[i] = s.file()
		}
	}
	if a.found != nil {
		change.Old = &files[before]
	}
	if b.found != nil {
		change.New = &files[after]
	}
	return c.Changed(&change)
}

// differs compares two files.
func (c *comparer) differs(a, b *found) (Aspects, error) {
	if a.st.Ino == b.st.Ino && a.st.Dev_major == b.st.Dev_major && a.st.Dev_minor == b.st.Dev_minor {
		return 0, nil // one file
	}
	var d Aspects
	kind := uint32(a.st.Mode) & unix.S_IFMT
	if kind != uint32(b.st.Mode)&unix.S_IFMT {
		return Type, nil
	}
	if a.st.Uid != b.st.Uid || a.st.Gid != b.st.Gid {
		d |= Owner
	}
	if a.st.Mode != b.st.Mode {
		d |= Mode
	}
	switch kind {
	case unix.S_IFDIR:
		return d, nil
	case unix.S_IFLNK:
		if a.target != b.target {
			d |= Target
		}
		return d, nil
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.st.Rdev_major != b.st.Rdev_major || a.st.Rdev_minor != b.st.Rdev_minor {
			d |= Device
		}
	}
	if a.st.Mtime.Sec != b.st.Mtime.Sec || a.st.Mtime.Nsec != b.st.Mtime.Nsec {
		d |= Mtime
	}
	if kind != unix.S_IFREG {
		return d, nil
	}
	if a.st.Size != b.st.Size {
		return d | Size | Content, nil
	}
	if c.Checksum {
		same, err := c.sameContent(a, b)
		if err != nil || !same {
			d |= Content
		}
		return d, err
	}
	return d, nil
}

// sameContent reads two files side by side.
func (c *comparer) sameContent(a, b *found) (bool, error) {
	var files [2]*os.File
	for i, f := range []*found{a, b} {
		var err error
		if files[i], err = f.open(); err != nil {
			return false, err
		}
		defer files[i].Close()
		if c.buffers[i] == nil {
			c.buffers[i] = make([]byte, 128<<10)
		}
	}
	for c.ctx.Err() == nil {
		var n [2]int
		var ends [2]error
		for i := range files {
			n[i], ends[i] = io.ReadFull(files[i], c.buffers[i])
			if ends[i] != nil && !errors.Is(ends[i], io.EOF) && !errors.Is(ends[i], io.ErrUnexpectedEOF) {
				return false, ends[i]
			}
		}
		if !bytes.Equal(c.buffers[0][:n[0]], c.buffers[1][:n[1]]) {
			return false, nil
		}
		if ends[0] != nil {
			return true, nil
		}
	}
	return false, context.Cause(c.ctx)
}

// shown is what a stack shows for a name.
type shown struct {
	found   *found   // nil: nothing
	layer   int      // of found
	by      int      // the layer that hides what is beneath it
	members []member // of a directory, top to bottom
	hidden  []int    // the layers that have it too and are not seen
	covered bool     // something is mounted on it
	cut     bool     // something in the stack hides what is beneath the stack
}

func (s *shown) file() File {
	st := &s.found.st
	return File{
		Layer: s.layer, Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid, Size: st.Size, Device: unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		Mtime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)), Target: s.found.target, found: s.found,
	}
}

// pair is one directory as both stacks have it.
type pair struct {
	members [2][]member // top to bottom
	dirs    []*directory
}

// A member is a directory that takes part in what a stack shows.
type member struct {
	dir   *directory
	layer int
}

// top adds a top of a stack.
func (p *pair) top(side int, f *os.File, layer int) error {
	dir, err := openDirectory(int(f.Fd()), here, path.Base(f.Name()))
	if err != nil {
		return fmt.Errorf("open layer %q: %w", f.Name(), err)
	}
	for _, m := range p.members[before] {
		if side == after && m.dir.id == dir.id {
			dir.close()
			dir = m.dir
			break
		}
	}
	p.members[side] = append(p.members[side], member{dir: dir, layer: layer})
	return nil
}

// unique lists the directories of both sides, each once.
func (p *pair) unique() []*directory {
	if p.dirs != nil {
		return p.dirs
	}
	for _, members := range p.members {
		for _, m := range members {
			if !slices.Contains(p.dirs, m.dir) {
				p.dirs = append(p.dirs, m.dir)
			}
		}
	}
	return p.dirs
}

func (p *pair) close() {
	for _, d := range p.unique() {
		d.close()
	}
}

// own gives the members that are in the one stack and not, at the same distance
// from an end, in the other: only a name that one of them has can differ.
func (p *pair) own() [2][]member {
	a, b := p.members[before], p.members[after]
	for len(a) > 0 && len(b) > 0 && a[0].dir == b[0].dir {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].dir == b[len(b)-1].dir {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return [2][]member{a, b}
}

// layersOf counts the members that are not the base.
func layersOf(members []member) int {
	if n := len(members); n > 0 && members[n-1].layer == Base {
		return n - 1
	}
	return len(members)
}

// interesting says whether there can be anything to report.
func (p *pair) interesting() bool {
	own := p.own()
	return len(own[before])+len(own[after]) > 0 || layersOf(p.members[after]) > 1
}

// names reads the directories that can matter, and lists their names.
func (p *pair) names(buffer []byte) ([]string, error) {
	var all []string
	lists := 0
	read := func(d *directory) error {
		if d.listed {
			return nil
		}
		if err := d.list(buffer); err != nil {
			return err
		}
		lists++
		all = append(all, d.entries...)
		return nil
	}
	for _, members := range p.own() {
		for _, m := range members {
			m.dir.differs = true
			if err := read(m.dir); err != nil {
				return nil, err
			}
		}
	}
	if n := layersOf(p.members[after]); n > 1 {
		for _, m := range p.members[after][:n] {
			m.dir.counts = true
			if err := read(m.dir); err != nil {
				return nil, err
			}
		}
	}
	if lists > 1 {
		slices.Sort(all)
		all = slices.CompactFunc(all, func(a, b string) bool { return a == b })
	}
	return all, nil
}

// turnTo makes a name the current one, and says whether it can matter. Names come
// in ascending order.
func (p *pair) turnTo(name string) bool {
	matters, layers := false, 0
	for _, d := range p.unique() {
		d.current = nil
		if !d.listed {
			d.absent = false
			continue
		}
		for d.cursor < len(d.entries) && d.entries[d.cursor] < name {
			d.cursor++
		}
		d.absent = d.cursor == len(d.entries) || d.entries[d.cursor] != name
		if d.absent {
			continue
		}
		matters = matters || d.differs
		if d.counts {
			layers++
		}
	}
	return matters || layers > 1
}

// leave closes what the current name has opened.
func (p *pair) leave() {
	for _, d := range p.dirs {
		if d.current != nil && d.current.dir != nil {
			d.current.dir.close()
		}
		d.current = nil
	}
}

// resolve finds out what a stack shows for the current name: ovl_lookup of
// fs/overlayfs/namei.c.
func (p *pair) resolve(side int, name string) (s shown, err error) {
	members, stop := p.members[side], false
	for i, m := range members {
		if stop && (side == before || m.layer == Base) {
			break // the rest is wanted for what is hidden only
		}
		f, err := m.dir.find(name)
		if err != nil {
			return s, err
		}
		if f == nil || stop && f.whiteout {
			continue
		}
		if f.covered {
			s.covered = true
			return s, nil
		}
		isDir := f.isDir()
		if stop || s.found != nil && !isDir && !f.whiteout {
			stop = true
			if m.layer != Base {
				s.hidden = append(s.hidden, m.layer)
			}
			continue
		}
		s.by = m.layer
		if f.whiteout {
			stop = true
			continue
		}
		if s.found == nil {
			s.found, s.layer = f, m.layer
		}
		if stop = !isDir; stop {
			continue
		}
		if err := f.enter(); err != nil {
			return s, err
		}
		s.members = append(s.members, member{dir: f.dir, layer: m.layer})
		if i < len(members)-1 && f.dir.attributes() {
			stop = true
		}
	}
	s.cut = stop
	return s, nil
}

func (f *found) isDir() bool { return f.st.Mode&unix.S_IFMT == unix.S_IFDIR }
