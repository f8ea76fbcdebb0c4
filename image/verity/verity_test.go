package verity_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/image/verity"
)

// sized gives a file in memory of n bytes, which several goroutines may write to, each in places of its own.
func sized(n int64) *memory { return &memory{make([]byte, n)} }

type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func superblock(algorithm string, dataBlock, hashBlock uint32, blocks uint64, salt []byte) *verity.Superblock {
	return &verity.Superblock{
		UUID: [16]byte{1, 2, 3}, Algorithm: algorithm, DataBlockSize: dataBlock, HashBlockSize: hashBlock, DataBlocks: blocks, Salt: salt,
	}
}

func format(t testing.TB, s *verity.Superblock, data []byte) (area, root []byte) {
	t.Helper()
	w := sized(s.HashSize())
	root, err := verity.Format(context.Background(), s, bytes.NewReader(data), w)
	if err != nil {
		t.Fatal(err)
	}
	return w.b, root
}

// check reads a hash area and copies the data, as whoever has nothing but the bytes does.
func check(area, root, data []byte) ([]byte, error) {
	s, err := verity.Read(bytes.NewReader(area), int64(len(area)))
	if err != nil {
		return nil, err
	}
	w := sized(s.DataSize())
	err = verity.Copy(context.Background(), s, root, bytes.NewReader(area), bytes.NewReader(data), w)
	return w.b, err
}

type shape struct {
	algorithm            string
	dataBlock, hashBlock uint32
	blocks               uint64
	salt                 int
}

func (s shape) String() string {
	return fmt.Sprintf("%s-%d-%d-%d-%d", s.algorithm, s.dataBlock, s.hashBlock, s.blocks, s.salt)
}

// shapes have 0 to 4 levels, and blocks of all sizes on both sides; the counts lie around full hash blocks.
var shapes = []shape{
	{"sha256", 4096, 4096, 1, 32},
	{"sha256", 4096, 4096, 2, 32},
	{"sha256", 4096, 4096, 127, 32},
	{"sha256", 4096, 4096, 128, 32},
	{"sha256", 4096, 4096, 129, 32},
	{"sha256", 4096, 4096, 1000, 0},
	{"sha256", 512, 512, 16 * 16, 1},
	{"sha256", 512, 512, 16*16*16 + 1, 255},
	{"sha256", 1024, 4096, 300, 256},
	{"sha256", 4096, 1024, 300, 64},
	{"sha256", 65536, 65536, 9, 32},
	{"sha256", 65536, 512, 40, 32},
	{"sha512", 4096, 4096, 65, 32},
	{"sha512", 512, 512, 8*8*8*8 + 3, 32},
	{"sha1", 4096, 4096, 129, 32},
	{"sha1", 512, 1024, 1025, 20},
}

