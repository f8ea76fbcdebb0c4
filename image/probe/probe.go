package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Type names what a blob is. For a file system it is the kernel's name.
type Type string

// The file systems that extexec mounts.
const (
	Squashfs Type = "squashfs"
	Erofs    Type = "erofs"
	Ext4     Type = "ext4"
	Btrfs    Type = "btrfs"
	Xfs      Type = "xfs"
)

// What is recognised so that it can be refused by name.
const (
	Ext2    Type = "ext2"
	Ext3    Type = "ext3"
	Vfat    Type = "vfat"
	F2fs    Type = "f2fs"
	Iso9660 Type = "iso9660"
	Ntfs    Type = "ntfs"
	Swap    Type = "swap"
	LVM     Type = "LVM2 physical volume"
	LUKS    Type = "LUKS encrypted volume"
	Verity  Type = "dm-verity hash device"
	GPT     Type = "GUID partition table"
	MBR     Type = "MBR partition table"
	Qcow2   Type = "qcow2 disk image"
	Gzip    Type = "gzip"
	Xz      Type = "xz"
	Zstd    Type = "zstd"
	Bzip2   Type = "bzip2"
	Zip     Type = "zip archive"
	Tar     Type = "tar archive"
	ELF     Type = "ELF program"
)

// Mountable says whether extexec mounts it.
func (t Type) Mountable() bool {
	switch t {
	case Squashfs, Erofs, Ext4, Btrfs, Xfs:
		return true
	}
	return false
}

// Compressed says whether it is a whole file, compressed.
func (t Type) Compressed() bool { return t == Gzip || t == Xz || t == Zstd || t == Bzip2 }

// Found is what a blob is.
type Found struct {
	Type Type
	// Size is how long the file system says that it is, in bytes; 0 where that is not known.
	Size int64

	elsewhere string // in words, what of it lies on another device; "" where nothing does
}

// What a blob can be that is nothing.
var (
	ErrEmpty   = errors.New("it is empty")
	ErrZeros   = errors.New("it has nothing but zeros where a file system begins")
	ErrUnknown = errors.New("it is no file system that extexec knows")
)

// AmbiguousError says that a blob is several things at once.
type AmbiguousError struct{ Types []Type }

func (e *AmbiguousError) Error() string {
	names := make([]string, len(e.Types))
	for i, t := range e.Types {
		names[i] = string(t)
	}
	return "it is several things at once (" + strings.Join(names, ", ") + ")"
}

// TruncatedError says that a blob ends before its file system does.
type TruncatedError struct {
	Type       Type
	Want, Have int64 // bytes
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("it is cut off: its %s takes %d bytes, and it has only %d", e.Type, e.Want, e.Have)
}

// ElsewhereError says that a file system has a part that is not in the blob: what protects the blob does not protect
// that, and somebody else may give it.
type ElsewhereError struct {
	Type Type
	Part string // in words
}

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("its %s has %s, and an image is one file", e.Type, e.Part)
}

// blob is the parts of a blob that are looked at; what lies beyond its end is missing.
type blob struct {
	head  []byte // the first 8 KiB: everything but the two below
	iso   []byte // at 32 KiB
	btrfs []byte // at 64 KiB
}

const headSize = 8 << 10

func load(r io.ReaderAt, size int64) (blob, error) {
	var b blob
	for _, part := range []struct {
		buf    *[]byte
		off, n int64
	}{{&b.head, 0, headSize}, {&b.iso, 32 << 10, 8}, {&b.btrfs, 64 << 10, 4096}} {
		n := min(part.n, size-part.off)
		if n <= 0 {
			continue
		}
		buf := make([]byte, n)
		got, err := r.ReadAt(buf, part.off)
		if int64(got) < n && !errors.Is(err, io.EOF) {
			return blob{}, fmt.Errorf("read superblock: %w", err)
		}
		*part.buf = buf[:got]
	}
	return b, nil
}

// at gives n bytes at off, or nil where the part ends before.
func at(part []byte, off, n int) []byte {
	if off+n > len(part) {
		return nil
	}
	return part[off : off+n]
}

func has(part []byte, off int, magic string) bool {
	return string(at(part, off, len(magic))) == magic
}

