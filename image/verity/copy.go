package verity

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
)

// Copy writes the data to w, or nowhere if w is nil, each block after it was checked against the tree and the root
// hash. It fails at the first block of data or of the tree that was changed; what was written before is then of no
// use. The unused rest of the tree must be zeros.
func Copy(ctx context.Context, s *Superblock, root []byte, tree, data io.ReaderAt, w io.WriterAt) error {
	if err := s.check(); err != nil {
		return fmt.Errorf("check hash tree: %w", err)
	}
	if err := s.checkRoot(root); err != nil {
		return err
	}
	ls := s.levels()
	if len(ls) == 0 {
		return s.copyOne(root, data, w)
	}
	// What lies above level 0 is small: it is read and checked as a whole.
	digests := root
	for i := len(ls) - 1; i > 0; i-- {
		var err error
		if digests, err = s.readLevel(ctx, i, ls[i], digests, tree); err != nil {
			return err
		}
	}
	return parallel(ctx, ls[0].blocks, func() func(int64) error {
		c := &copier{
			s: s, l: ls[0], digests: digests, tree: tree, w: w,
			data: s.newReader(data), h: s.hasher(), node: make([]byte, s.HashBlockSize),
		}
		return c.leaf
	})
}

// copyOne copies the only block, whose digest is the root hash.
func (s *Superblock) copyOne(root []byte, data io.ReaderAt, w io.WriterAt) error {
	b := make([]byte, s.DataBlockSize)
	if err := readFull(data, b, 0); err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	if !bytes.Equal(s.hasher().of(b), root) {
		return fmt.Errorf("the data does not have the root hash %x: it is that of another image, or it, its superblock or the root "+
			"hash was changed", root)
	}
	return write(w, b, 0)
}

// readLevel gives the digests that a level has, checked against those of its blocks: without what lies between them.
func (s *Superblock) readLevel(ctx context.Context, i int, l level, above []byte, tree io.ReaderAt) ([]byte, error) {
	digests := make([]byte, l.hashes*int64(s.DigestSize()))
	size := int64(s.DigestSize())
	err := parallel(ctx, l.blocks, func() func(int64) error {
		h, b := s.hasher(), make([]byte, s.HashBlockSize)
		return func(block int64) error {
			if err := s.readNode(tree, h, b, i, l, block, above[block*size:][:size]); err != nil {
				return err
			}
			for j := range int64(s.used(l, block) / s.slot()) {
				copy(digests[(block*s.perBlock()+j)*size:], b[j*int64(s.slot()):][:size])
			}
			return nil
		}
	})
	return digests, err
}

// copier copies what blocks of level 0 are about. It is for one goroutine.
type copier struct {
	s       *Superblock
	l       level
	digests []byte // of the blocks of l
	tree    io.ReaderAt
	w       io.WriterAt

	data *reader
	h    *hasher
	node []byte
}

// leaf copies the data blocks whose digests are in one block of level 0.
func (c *copier) leaf(block int64) error {
	digest, slot := int64(c.s.DigestSize()), int64(c.s.slot())
	if err := c.s.readNode(c.tree, c.h, c.node, 0, c.l, block, c.digests[block*digest:][:digest]); err != nil {
		return err
	}
	first, size := block*c.s.perBlock(), int64(c.s.DataBlockSize)
	return c.data.chunks(first, int64(c.s.used(c.l, block))/slot, func(at int64, blocks []byte) error {
		off := at * size
		for d := range slices.Chunk(blocks, int(size)) {
			if !bytes.Equal(c.h.of(d), c.node[(at-first)*slot:][:digest]) {
				return fmt.Errorf("data block %d (at byte %d) was changed: its digest is not that of the hash tree", at, at*size)
			}
			at++
		}
		return write(c.w, blocks, off)
	})
}

func write(w io.WriterAt, b []byte, off int64) error {
	if w == nil {
		return nil
	}
	if _, err := w.WriteAt(b, off); err != nil {
		return fmt.Errorf("write verified data: %w", err)
	}
	return nil
}
