package nsmount

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Mount is one line of a mount table, proc_pid_mountinfo(5).
type Mount struct {
	ID, Parent   int
	Major, Minor uint32
	Root         string // of the mount within its file system
	Point        string // as the namespace's root sees it
	Attr         Attr   // per-mount attributes
	Shared       int    // peer group, 0: not shared
	Master       int    // master's peer group, 0: no slave
	Unbindable   bool
	FSType       string
	Source       string
	SuperOptions string // of the superblock
}

// SuperReadOnly tells whether the file system itself, not just this mount of
// it, is read-only.
func (m *Mount) SuperReadOnly() bool {
	first, _, _ := strings.Cut(m.SuperOptions, ",")
	return first == "ro"
}

// Deleted tells whether the directory or file that the mount shows has been
// removed from its file system.
func (m *Mount) Deleted() bool { return strings.HasSuffix(m.Root, "//deleted") }

// Table is what is mounted in a namespace, in the order of the kernel: parents
// come before their children in all but moved trees.
type Table struct {
	Mounts []Mount
	byID   map[int]*Mount
}

// ByID finds a mount by its id.
func (t *Table) ByID(id int) (*Mount, bool) {
	m, ok := t.byID[id]
	return m, ok
}

// Children lists the mounts whose parent is id.
func (t *Table) Children(id int) []*Mount {
	var c []*Mount
	for i := range t.Mounts {
		if t.Mounts[i].Parent == id && t.Mounts[i].ID != id {
			c = append(c, &t.Mounts[i])
		}
	}
	return c
}

// Stack lists the mounts on one path, bottom to top: each is mounted on the one
// before.
func (t *Table) Stack(point string) []*Mount {
	above := map[int]*Mount{} // by parent
	var bottom *Mount
	for i := range t.Mounts {
		if m := &t.Mounts[i]; m.Point == point && m.ID != m.Parent {
			above[m.Parent] = m
		}
	}
	for parent, m := range above {
		if p, ok := t.ByID(parent); !ok || p.Point != point {
			bottom = m
		}
	}
	var stack []*Mount
	for m := bottom; m != nil && len(stack) < len(t.Mounts); m = above[m.ID] {
		stack = append(stack, m)
	}
	return stack
}

// ParseTable reads a mountinfo file. Lines have no limit: an overlay of five
// hundred layers is longer than the 64 KiB that a bufio.Scanner takes.
func ParseTable(data []byte) (*Table, error) {
	t := &Table{Mounts: make([]Mount, 0, bytes.Count(data, []byte{'\n'}))}
	for line := range bytes.Lines(data) {
		m, err := parseMount(string(bytes.TrimSuffix(line, []byte{'\n'})))
		if err != nil {
			return nil, err
		}
		t.Mounts = append(t.Mounts, m)
	}
	t.byID = make(map[int]*Mount, len(t.Mounts))
	for i := range t.Mounts {
		t.byID[t.Mounts[i].ID] = &t.Mounts[i]
	}
	return t, nil
}

func parseMount(line string) (Mount, error) {
	bad := func(what string) (Mount, error) {
		return Mount{}, fmt.Errorf("read mount table: %s in line %.200q", what, line)
	}
	before, after, ok := strings.Cut(line, " - ")
	if !ok {
		return bad("no separator")
	}
	head, tail := strings.Split(before, " "), strings.SplitN(after, " ", 3)
	if len(head) < 6 || len(tail) < 2 {
		return bad("too few fields")
	}
	var m Mount
	var err1, err2 error
	m.ID, err1 = strconv.Atoi(head[0])
	m.Parent, err2 = strconv.Atoi(head[1])
	if err1 != nil || err2 != nil {
		return bad("bad mount id")
	}
	major, minor, _ := strings.Cut(head[2], ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return bad("bad device")
	}
	m.Major, m.Minor = uint32(ma), uint32(mi)
	m.Root, m.Point = unescape(head[3]), unescape(head[4])
	m.Attr = parseAttr(head[5])
	for _, f := range head[6:] {
		key, value, _ := strings.Cut(f, ":")
		n, _ := strconv.Atoi(value)
		switch key {
		case "shared":
			m.Shared = n
		case "master":
			m.Master = n
		case "unbindable":
			m.Unbindable = true
		}
	}
	m.FSType, m.Source = unescape(tail[0]), unescape(tail[1])
	if len(tail) > 2 {
		m.SuperOptions = tail[2]
	}
	return m, nil
}

// unescape undoes the octal escapes of mountinfo: blank, tab, newline,
// backslash and '#'.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b = append(b, byte(n))
				i += 3
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