// Identify finds out what a blob of size bytes is. The error is ErrEmpty, ErrZeros, ErrUnknown, an *AmbiguousError,
// an *ElsewhereError or a *TruncatedError (both together with what was found), or what reading r gave.
func Identify(r io.ReaderAt, size int64) (Found, error) {
	if size <= 0 {
		return Found{}, ErrEmpty
	}
	b, err := load(r, size)
	if err != nil {
		return Found{}, err
	}
	found := strong(b)
	if len(found) == 0 {
		found = weak(b)
	}
	switch {
	case len(found) > 1:
		e := &AmbiguousError{}
		for _, f := range found {
			e.Types = append(e.Types, f.Type)
		}
		return Found{}, e
	case len(found) == 1 && found[0].elsewhere != "":
		return found[0], &ElsewhereError{Type: found[0].Type, Part: found[0].elsewhere}
	case len(found) == 1 && found[0].Size > size:
		return found[0], &TruncatedError{Type: found[0].Type, Want: found[0].Size, Have: size}
	case len(found) == 1:
		return found[0], nil
	case len(bytes.Trim(b.head, "\x00")) == 0 && len(bytes.Trim(b.btrfs, "\x00")) == 0:
		return Found{}, ErrZeros
	}
	return Found{}, ErrUnknown
}

// strong lists everything whose magic number leaves no doubt.
func strong(b blob) []Found {
	var found []Found
	for _, probe := range []func(blob) (Found, bool){squashfs, erofs, ext, btrfs, xfs, f2fs, gpt} {
		if f, ok := probe(b); ok {
			found = append(found, f)
		}
	}
	for _, m := range []struct {
		part  []byte
		off   int
		magic string
		t     Type
	}{
		{b.head, 0, "LUKS\xba\xbe", LUKS},
		{b.head, 0, "verity\x00\x00", Verity},
		{b.head, 3, "NTFS    ", Ntfs},
		{b.head, 4086, "SWAPSPACE2", Swap},
		{b.head, 512, "LABELONE", LVM},
		{b.head, 0, "QFI\xfb", Qcow2},
		{b.head, 0, "\xfd7zXZ\x00", Xz},
		{b.head, 0, "\x28\xb5\x2f\xfd", Zstd},
		{b.head, 0, "PK\x03\x04", Zip},
		{b.head, 0, "\x7fELF", ELF},
		{b.head, 257, "ustar", Tar},
	} {
		if has(m.part, m.off, m.magic) {
			found = append(found, Found{Type: m.t})
		}
	}
	return found
}

// weak finds what shares its first bytes with others, or has a short magic number; it counts only where nothing else
// was found. An iso9660 image that can boot from a disk has a partition table as well, and is not told apart here.
func weak(b blob) []Found {
	bootSector := has(b.head, 510, "\x55\xaa")
	switch {
	case has(b.iso, 1, "CD001"):
		return []Found{{Type: Iso9660}}
	case bootSector && (has(b.head, 54, "FAT1") || has(b.head, 82, "FAT32")):
		return []Found{{Type: Vfat}}
	case bootSector && partitioned(b.head):
		return []Found{{Type: MBR}}
	case has(b.head, 0, "\x1f\x8b\x08"):
		return []Found{{Type: Gzip}}
	case has(b.head, 0, "BZh"):
		return []Found{{Type: Bzip2}}
	}
	return nil
}

// partitioned says whether a boot sector has a sane partition entry.
func partitioned(head []byte) bool {
	used := false
	for off := 446; off < 510; off += 16 {
		e := head[off:]
		if e[0] != 0 && e[0] != 0x80 {
			return false
		}
		used = used || e[4] != 0
	}
	return used
}

// mul gives a*b, and the largest size there is where that is more.
func mul(a, b uint64) int64 {
	const most = 1<<63 - 1
	if b != 0 && a > most/b {
		return most
	}
	return int64(a * b)
}

// squashfs: fs/squashfs/squashfs_fs.h. The padding to 4 KiB that mksquashfs adds is not counted in bytes_used.
func squashfs(b blob) (Found, bool) {
	if !has(b.head, 0, "hsqs") || len(b.head) < 96 {
		return Found{Type: Squashfs, Size: 96}, has(b.head, 0, "hsqs")
	}
	return Found{Type: Squashfs, Size: mul(binary.LittleEndian.Uint64(b.head[40:]), 1)}, true
}

