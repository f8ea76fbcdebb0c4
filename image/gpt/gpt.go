package gpt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

// ErrNone says that there is no GUID partition table, nor the remains of one.
var ErrNone = errors.New("no GUID partition table")

// FormatError says what is wrong with a table.
type FormatError struct {
	Msg string
	// damaged says that bytes were lost, so that the other copy may be better. A copy that is whole and makes no
	// sense is refused: different readers would fall back to different tables.
	damaged bool
}

func (e *FormatError) Error() string { return "GUID partition table: " + e.Msg }

func wrong(format string, args ...any) error { return &FormatError{Msg: fmt.Sprintf(format, args...)} }

func damaged(format string, args ...any) error {
	return &FormatError{Msg: fmt.Sprintf(format, args...), damaged: true}
}

// Bounds of what is taken for a sane table. The UEFI minimum of 128 entries of 128 bytes is what all tools write.
const (
	maxEntries   = 1024
	maxEntrySize = 4096
	maxArray     = 1 << 20 // bytes
	minHeader    = 92
)

var (
	signature   = []byte("EFI PART")
	sectorSizes = [...]int64{512, 1024, 2048, 4096}
)

// Attributes is the 64-bit attribute field of a partition.
type Attributes uint64

// ReadOnly says that the partition is to be mounted read-only (bit 60).
func (a Attributes) ReadOnly() bool { return a>>60&1 == 1 }

// GrowFS says that its file system is to be grown to the partition (bit 59).
func (a Attributes) GrowFS() bool { return a>>59&1 == 1 }

// NoAuto says that the partition is not to be used unless asked for by name (bit 63).
func (a Attributes) NoAuto() bool { return a>>63&1 == 1 }

// Partition is one entry in use.
type Partition struct {
	Number int // its place in the table, from 1
	Type   UUID
	ID     UUID
	Kind   Kind
	Label  string
	Offset int64 // in bytes, from the start of the image
	Size   int64 // in bytes
	Attrs  Attributes
}

// Table is a whole partition table.
type Table struct {
	ID         UUID
	SectorSize int64 // in bytes
	Backup     bool  // the first copy is damaged; this is the one at the end of the image
	Partitions []Partition
}

// header is the part of a header that is needed, checked.
type header struct {
	my, alternate, first, last uint64
	id                         UUID
	entries                    uint64 // LBA of the array
	count, entrySize, crc      uint32
}

// Read reads the partition table of an image of size bytes. The error is ErrNone, a *FormatError, or what reading r
// gave.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	if ok, err := protectiveMBR(r, size); err != nil || !ok {
		return nil, cmp.Or(err, ErrNone)
	}
	t, primary := readPrimary(r, size)
	if primary == nil || !isDamaged(primary) {
		return t, primary
	}
	for _, ss := range sectorSizes {
		t, err := readAt(r, size, ss, size/ss-1)
		if err == nil {
			t.Backup = true
			return t, nil
		}
		if !isDamaged(err) {
			return nil, err
		}
	}
	return nil, primary
}

func isDamaged(err error) bool {
	var format *FormatError
	return errors.As(err, &format) && format.damaged
}

// readPrimary tries every sector size. More than one that fits would be two tables in one image, of which different
// readers would take different ones.
func readPrimary(r io.ReaderAt, size int64) (*Table, error) {
	var found *Table
	var first error
	for _, ss := range sectorSizes {
		buf, err := read(r, size, ss, int64(len(signature)))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(buf, signature) {
			continue
		}
		t, err := readAt(r, size, ss, 1)
		switch {
		case err != nil && !isDamaged(err):
			return nil, err
		case err != nil:
			first = cmp.Or(first, err)
		case found != nil:
			return nil, wrong("it can be read with sectors of %d and of %d bytes", found.SectorSize, ss)
		default:
			found = t
		}
	}
	if found == nil {
		return nil, cmp.Or(first, damaged("there is a protective MBR, but no header: it was cut off or overwritten"))
	}
	return found, nil
}

// protectiveMBR looks for an MBR with a partition of type 0xEE.
func protectiveMBR(r io.ReaderAt, size int64) (bool, error) {
	mbr, err := read(r, size, 0, 512)
	if err != nil || mbr == nil || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return false, err
	}
	for e := 446; e < 510; e += 16 {
		if mbr[e+4] == 0xee {
			return true, nil
		}
	}
	return false, nil
}

// readAt reads the table whose header is at the given sector.
func readAt(r io.ReaderAt, size, ss, lba int64) (*Table, error) {
	h, err := readHeader(r, size, ss, lba)
	if err != nil {
		return nil, err
	}
	array, err := readArray(r, size, ss, lba, h)
	if err != nil {
		return nil, err
	}
	t := &Table{ID: h.id, SectorSize: ss}
	for i := range int(h.count) {
		e := array[i*int(h.entrySize):][:h.entrySize]
		p, used, err := parseEntry(e, i+1, ss, h)
		if err != nil {
			return nil, err
		}
		if used {
			t.Partitions = append(t.Partitions, p)
		}
	}
	if err := overlap(t.Partitions); err != nil {
		return nil, err
	}
	return t, nil
}

