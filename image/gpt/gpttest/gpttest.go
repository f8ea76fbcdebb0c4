// Package gpttest makes images with GUID partition tables for tests, with any sector size, and on demand wrong ones.
// It is not for images that anybody keeps.
package gpttest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf16"
)

// Partition is one entry to be written.
type Partition struct {
	Type  string // a UUID
	ID    string // a UUID; made up if empty
	Label string
	Attrs uint64
	Data  []byte // its content; the partition is as large as that, rounded up to whole sectors

	// First and Last are the sectors that the entry names, where they are to be other than where the data is.
	First, Last uint64
}

// Image is what is to be written.
type Image struct {
	SectorSize int // in bytes; 512 if 0
	Partitions []Partition
	// Edit changes the fields of a header before its checksum is made; h is the sector.
	Edit func(h []byte)
}

// Offsets of fields in a header, for Edit.
const (
	HeaderSize = 12
	MyLBA      = 24
	FirstLBA   = 40
	LastLBA    = 48
	EntriesLBA = 72
	Count      = 80
	EntrySize  = 84
)

const entries, entrySize = 128, 128

// Bytes gives the image: protective MBR, header, entries, partitions each at a whole 64 KiB, backup.
func (im Image) Bytes() []byte {
	ss := im.SectorSize
	if ss == 0 {
		ss = 512
	}
	const align = 64 << 10
	array := make([]byte, entries*entrySize)
	size := align
	offsets := make([]int, len(im.Partitions))
	for i, p := range im.Partitions {
		offsets[i] = size
		first, last := uint64(size/ss), uint64((size+max(len(p.Data), 1)-1)/ss)
		if p.First != 0 || p.Last != 0 {
			first, last = p.First, p.Last
		}
		putEntry(array[i*entrySize:], i, p, first, last)
		size = (size + len(p.Data) + align) / align * align
	}
	size += align // the backup
	out := make([]byte, size)
	for i, p := range im.Partitions {
		copy(out[offsets[i]:], p.Data)
	}
	putMBR(out, uint32(size/ss-1))
	arraySectors := (len(array) + ss - 1) / ss
	last := size/ss - 1
	im.putHeader(out, ss, 1, last, 2, arraySectors, array)
	im.putHeader(out, ss, last, 1, last-arraySectors, arraySectors, array)
	return out
}

func putMBR(out []byte, sectors uint32) {
	e := out[446:]
	e[4] = 0xee
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], sectors)
	out[510], out[511] = 0x55, 0xaa
}

func putEntry(e []byte, i int, p Partition, first, last uint64) {
	copy(e, UUID(p.Type))
	e[16] = byte(i + 1)
	if p.ID != "" {
		copy(e[16:], UUID(p.ID))
	}
	binary.LittleEndian.PutUint64(e[32:], first)
	binary.LittleEndian.PutUint64(e[40:], last)
	binary.LittleEndian.PutUint64(e[48:], p.Attrs)
	for j, u := range utf16.Encode([]rune(p.Label)) {
		if j < 36 {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
}

func (im Image) putHeader(out []byte, ss, my, other, at, sectors int, array []byte) {
	copy(out[at*ss:], array)
	h := out[my*ss : (my+1)*ss]
	copy(h, "EFI PART\x00\x00\x01\x00")
	le := binary.LittleEndian
	le.PutUint32(h[HeaderSize:], 92)
	le.PutUint64(h[MyLBA:], uint64(my))
	le.PutUint64(h[32:], uint64(other))
	le.PutUint64(h[FirstLBA:], uint64(2+sectors))
	le.PutUint64(h[LastLBA:], uint64(len(out)/ss-2-sectors))
	copy(h[56:], UUID("11111111-2222-3333-4444-555555555555"))
	le.PutUint64(h[EntriesLBA:], uint64(at))
	le.PutUint32(h[Count:], entries)
	le.PutUint32(h[EntrySize:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	if im.Edit != nil {
		im.Edit(h)
	}
	le.PutUint32(h[16:], 0)
	n := min(le.Uint32(h[HeaderSize:]), uint32(ss))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:n]))
}

// UUID gives the 16 bytes of a UUID as a table stores them. It panics on text that is none.
func UUID(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		panic("gpttest: no UUID: " + s)
	}
	return bytes.Join([][]byte{{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}, b[8:]}, nil)
}

// Tool skips a test that needs a program which is not installed; with EXTEXEC_REQUIRE_RIG=1 that is a failure.
func Tool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}