// erofs: fs/erofs/erofs_fs.h. With 48-bit block numbers (Linux 6.15) the upper 16 bits are where the number of the
// root inode was, if that has moved to the end.
func erofs(b blob) (Found, bool) {
	s := at(b.head, 1024, 128)
	if s == nil || !has(s, 0, "\xe2\xe1\xf5\xe0") {
		return Found{}, false
	}
	const feature48Bit = 0x80
	blocks := uint64(binary.LittleEndian.Uint32(s[36:]))
	if binary.LittleEndian.Uint32(s[80:])&feature48Bit != 0 && binary.LittleEndian.Uint64(s[112:]) != 0 {
		blocks |= uint64(binary.LittleEndian.Uint16(s[14:])) << 32
	}
	f := Found{Type: Erofs, Size: mul(blocks, 1<<min(s[12], 32))}
	// Old kernels (Linux 6.1) open the device that the table in the image names, newer ones take it to lie behind the rest.
	const deviceTable = 0x8
	if n := binary.LittleEndian.Uint16(s[86:]); n > 0 && binary.LittleEndian.Uint32(s[80:])&deviceTable != 0 {
		f.elsewhere = fmt.Sprintf("data on %s", count(int(n), "other device"))
	}
	return f, true
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// ext: fs/ext4/ext4.h. What only ext4 has tells it from its forerunners, as libblkid does it.
func ext(b blob) (Found, bool) {
	s := at(b.head, 1024, 1024)
	if s == nil || !has(s, 56, "\x53\xef") {
		return Found{}, false
	}
	le := binary.LittleEndian
	compat, incompat, roCompat := le.Uint32(s[92:]), le.Uint32(s[96:]), le.Uint32(s[100:])
	const (
		hasJournal   = 0x4
		journalInode = 0xe0             // where its number is
		ext3Incompat = 0x2 | 0x4 | 0x10 // filetype, recover, meta_bg
		ext3RoCompat = 0x1 | 0x2 | 0x4  // sparse_super, large_file, btree_dir
		is64Bit      = 0x80
	)
	f := Found{Type: Ext2}
	switch {
	case incompat&^ext3Incompat != 0 || roCompat&^ext3RoCompat != 0:
		f.Type = Ext4
	case compat&hasJournal != 0:
		f.Type = Ext3
	}
	blocks := uint64(le.Uint32(s[4:]))
	if incompat&is64Bit != 0 {
		blocks |= uint64(le.Uint32(s[0x150:])) << 32
	}
	f.Size = mul(blocks, 1024<<min(le.Uint32(s[24:]), 32))
	if f.Type == Ext4 && compat&hasJournal != 0 && le.Uint32(s[journalInode:]) == 0 {
		f.elsewhere = "its journal on another device"
	}
	return f, true
}

// btrfs: include/uapi/linux/btrfs_tree.h; the size is that of all devices together. The kernel finds those by the UUID
// of the file system, among all that it has ever seen.
func btrfs(b blob) (Found, bool) {
	s := at(b.btrfs, 0, 0x100)
	if s == nil || !has(s, 0x40, "_BHRfS_M") {
		return Found{}, false
	}
	f := Found{Type: Btrfs, Size: mul(binary.LittleEndian.Uint64(s[0x70:]), 1)}
	const seeding = 1 << 32
	le := binary.LittleEndian
	if n := le.Uint64(s[0x88:]); n != 1 {
		f.elsewhere = fmt.Sprintf("%d devices", n)
	} else if le.Uint64(s[0x38:])&seeding != 0 {
		f.elsewhere = "the flag of a seed, which more devices can share"
	}
	return f, true
}

// xfs: fs/xfs/libxfs/xfs_format.h, in big endian.
func xfs(b blob) (Found, bool) {
	s := at(b.head, 0, 264)
	if s == nil || !has(s, 0, "XFSB") {
		return Found{}, false
	}
	be := binary.BigEndian
	f := Found{Type: Xfs, Size: mul(be.Uint64(s[8:]), uint64(be.Uint32(s[4:])))}
	switch {
	case be.Uint64(s[16:]) != 0:
		f.elsewhere = "a realtime device"
	case be.Uint64(s[48:]) == 0:
		f.elsewhere = "its log on another device"
	}
	return f, true
}

func f2fs(b blob) (Found, bool) { return Found{Type: F2fs}, has(b.head, 1024, "\x10\x20\xf5\xf2") }

// gpt wants the protective MBR and a header at one of the sector sizes, as package gpt does.
func gpt(b blob) (Found, bool) {
	if !has(b.head, 510, "\x55\xaa") {
		return Found{}, false
	}
	protective, header := false, false
	for off := 446; off < 510; off += 16 {
		protective = protective || b.head[off+4] == 0xee
	}
	for _, off := range []int{512, 1024, 2048, 4096} {
		header = header || has(b.head, off, "EFI PART")
	}
	return Found{Type: GPT}, protective && header
}