// TestVeritysetup holds what is written against what veritysetup(8) writes, byte by byte, and has each check the
// other's.
func TestVeritysetup(t *testing.T) {
	gpttest.Tool(t, "veritysetup")
	for _, c := range shapes {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			dataFile, hashFile, ours := filepath.Join(dir, "data"), filepath.Join(dir, "hash"), filepath.Join(dir, "ours")
			data := noise(int(c.blocks) * int(c.dataBlock))
			salt := "-"
			if c.salt > 0 {
				salt = hex.EncodeToString(noise(c.salt))
			}
			write(t, dataFile, data)
			rootFile := filepath.Join(dir, "root")
			run(t, "veritysetup", "format", dataFile, hashFile, "--hash", c.algorithm, "--data-block-size", strconv.Itoa(int(c.dataBlock)),
				"--hash-block-size", strconv.Itoa(int(c.hashBlock)), "--salt", salt, "--uuid", "01020300-0000-0000-0000-000000000000",
				"--root-hash-file", rootFile)
			s := superblock(c.algorithm, c.dataBlock, c.hashBlock, c.blocks, nil)
			if c.salt > 0 {
				s.Salt = noise(c.salt)
			}
			area, root := format(t, s, data)
			if want := strings.TrimSpace(string(read(t, rootFile))); hex.EncodeToString(root) != want {
				t.Errorf("root hash %x, veritysetup has %s", root, want)
			}
			theirs := read(t, hashFile)
			if !bytes.Equal(area, theirs) {
				t.Errorf("the hash area of %d bytes differs from that of veritysetup, of %d", len(area), len(theirs))
			}
			write(t, ours, area)
			run(t, "veritysetup", "verify", dataFile, ours, hex.EncodeToString(root))
			if got, err := check(theirs, root, data); err != nil || !bytes.Equal(got, data) {
				t.Errorf("copy: %v", err)
			}
			if s, err := verity.Parse(theirs); err != nil {
				t.Error(err)
			} else if err := verity.CheckEnd(s, root, bytes.NewReader(theirs)); err != nil {
				t.Errorf("end: %v", err)
			}
		})
	}
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBit flips every bit of small hash areas, and one bit in each byte of the data and of the root hash, and
// shows that none goes unseen, but those of the UUID. (Of larger data some bytes are
// left out.)
func TestFlippedBit(t *testing.T) {
	for _, c := range []shape{{"sha256", 512, 512, 1, 8}, {"sha256", 512, 512, 17, 8}, {"sha512", 512, 512, 9, 0}, {"sha1", 512, 1024, 33, 256}} {
		data := noise(int(c.blocks) * int(c.dataBlock))
		area, root := format(t, superblock(c.algorithm, c.dataBlock, c.hashBlock, c.blocks, noise(c.salt)), data)
		if _, err := check(area, root, data); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		for bit := range len(area) * 8 {
			if at := bit / 8; 16 <= at && at < 32 || verity.SuperblockSize <= at && at < int(c.hashBlock) {
				continue // the UUID, and what lies between superblock and tree
			}
			area[bit/8] ^= 1 << (bit % 8)
			if _, err := check(area, root, data); err == nil {
				t.Errorf("%s: bit %d of byte %d of the hash area: not seen", c, bit%8, bit/8)
			}
			area[bit/8] ^= 1 << (bit % 8)
		}
		for i := 0; i < len(data); i += 1 + len(data)/1000 {
			data[i] ^= 1 << (i % 8)
			if got, err := check(area, root, data); err == nil {
				t.Errorf("%s: byte %d of the data: not seen", c, i)
			} else if at := i / int(c.dataBlock) * int(c.dataBlock); !zeros(got[at : at+int(c.dataBlock)]) {
				t.Errorf("%s: byte %d of the data: the changed block was written", c, i)
			}
			data[i] ^= 1 << (i % 8)
		}
		for i := range root {
			root[i] ^= 0x80
			if _, err := check(area, root, data); err == nil {
				t.Errorf("%s: byte %d of the root hash: not seen", c, i)
			}
			root[i] ^= 0x80
		}
	}
}

func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// TestNamed shows that what is said of damage says where it is.
func TestNamed(t *testing.T) {
	const blocks = 16*16 + 5 // three levels
	data := noise(blocks * 512)
	s := superblock("sha256", 512, 512, blocks, []byte("salt"))
	area, root := format(t, s, data)
	for _, c := range []struct {
		name  string
		edit  func(area, root, data []byte) (a, r, d []byte)
		words string
	}{
		{"data", func(a, r, d []byte) ([]byte, []byte, []byte) { d[20*512+3] ^= 1; return a, r, d }, "data block 20 (at byte 10240) was changed"},
		{"two blocks", func(a, r, d []byte) ([]byte, []byte, []byte) { d[200*512] ^= 1; d[100*512] ^= 1; return a, r, d }, "data block 100 "},
		{"short data", func(a, r, d []byte) ([]byte, []byte, []byte) { return a, r, d[:len(d)-1] }, "read data: it ends at byte"},
		{"leaf", func(a, r, d []byte) ([]byte, []byte, []byte) { a[len(a)-512] ^= 1; return a, r, d }, "hash block 16 of level 0"},
		{"middle", func(a, r, d []byte) ([]byte, []byte, []byte) { a[2*512] ^= 1; return a, r, d }, "hash block 0 of level 1 (at byte 1024 of the hash area)"},
		{"top", func(a, r, d []byte) ([]byte, []byte, []byte) { a[512] ^= 1; return a, r, d }, "the hash tree does not have the root hash"},
		{"root", func(a, r, d []byte) ([]byte, []byte, []byte) { r[0] ^= 1; return a, r, d }, "the hash tree does not have the root hash"},
		{"long root", func(a, r, d []byte) ([]byte, []byte, []byte) { return a, append(r, 0), d }, "the root hash has 33 bytes, and sha256 has 32"},
		{"no root", func(a, r, d []byte) ([]byte, []byte, []byte) { return a, nil, d }, "the root hash has 0 bytes"},
		{"fewer blocks", func(a, r, d []byte) ([]byte, []byte, []byte) { a[72]--; return a, r, d }, "hash block 16 of level 0 has more digests"},
		{"more blocks", func(a, r, d []byte) ([]byte, []byte, []byte) { a[72]++; return a, r, d }, "hash block 16 of level 0 has fewer digests"},
		{"salt", func(a, r, d []byte) ([]byte, []byte, []byte) { a[88] ^= 1; return a, r, d }, "the hash tree does not have the root hash"},
		{"short tree", func(a, r, d []byte) ([]byte, []byte, []byte) { return a[:len(a)-1], r, d }, "the hash area is cut off"},
		{"short superblock", func(a, r, d []byte) ([]byte, []byte, []byte) { return a[:511], r, d }, "the hash area is cut off: it has 511 bytes"},
	} {
		_, err := check(c.edit(bytes.Clone(area), bytes.Clone(root), bytes.Clone(data)))
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
	}
}

