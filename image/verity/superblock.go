package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// SuperblockSize is the size of a superblock in bytes. On disk it takes a whole hash block.
const SuperblockSize = 512

// Bounds of what the kernel takes on some architecture: blocks from a sector to a page, the largest of which is 64 KiB
// (drivers/md/dm-verity-target.c).
const (
	minBlock = 512
	maxBlock = 64 << 10
	maxSalt  = 256
)

// Superblock says how a hash tree is made.
type Superblock struct {
	UUID          [16]byte // of the hash area; in the order of its text form
	Algorithm     string   // "sha256", "sha512" or "sha1"
	DataBlockSize uint32   // in bytes
	HashBlockSize uint32   // in bytes
	DataBlocks    uint64
	Salt          []byte // hashed before each block; at most 256 bytes
}

var magic = []byte("verity\x00\x00")

// Offsets of the fields (cryptsetup, lib/verity/verity.c). Numbers are little endian.
const (
	offVersion       = 8
	offHashType      = 12
	offUUID          = 16
	offAlgorithm     = 32
	offDataBlockSize = 64
	offHashBlockSize = 68
	offDataBlocks    = 72
	offSaltSize      = 80
	offPad           = 82
	offSalt          = 88
	offEnd           = 344
)

// Read reads the superblock of a hash area of size bytes, and checks that the tree that it describes fits there.
func Read(r io.ReaderAt, size int64) (*Superblock, error) {
	if size < SuperblockSize {
		return nil, fmt.Errorf("read verity superblock: the hash area is cut off: it has %d bytes", size)
	}
	b := make([]byte, SuperblockSize)
	if err := readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("read verity superblock: %w", err)
	}
	s, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if need := s.HashSize(); need > size {
		return nil, fmt.Errorf("read verity superblock: the hash area is cut off: a tree over %d blocks ends at byte %d, and it has %d",
			s.DataBlocks, need, size)
	}
	return s, nil
}

// Parse reads a superblock.
func Parse(b []byte) (*Superblock, error) {
	s, err := parse(b)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fmt.Errorf("read verity superblock: %w", err)
	}
	return s, nil
}

func parse(b []byte) (*Superblock, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < SuperblockSize:
		return nil, fmt.Errorf("it is cut off after %d bytes", len(b))
	case !bytes.HasPrefix(b, magic):
		return nil, errors.New("there is none")
	case le.Uint32(b[offVersion:]) != 1:
		return nil, fmt.Errorf("version %d, want 1", le.Uint32(b[offVersion:]))
	case le.Uint32(b[offHashType:]) != 1:
		return nil, fmt.Errorf("hash type %d, want 1", le.Uint32(b[offHashType:]))
	}
	n := le.Uint16(b[offSaltSize:])
	if n > maxSalt {
		return nil, fmt.Errorf("a salt of %d bytes, want at most %d", n, maxSalt)
	}
	// Nothing writes anything there, so it is damage.
	if !zeros(b[offPad:offSalt]) || !zeros(b[offSalt+int(n):SuperblockSize]) {
		return nil, errors.New("bytes are set that must be zero")
	}
	name, rest, _ := bytes.Cut(b[offAlgorithm:offDataBlockSize], []byte{0})
	if !zeros(rest) {
		return nil, errors.New("bytes are set after the name of the algorithm that must be zero")
	}
	return &Superblock{
		UUID:          [16]byte(b[offUUID:]),
		Algorithm:     string(name),
		DataBlockSize: le.Uint32(b[offDataBlockSize:]),
		HashBlockSize: le.Uint32(b[offHashBlockSize:]),
		DataBlocks:    le.Uint64(b[offDataBlocks:]),
		Salt:          slices.Clone(b[offSalt:][:n]),
	}, nil
}

func (s *Superblock) check() error {
	if _, ok := algorithms[s.Algorithm]; !ok {
		return fmt.Errorf("algorithm %q, want sha256, sha512 or sha1", s.Algorithm)
	}
	for _, b := range []struct {
		what string
		size uint32
	}{{"data", s.DataBlockSize}, {"hash", s.HashBlockSize}} {
		if b.size < minBlock || b.size > maxBlock || b.size&(b.size-1) != 0 {
			return fmt.Errorf("%s blocks of %d bytes, want a power of two from %d to %d", b.what, b.size, minBlock, maxBlock)
		}
	}
	switch {
	case len(s.Salt) > maxSalt:
		return fmt.Errorf("a salt of %d bytes, want at most %d", len(s.Salt), maxSalt)
	case s.DataBlocks == 0:
		return errors.New("it is for no data at all")
	case s.DataBlocks > math.MaxInt64/uint64(s.DataBlockSize):
		return fmt.Errorf("it is for %d data blocks of %d bytes, which no file has", s.DataBlocks, s.DataBlockSize)
	}
	return nil
}

// Bytes gives the superblock as it is written. It must be one that [Format] takes.
func (s *Superblock) Bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, SuperblockSize)
	copy(b, magic)
	le.PutUint32(b[offVersion:], 1)
	le.PutUint32(b[offHashType:], 1)
	copy(b[offUUID:], s.UUID[:])
	copy(b[offAlgorithm:offDataBlockSize], s.Algorithm)
	le.PutUint32(b[offDataBlockSize:], s.DataBlockSize)
	le.PutUint32(b[offHashBlockSize:], s.HashBlockSize)
	le.PutUint64(b[offDataBlocks:], s.DataBlocks)
	le.PutUint16(b[offSaltSize:], uint16(len(s.Salt)))
	copy(b[offSalt:offEnd], s.Salt)
	return b
}

// DataSize is the size of the data that is protected, in bytes.
func (s *Superblock) DataSize() int64 { return int64(s.DataBlocks) * int64(s.DataBlockSize) }

// HashSize is the size of the hash area, in bytes, from the start of the superblock to the end of the tree.
func (s *Superblock) HashSize() int64 {
	var blocks int64 = 1
	for _, l := range s.levels() {
		blocks += l.blocks
	}
	return blocks * int64(s.HashBlockSize)
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// readFull fills b. That the file ends is said in words, since the file may have become shorter.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("it ends at byte %d, and there should be %d more", off+int64(n), len(b)-n)
	}
	return err
}
