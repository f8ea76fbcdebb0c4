package gpt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// What a table that Encode writes looks like: what UEFI asks for at least, and what all tools write.
const (
	sectorSize  = 512
	entryCount  = 128
	entrySize   = 128
	arraySize   = entryCount * entrySize
	headerSize  = 92
	revision    = 1 << 16
	labelLength = 36 // UTF-16 units
)

// HeadSize and TailSize are how many bytes Encode writes at the start and at the end of an image.
const (
	HeadSize = 2*sectorSize + arraySize
	TailSize = arraySize + sectorSize
)

// ReadOnly is the attribute of a partition that is to be mounted read-only.
const ReadOnly Attributes = 1 << 60

// Encode gives the bytes of a table for an image of size bytes, with sectors of 512 bytes: those at its start and
// those at its end. The partitions are numbered as they come; their Kind does not count, their Type does.
func Encode(id UUID, size int64, partitions []Partition) (head, tail []byte, err error) {
	sectors := uint64(size) / sectorSize
	if size%sectorSize != 0 || size < HeadSize+TailSize {
		return nil, nil, fmt.Errorf("write GUID partition table: an image of %d bytes, want whole sectors of %d, and at least %d bytes",
			size, sectorSize, HeadSize+TailSize)
	}
	if len(partitions) > entryCount {
		return nil, nil, fmt.Errorf("write GUID partition table: %d partitions, it has room for %d", len(partitions), entryCount)
	}
	array := make([]byte, arraySize)
	for i, p := range partitions {
		if err := p.encode(array[i*entrySize:][:entrySize], size); err != nil {
			return nil, nil, fmt.Errorf("write GUID partition table: partition %d: %w", i+1, err)
		}
	}
	if err := overlap(partitions); err != nil {
		return nil, nil, err
	}
	last := sectors - 1
	head = make([]byte, HeadSize)
	protect(head, last)
	encodeHeader(head[sectorSize:][:sectorSize], id, array, 1, last, 2)
	copy(head[2*sectorSize:], array)
	tail = make([]byte, TailSize)
	copy(tail, array)
	encodeHeader(tail[arraySize:], id, array, last, 1, last-arraySize/sectorSize)
	return head, tail, nil
}

func (p Partition) encode(e []byte, size int64) error {
	first, end := p.Offset/sectorSize, (p.Offset+p.Size)/sectorSize
	if p.Offset%sectorSize != 0 || p.Size%sectorSize != 0 || p.Size <= 0 || p.Offset < HeadSize || p.Offset+p.Size > size-TailSize {
		return fmt.Errorf("it is at bytes %d to %d, not in whole sectors between the tables", p.Offset, p.Offset+p.Size)
	}
	units := utf16.Encode([]rune(p.Label))
	if len(units) > labelLength {
		return fmt.Errorf("the label %q is longer than %d characters", p.Label, labelLength)
	}
	copy(e[0:], p.Type[:])
	copy(e[16:], p.ID[:])
	binary.LittleEndian.PutUint64(e[32:], uint64(first))
	binary.LittleEndian.PutUint64(e[40:], uint64(end-1))
	binary.LittleEndian.PutUint64(e[48:], uint64(p.Attrs))
	for i, u := range units {
		binary.LittleEndian.PutUint16(e[56+2*i:], u)
	}
	return nil
}

// encodeHeader writes the header of the sector my; the other one is at alternate, the entries are at array.
func encodeHeader(h []byte, id UUID, entries []byte, my, alternate, array uint64) {
	le := binary.LittleEndian
	copy(h, signature)
	le.PutUint32(h[8:], revision)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], my)
	le.PutUint64(h[32:], alternate)
	le.PutUint64(h[40:], HeadSize/sectorSize)
	le.PutUint64(h[48:], max(my, alternate)-TailSize/sectorSize)
	copy(h[56:], id[:])
	le.PutUint64(h[72:], array)
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
}

// protect writes the protective MBR: one partition over the whole image, so that tools that know no GPT keep off.
func protect(mbr []byte, last uint64) {
	e := mbr[446:]
	e[2], e[4] = 0x02, 0xee // It starts at sector 1, by the oldest way of counting, too.
	e[5], e[6], e[7] = 0xff, 0xff, 0xff
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(last, 1<<32-1)))
	mbr[510], mbr[511] = 0x55, 0xaa
}

// TypeOf is the type of a partition: the reverse of KindOf.
func TypeOf(k Kind) (UUID, bool) {
	for text, d := range plainTypes {
		if k == (Kind{Designator: d}) {
			return mustUUID(text), true
		}
	}
	for _, a := range linuxTypes {
		for i, t := range a.types {
			if k == (Kind{Designator: perArch[i], Arch: a.arch}) {
				return mustUUID(t), true
			}
		}
	}
	return UUID{}, false
}

// Architectures lists those that there are partition types for, in systemd's words.
func Architectures() []string {
	var all []string
	for _, a := range linuxTypes {
		all = append(all, a.arch)
	}
	return all
}

// FromBytes turns the 16 bytes of a UUID in the order of its text form, which is also how systemd holds them, into
// the order of a table; it is its own reverse.
func FromBytes(b [16]byte) UUID {
	return UUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// Bytes gives the 16 bytes in the order of the text form.
func (u UUID) Bytes() [16]byte { return FromBytes([16]byte(u)) }

// ParseUUID reads the text form, in either case, with or without its hyphens.
func ParseUUID(s string) (UUID, error) {
	var b [16]byte
	digits := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits = strings.ReplaceAll(s, "-", "")
	}
	if n, err := hex.Decode(b[:], []byte(digits[:min(len(digits), 32)])); err != nil || n != 16 || len(digits) != 32 {
		return UUID{}, fmt.Errorf("%q is no UUID", s)
	}
	return FromBytes(b), nil
}

func mustUUID(s string) UUID {
	u, err := ParseUUID(s)
	if err != nil {
		panic(err) // the tables of this package
	}
	return u
}