// TestCheckEnd shows that a tree is known to be over as many blocks as the superblock says, without reading all of it.
func TestCheckEnd(t *testing.T) {
	for _, blocks := range []uint64{1, 2, 15, 16, 17, 31, 32, 33, 256, 257} {
		data := noise(int(blocks) * 512)
		s := superblock("sha256", 512, 512, blocks, nil)
		area, root := format(t, s, data)
		for _, claimed := range []uint64{1, blocks - 1, blocks, blocks + 1, blocks + 15, blocks * 2} {
			s.DataBlocks = claimed
			if claimed == 0 || s.HashSize() > int64(len(area))+512 {
				continue
			}
			err := verity.CheckEnd(s, root, bytes.NewReader(append(bytes.Clone(area), make([]byte, 512)...)))
			// There is no tree over a single block: its digest is the root hash, and only reading it can tell.
			if ok := claimed == blocks || claimed == 1; (err == nil) != ok {
				t.Errorf("%d blocks, claimed to be %d: %v", blocks, claimed, err)
			}
		}
	}
}

func TestRefusedSuperblocks(t *testing.T) {
	good := superblock("sha256", 4096, 4096, 10, []byte("salt"))
	for _, c := range []struct {
		name  string
		edit  func(b []byte)
		words string
	}{
		{"magic", func(b []byte) { b[0] = 'V' }, "there is none"},
		{"version", func(b []byte) { b[8] = 2 }, "version 2, want 1"},
		{"Chrome OS", func(b []byte) { b[12] = 0 }, "hash type 0, want 1"},
		{"algorithm", func(b []byte) { copy(b[32:], "crc32c\x00") }, `algorithm "crc32c", want`},
		{"algorithm case", func(b []byte) { b[32] = 'S' }, `algorithm "Sha256"`},
		{"no algorithm", func(b []byte) { clear(b[32:64]) }, `algorithm ""`},
		{"long algorithm", func(b []byte) { copy(b[32:64], strings.Repeat("\n", 32)) }, `algorithm "\n`},
		{"after the algorithm", func(b []byte) { b[63] = 1 }, "after the name of the algorithm"},
		{"data block 256", func(b []byte) { b[65] = 1 }, "data blocks of 256 bytes"},
		{"data block 0", func(b []byte) { b[65] = 0 }, "data blocks of 0 bytes"},
		{"data block 128K", func(b []byte) { b[65], b[66] = 0, 2 }, "data blocks of 131072 bytes"},
		{"data block 4097", func(b []byte) { b[64] = 1 }, "data blocks of 4097 bytes"},
		{"hash block 256", func(b []byte) { b[69] = 1 }, "hash blocks of 256 bytes"},
		{"hash block 128K", func(b []byte) { b[69], b[70] = 0, 2 }, "hash blocks of 131072 bytes"},
		{"no data", func(b []byte) { b[72] = 0 }, "for no data at all"},
		{"overflow", func(b []byte) { copy(b[72:], "\x00\x00\x00\x00\x00\x00\x08\x00") }, "which no file has"},
		{"overflow of all", func(b []byte) { copy(b[72:], "\xff\xff\xff\xff\xff\xff\xff\xff") }, "which no file has"},
		{"salt 257", func(b []byte) { b[80], b[81] = 1, 1 }, "a salt of 257 bytes, want at most 256"},
		{"salt 65535", func(b []byte) { b[80], b[81] = 255, 255 }, "a salt of 65535 bytes"},
		{"padding", func(b []byte) { b[82] = 1 }, "must be zero"},
		{"after the salt", func(b []byte) { b[92] = 1 }, "must be zero"},
		{"end", func(b []byte) { b[511] = 1 }, "must be zero"},
	} {
		b := good.Bytes()
		c.edit(b)
		_, err := verity.Parse(b)
		if err == nil || !strings.Contains(err.Error(), c.words) || !strings.HasPrefix(err.Error(), "read verity superblock: ") {
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
	}
	if _, err := verity.Parse(good.Bytes()[:511]); err == nil {
		t.Error("cut off: no error")
	}
}

// TestLimits shows what is still taken.
func TestLimits(t *testing.T) {
	for _, s := range []*verity.Superblock{
		superblock("sha512", 512, 512, 1, noise(256)),
		superblock("sha1", 65536, 65536, 1, nil),
		superblock("sha512", 512, 512, math.MaxInt64/512, nil),
		superblock("sha256", 65536, 512, math.MaxInt64/65536, nil),
		superblock("sha512", 512, 65536, math.MaxInt64/512, nil),
	} {
		got, err := verity.Parse(s.Bytes())
		if err != nil {
			t.Errorf("%+v: %v", s, err)
			continue
		}
		if !bytes.Equal(got.Bytes(), s.Bytes()) {
			t.Errorf("%+v came back as %+v", s, got)
		}
		if got.DataSize() <= 0 || got.HashSize() <= 0 || got.HashSize()-1<<20 > got.DataSize() {
			t.Errorf("%+v: %d bytes of data, %d of hashes", s, got.DataSize(), got.HashSize())
		}
	}
	for words, s := range map[string]*verity.Superblock{
		"a salt of 257 bytes":   superblock("sha256", 4096, 4096, 1, noise(257)),
		"no data":               superblock("sha256", 4096, 4096, 0, nil),
		"data blocks of 131072": superblock("sha256", 128<<10, 4096, 1, nil),
	} {
		if _, err := verity.Format(context.Background(), s, bytes.NewReader(nil), sized(0)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("format: %v, want %q", err, words)
		}
		err := verity.Copy(context.Background(), s, nil, bytes.NewReader(nil), bytes.NewReader(nil), nil)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("copy: %v, want %q", err, words)
		}
	}
}

