package vpick

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Type is a set of kinds of files. The empty set asks for nothing in
// particular.
type Type uint

// The kinds of files.
const (
	Regular Type = 1 << iota
	Directory
	Block
	Char
	FIFO
	Socket
	Symlink

	// none is a set that no file is in.
	none
)

var typeNames = []struct {
	bit        Type
	word, text string
}{
	{Regular, "reg", "a regular file"},
	{Directory, "dir", "a directory"},
	{Block, "blk", "a block device"},
	{Char, "chr", "a character device"},
	{FIFO, "fifo", "a fifo"},
	{Socket, "sock", "a socket"},
	{Symlink, "lnk", "a symbolic link"},
}

// ParseType reads one of systemd's words: reg, dir, blk, chr, fifo, sock, lnk.
func ParseType(word string) (Type, bool) {
	for _, n := range typeNames {
		if n.word == word {
			return n.bit, true
		}
	}
	return 0, false
}

// Word is systemd's word for a single kind, "" for anything else.
func (t Type) Word() string {
	for _, n := range typeNames {
		if n.bit == t {
			return n.word
		}
	}
	return ""
}

// String describes the set: "a regular file or a block device".
func (t Type) String() string {
	var texts []string
	for _, n := range typeNames {
		if t&n.bit != 0 {
			texts = append(texts, n.text)
		}
	}
	if len(texts) == 0 {
		return "a file of any kind"
	}
	return strings.Join(texts, " or ")
}

func typeOf(mode uint32) Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Regular
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFBLK:
		return Block
	case unix.S_IFCHR:
		return Char
	case unix.S_IFIFO:
		return FIFO
	case unix.S_IFSOCK:
		return Socket
	case unix.S_IFLNK:
		return Symlink
	}
	return none
}
