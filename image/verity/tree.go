package verity

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"
)

// algorithms are those that are built, by the kernel's names.
var algorithms = map[string]struct {
	size int // of a digest, in bytes
	new  func() hash.Hash
}{
	"sha1":   {sha1.Size, sha1.New},
	"sha256": {sha256.Size, sha256.New},
	"sha512": {sha512.Size, sha512.New},
}

// DigestSize is the size of a root hash, in bytes.
func (s *Superblock) DigestSize() int { return algorithms[s.Algorithm].size }

// slot is what a digest takes in a hash block: its size, rounded up to a power of two.
func (s *Superblock) slot() int {
	n := 1
	for n < s.DigestSize() {
		n <<= 1
	}
	return n
}

// perBlock is the number of digests in a hash block.
func (s *Superblock) perBlock() int64 { return int64(s.HashBlockSize) / int64(s.slot()) }

// level is one level of a tree. Level 0 has the digests of the data blocks.
type level struct {
	start  int64 // its first block, counted in hash blocks from the superblock
	blocks int64
	hashes int64 // how many digests it has in all
}

// levels lists the levels from 0 up. There is none over a single data block: its digest is the root hash. Nothing
// overflows: a hash block has at least 8 digests, so the tree has fewer bytes than the data, up to rounding.
func (s *Superblock) levels() []level {
	var ls []level
	per := s.perBlock()
	for n := int64(s.DataBlocks); n > 1; n = ls[len(ls)-1].blocks {
		ls = append(ls, level{blocks: (n-1)/per + 1, hashes: n})
	}
	next := int64(1)
	for i := len(ls) - 1; i >= 0; i-- {
		ls[i].start = next
		next += ls[i].blocks
	}
	return ls
}

// used is the number of bytes that digests take in a block of a level; the rest is zeros.
func (s *Superblock) used(l level, block int64) int {
	return int(min(s.perBlock(), l.hashes-block*s.perBlock())) * s.slot()
}

// hasher makes digests for one goroutine.
type hasher struct {
	hash.Hash
	salt []byte
	sum  []byte
}

func (s *Superblock) hasher() *hasher {
	return &hasher{Hash: algorithms[s.Algorithm].new(), salt: s.Salt}
}

// of gives the digest of a block. It is valid until the next call.
func (h *hasher) of(block []byte) []byte {
	h.Reset()
	h.Write(h.salt) // A hash.Hash never fails.
	h.Write(block)
	h.sum = h.Sum(h.sum[:0])
	return h.sum
}

// readNode reads a block of the tree into b, and checks it against the digest that its parent, or the root, has.
func (s *Superblock) readNode(r io.ReaderAt, h *hasher, b []byte, level int, l level, block int64, want []byte) error {
	off := (l.start + block) * int64(s.HashBlockSize)
	if err := readFull(r, b, off); err != nil {
		return fmt.Errorf("read hash tree: %w", err)
	}
	if !bytes.Equal(h.of(b), want) {
		if l.blocks == 1 {
			return fmt.Errorf("the hash tree does not have the root hash %x: it is that of another image, or it, its superblock or "+
				"the root hash was changed", want)
		}
		return fmt.Errorf("hash block %d of level %d (at byte %d of the hash area) was changed: its digest is not that of the level above",
			block, level, off)
	}
	used := s.used(l, block)
	if zeros(b[used-s.slot() : used]) {
		return fmt.Errorf("hash block %d of level %d has fewer digests than there are blocks: the superblock was changed, or the tree is "+
			"that of a shorter image", block, level)
	}
	if !zeros(b[used:]) {
		return fmt.Errorf("hash block %d of level %d has more digests than there are blocks: the superblock was changed, or the tree is "+
			"that of a longer image", block, level)
	}
	return nil
}

func (s *Superblock) checkRoot(root []byte) error {
	if len(root) != s.DigestSize() {
		return fmt.Errorf("the root hash has %d bytes, and %s has %d", len(root), s.Algorithm, s.DigestSize())
	}
	return nil
}

// CheckEnd checks, against the root hash, the last block of every level: that the tree is over as many blocks as the
// superblock says. It is for whoever has the kernel check all the rest, which does not look at this.
func CheckEnd(s *Superblock, root []byte, tree io.ReaderAt) error {
	if err := s.checkRoot(root); err != nil {
		return err
	}
	ls, h := s.levels(), s.hasher()
	b := make([]byte, s.HashBlockSize)
	want := bytes.Clone(root)
	for i := len(ls) - 1; i >= 0; i-- {
		if err := s.readNode(tree, h, b, i, ls[i], ls[i].blocks-1, want); err != nil {
			return err
		}
		last := s.used(ls[i], ls[i].blocks-1) - s.slot()
		want = append(want[:0], b[last:last+s.DigestSize()]...)
	}
	return nil
}