// broken fails in one place.
type broken struct {
	io.ReaderAt
	at int64
}

var errBroken = errors.New("broken")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.at && b.at < off+int64(len(p)) {
		return 0, errBroken
	}
	return b.ReaderAt.ReadAt(p, off)
}

type full struct{}

func (full) WriteAt([]byte, int64) (int, error) { return 0, errBroken }

// TestIO shows that errors of reading and writing come through, and that an end of the context does.
func TestIO(t *testing.T) {
	const blocks = 16*16*2 + 1
	data := noise(blocks * 512)
	s := superblock("sha256", 512, 512, blocks, nil)
	area, root := format(t, s, data)
	ctx, tree := context.Background(), bytes.NewReader(area)
	for _, at := range []int64{0, 512, 300 * 512, blocks*512 - 1} {
		bad := broken{bytes.NewReader(data), at}
		if _, err := verity.Format(ctx, s, bad, sized(s.HashSize())); !errors.Is(err, errBroken) {
			t.Errorf("format, data at %d: %v", at, err)
		}
		if err := verity.Copy(ctx, s, root, tree, bad, nil); !errors.Is(err, errBroken) {
			t.Errorf("copy, data at %d: %v", at, err)
		}
	}
	for at := int64(512); at < int64(len(area)); at += 512 {
		if err := verity.Copy(ctx, s, root, broken{tree, at}, bytes.NewReader(data), nil); !errors.Is(err, errBroken) {
			t.Errorf("copy, tree at %d: %v", at, err)
		}
	}
	if _, err := verity.Format(ctx, s, bytes.NewReader(data), full{}); !errors.Is(err, errBroken) {
		t.Errorf("format, writing: %v", err)
	}
	if err := verity.Copy(ctx, s, root, tree, bytes.NewReader(data), full{}); !errors.Is(err, errBroken) {
		t.Errorf("copy, writing: %v", err)
	}
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errBroken)
	if _, err := verity.Format(ended, s, bytes.NewReader(data), sized(s.HashSize())); !errors.Is(err, errBroken) {
		t.Errorf("format, ended: %v", err)
	}
	if err := verity.Copy(ended, s, root, tree, bytes.NewReader(data), nil); !errors.Is(err, errBroken) {
		t.Errorf("copy, ended: %v", err)
	}
}