func readHeader(r io.ReaderAt, size, ss, lba int64) (header, error) {
	buf, err := read(r, size, lba*ss, ss)
	if err != nil {
		return header{}, err
	}
	if !bytes.HasPrefix(buf, signature) {
		return header{}, damaged("no header at sector %d of %d bytes", lba, ss)
	}
	length := binary.LittleEndian.Uint32(buf[12:])
	if length < minHeader || int64(length) > ss {
		return header{}, damaged("the header says that it is %d bytes long, in a sector of %d", length, ss)
	}
	want := binary.LittleEndian.Uint32(buf[16:])
	clear(buf[16:20])
	if got := crc32.ChecksumIEEE(buf[:length]); got != want {
		return header{}, damaged("wrong checksum of the header: %#x, not %#x", got, want)
	}
	h := header{
		my:        binary.LittleEndian.Uint64(buf[24:]),
		alternate: binary.LittleEndian.Uint64(buf[32:]),
		first:     binary.LittleEndian.Uint64(buf[40:]),
		last:      binary.LittleEndian.Uint64(buf[48:]),
		id:        UUID(buf[56:72]),
		entries:   binary.LittleEndian.Uint64(buf[72:]),
		count:     binary.LittleEndian.Uint32(buf[80:]),
		entrySize: binary.LittleEndian.Uint32(buf[84:]),
		crc:       binary.LittleEndian.Uint32(buf[88:]),
	}
	if h.my != uint64(lba) {
		return header{}, damaged("the header at sector %d says that it is at %d", lba, h.my)
	}
	return h, h.check(uint64(size / ss))
}

// check holds the header against an image of that many sectors.
func (h header) check(sectors uint64) error {
	if h.entrySize < 128 || h.entrySize > maxEntrySize || h.entrySize&(h.entrySize-1) != 0 {
		return wrong("entries of %d bytes, want 128 to %d and a power of two", h.entrySize, maxEntrySize)
	}
	if h.count == 0 || h.count > maxEntries || h.count*h.entrySize > maxArray {
		return wrong("%d entries of %d bytes, want 1 to %d and at most %d bytes", h.count, h.entrySize, maxEntries, maxArray)
	}
	if h.first > h.last {
		return wrong("the last usable sector %d is before the first, %d", h.last, h.first)
	}
	if h.last >= sectors {
		return wrong("the image is cut off: partitions may reach to sector %d, and it has only %d", h.last, sectors)
	}
	return nil
}

// readArray reads the entries. Their place is checked before anything is allocated for them.
func readArray(r io.ReaderAt, size, ss, lba int64, h header) ([]byte, error) {
	length := int64(h.count) * int64(h.entrySize)
	if h.entries < 2 || h.entries >= uint64(size/ss) || int64(h.entries)*ss > size-length {
		return nil, wrong("the entries are at sector %d, outside of the image", h.entries)
	}
	start, end := h.entries, h.entries+uint64((length+ss-1)/ss)
	if start <= uint64(lba) && uint64(lba) < end || start <= h.last && h.first < end {
		return nil, wrong("the entries at sectors %d to %d lie over the header or the partitions", start, end-1)
	}
	array, err := read(r, size, int64(h.entries)*ss, length)
	if err != nil {
		return nil, err
	}
	if got := crc32.ChecksumIEEE(array); array == nil || got != h.crc {
		return nil, damaged("wrong checksum of the entries: %#x, not %#x", got, h.crc)
	}
	return array, nil
}

func parseEntry(e []byte, number int, ss int64, h header) (Partition, bool, error) {
	p := Partition{Number: number, Type: UUID(e[0:16]), ID: UUID(e[16:32])}
	if p.Type == (UUID{}) {
		return Partition{}, false, nil
	}
	start, end := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
	if start > end || start < h.first || end > h.last {
		return Partition{}, false, wrong("partition %d is at sectors %d to %d, usable are %d to %d",
			number, start, end, h.first, h.last)
	}
	// No overflow: h.last is a sector of the image, whose size in bytes is an int64.
	p.Offset, p.Size = int64(start)*ss, int64(end-start+1)*ss
	p.Attrs = Attributes(binary.LittleEndian.Uint64(e[48:]))
	p.Kind = KindOf(p.Type)
	p.Label = label(e[56:128])
	return p, true, nil
}

// label reads up to 36 UTF-16 units; what is no UTF-16 becomes U+FFFD.
func label(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

func overlap(ps []Partition) error {
	sorted := slices.SortedFunc(slices.Values(ps), func(a, b Partition) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.Offset+a.Size > b.Offset {
			return wrong("partitions %d and %d overlap", a.Number, b.Number)
		}
	}
	return nil
}

// read gives n bytes at off, or nil where the image ends before.
func read(r io.ReaderAt, size, off, n int64) ([]byte, error) {
	if off < 0 || n > size-off {
		return nil, nil
	}
	buf := make([]byte, n)
	if got, err := r.ReadAt(buf, off); int64(got) < n {
		if errors.Is(err, io.EOF) { // It became shorter meanwhile.
			return nil, nil
		}
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	return buf, nil
}
