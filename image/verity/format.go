package verity

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// chunk is how much data is read at once, in bytes, where blocks are not larger than that.
const chunk = 512 << 10

// Format writes the superblock and the hash tree over s.DataSize() bytes of data, and gives the root hash. The hash
// area takes s.HashSize() bytes of w, all of which are written.
func Format(ctx context.Context, s *Superblock, data io.ReaderAt, w io.WriterAt) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("make hash tree: %w", err)
	}
	first := make([]byte, s.HashBlockSize)
	copy(first, s.Bytes())
	if _, err := w.WriteAt(first, 0); err != nil {
		return nil, fmt.Errorf("write verity superblock: %w", err)
	}
	ls := s.levels()
	if len(ls) == 0 {
		b := make([]byte, s.DataBlockSize)
		if err := readFull(data, b, 0); err != nil {
			return nil, fmt.Errorf("read data: %w", err)
		}
		return s.hasher().of(b), nil
	}
	digests, err := s.formatLeaves(ctx, ls[0], data, w)
	for i := 1; i < len(ls) && err == nil; i++ {
		digests, err = s.formatLevel(ctx, ls[i], digests, w)
	}
	return digests, err
}

// formatLeaves writes level 0 and gives the digests of its blocks, one after the other.
func (s *Superblock) formatLeaves(ctx context.Context, l level, data io.ReaderAt, w io.WriterAt) ([]byte, error) {
	return s.writeLevel(ctx, l, w, func(h *hasher, b []byte) func(block int64) error {
		r := s.newReader(data)
		return func(block int64) error {
			first := block * s.perBlock()
			return r.chunks(first, int64(s.used(l, block)/s.slot()), func(at int64, data []byte) error {
				for d := range slices.Chunk(data, int(s.DataBlockSize)) {
					copy(b[int(at-first)*s.slot():], h.of(d))
					at++
				}
				return nil
			})
		}
	})
}

// formatLevel writes a level over the digests of the blocks of the one below.
func (s *Superblock) formatLevel(ctx context.Context, l level, digests []byte, w io.WriterAt) ([]byte, error) {
	return s.writeLevel(ctx, l, w, func(_ *hasher, b []byte) func(block int64) error {
		return func(block int64) error {
			for i := range s.used(l, block) / s.slot() {
				from := (int(block*s.perBlock()) + i) * s.DigestSize()
				copy(b[i*s.slot():], digests[from:from+s.DigestSize()])
			}
			return nil
		}
	})
}

// writeLevel writes the blocks of a level, which fill is called for on one goroutine of several, each with a block of
// its own, and gives their digests.
func (s *Superblock) writeLevel(ctx context.Context, l level, w io.WriterAt, filler func(*hasher, []byte) func(int64) error) ([]byte, error) {
	digests := make([]byte, l.blocks*int64(s.DigestSize()))
	err := parallel(ctx, l.blocks, func() func(int64) error {
		h, b := s.hasher(), make([]byte, s.HashBlockSize)
		fill := filler(h, b)
		return func(block int64) error {
			clear(b)
			if err := fill(block); err != nil {
				return err
			}
			copy(digests[block*int64(s.DigestSize()):], h.of(b))
			if _, err := w.WriteAt(b, (l.start+block)*int64(s.HashBlockSize)); err != nil {
				return fmt.Errorf("write hash tree: %w", err)
			}
			return nil
		}
	})
	return digests, err
}

// reader reads data in large chunks. It is for one goroutine.
type reader struct {
	r    io.ReaderAt
	size int64 // of a block
	buf  []byte
}

func (s *Superblock) newReader(r io.ReaderAt) *reader {
	size := int64(s.DataBlockSize)
	return &reader{r: r, size: size, buf: make([]byte, min(max(chunk, size), s.DataSize()))}
}

// chunks reads n blocks from first on, and calls f with some of them at a time; at is the number of the first one.
func (r *reader) chunks(first, n int64, f func(at int64, blocks []byte) error) error {
	for at := first; at < first+n; {
		b := r.buf[:min(int64(len(r.buf)), (first+n-at)*r.size)]
		if err := readFull(r.r, b, at*r.size); err != nil {
			return fmt.Errorf("read data: %w", err)
		}
		if err := f(at, b); err != nil {
			return err
		}
		at += int64(len(b)) / r.size
	}
	return nil
}