// TestChangingData has the data and the tree change under the reader, between any two reads: what was written is what
// the root hash says, or there is an error.
func TestChangingData(t *testing.T) {
	const blocks = 40
	data := noise(blocks * 512)
	s := superblock("sha256", 512, 512, blocks, nil)
	area, root := format(t, s, data)
	seen := 0
	for seed := range uint64(2000) {
		flip := &flipping{rand: rand.New(rand.NewPCG(seed, 0))}
		w := sized(s.DataSize())
		err := verity.Copy(context.Background(), s, root, flip.of(area), flip.of(data), w)
		if err == nil && !bytes.Equal(w.b, data) {
			t.Fatalf("seed %d: wrong data was passed on", seed)
		}
		if err != nil {
			seen++
		}
	}
	if seen == 0 || seen == 2000 {
		t.Errorf("%d of 2000 were seen: the test does not show anything", seen)
	}
}

type flipping struct{ rand *rand.Rand }

type flippingReader struct {
	f *flipping
	b []byte
}

func (f *flipping) of(b []byte) io.ReaderAt { return flippingReader{f, b} }

func (r flippingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(r.b).ReadAt(p, off)
	if n > 0 && r.f.rand.IntN(8) == 0 {
		p[r.f.rand.IntN(n)] ^= 1
	}
	return n, err
}

func FuzzParse(f *testing.F) {
	for _, c := range shapes {
		f.Add(superblock(c.algorithm, c.dataBlock, c.hashBlock, c.blocks, noise(c.salt)).Bytes())
	}
	f.Add([]byte("verity\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := verity.Parse(b)
		if err != nil {
			return
		}
		if s.HashSize() <= 0 || s.DataSize() <= 0 {
			t.Errorf("%+v: sizes %d and %d", s, s.HashSize(), s.DataSize())
		}
		if !bytes.Equal(s.Bytes(), b[:verity.SuperblockSize]) {
			t.Errorf("%+v is not what was read", s)
		}
	})
}

// FuzzCopy takes hash areas, root hashes and data as they come. What is passed on has the root hash, made anew.
func FuzzCopy(f *testing.F) {
	for _, c := range shapes[:4] {
		data := noise(int(c.blocks) * 512)
		area, root := format(f, superblock(c.algorithm, 512, 512, c.blocks, noise(c.salt)), data)
		f.Add(area, root, data)
	}
	f.Fuzz(func(t *testing.T, area, root, data []byte) {
		got, err := check(area, root, data)
		s, perr := verity.Parse(area)
		if perr != nil {
			return
		}
		if cerr := verity.CheckEnd(s, root, bytes.NewReader(area)); cerr != nil && err == nil {
			t.Errorf("copied, but its end is wrong: %v", cerr)
		}
		if err != nil {
			return
		}
		if _, again := format(t, s, got); !bytes.Equal(again, root) {
			t.Error("what was passed on has another root hash")
		}
	})
}

func BenchmarkCopy(b *testing.B) {
	data := noise(64 << 20)
	s := superblock("sha256", 4096, 4096, 64<<20/4096, noise(32))
	area, root := format(b, s, data)
	w := sized(s.DataSize())
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := verity.Copy(context.Background(), s, root, bytes.NewReader(area), bytes.NewReader(data), w); err != nil {
			b.Fatal(err)
		}
	}
}
