package probe_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/image/probe"
)

// blob makes size bytes with the given strings at the given places.
func blob(size int, parts map[int]string) []byte {
	b := make([]byte, size)
	for off, s := range parts {
		copy(b[off:], s)
	}
	return b
}

// noise is n bytes that look random and are always the same.
func noise(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func identify(b []byte) (probe.Found, error) {
	return probe.Identify(bytes.NewReader(b), int64(len(b)))
}

// TestTools holds the probe against what the tools make, whole and cut in half.
func TestTools(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), noise(t, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want probe.Type
		size int64 // of the file before the tool runs
		argv []string
	}{
		{probe.Squashfs, 0, []string{"mksquashfs", src, "IMAGE", "-quiet", "-no-progress"}},
		{probe.Erofs, 0, []string{"mkfs.erofs", "-d0", "IMAGE", src}},
		{probe.Erofs, 0, []string{"mkfs.erofs", "-d0", "-zlz4", "IMAGE", src}},
		{probe.Ext4, 4 << 20, []string{"mkfs.ext4", "-q", "-d", src, "IMAGE"}},
		{probe.Ext4, 4 << 20, []string{"mkfs.ext4", "-q", "-O", "^has_journal", "-b", "1024", "IMAGE"}},
		{probe.Ext3, 4 << 20, []string{"mkfs.ext3", "-q", "IMAGE"}},
		{probe.Ext2, 4 << 20, []string{"mkfs.ext2", "-q", "IMAGE"}},
		{probe.Btrfs, 120 << 20, []string{"mkfs.btrfs", "-q", "-M", "IMAGE"}},
		{probe.Xfs, 320 << 20, []string{"mkfs.xfs", "-q", "IMAGE"}},
		{probe.MBR, 1 << 20, []string{"sh", "-c", "echo start=8 | sfdisk -q -X dos IMAGE"}},
		{probe.GPT, 1 << 20, []string{"sh", "-c", "echo start=40 | sfdisk -q -X gpt IMAGE"}},
		{probe.Swap, 1 << 20, []string{"mkswap", "-q", "IMAGE"}},
		{probe.Gzip, 0, []string{"sh", "-c", "gzip < /proc/self/exe > IMAGE"}},
		{probe.Tar, 0, []string{"tar", "cf", "IMAGE", src}},
	} {
		gpttest.Tool(t, c.argv[0])
		path := filepath.Join(t.TempDir(), "image")
		if c.size > 0 {
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, c.size)); err != nil {
				t.Fatal(err)
			}
		}
		argv := append([]string{}, c.argv...)
		for i := range argv {
			argv[i] = string(bytes.ReplaceAll([]byte(argv[i]), []byte("IMAGE"), []byte(path)))
		}
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
		checkFile(t, path, c.want, c.argv[0])
	}
}

func checkFile(t *testing.T, path string, want probe.Type, what string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	got, err := probe.Identify(f, st.Size())
	if err != nil || got.Type != want || got.Size > st.Size() {
		t.Errorf("%s: %+v, %v; want %s", what, got, err, want)
	}
	if !want.Mountable() {
		return
	}
	var cut *probe.TruncatedError
	got, err = probe.Identify(f, st.Size()/2)
	if !errors.As(err, &cut) || got.Type != want || cut.Have != st.Size()/2 || cut.Want != got.Size {
		t.Errorf("%s, half: %+v, %v", what, got, err)
	}
}

func TestMagic(t *testing.T) {
	const big = 72 << 10
	for want, b := range map[probe.Type][]byte{
		probe.F2fs:    blob(big, map[int]string{1024: "\x10\x20\xf5\xf2"}),
		probe.Iso9660: blob(big, map[int]string{32769: "CD001", 510: "\x55\xaa", 450: "\x17"}),
		probe.Ntfs:    blob(big, map[int]string{3: "NTFS    ", 510: "\x55\xaa"}),
		probe.LVM:     blob(big, map[int]string{512: "LABELONE"}),
		probe.LUKS:    blob(big, map[int]string{0: "LUKS\xba\xbe\x00\x02"}),
		probe.Verity:  blob(big, map[int]string{0: "verity\x00\x00\x01"}),
		probe.Vfat:    blob(big, map[int]string{82: "FAT32   ", 510: "\x55\xaa"}),
		probe.MBR:     blob(512, map[int]string{450: "\x83", 510: "\x55\xaa"}),
		probe.Qcow2:   blob(big, map[int]string{0: "QFI\xfb"}),
		probe.Xz:      blob(100, map[int]string{0: "\xfd7zXZ\x00"}),
		probe.Zstd:    blob(100, map[int]string{0: "\x28\xb5\x2f\xfd"}),
		probe.Bzip2:   blob(100, map[int]string{0: "BZh9"}),
		probe.Zip:     blob(100, map[int]string{0: "PK\x03\x04"}),
		probe.ELF:     blob(100, map[int]string{0: "\x7fELF"}),
		probe.GPT:     gpttest.Image{SectorSize: 4096}.Bytes(),
	} {
		if got, err := identify(b); err != nil || got.Type != want {
			t.Errorf("%s: %+v, %v", want, got, err)
		}
		if want.Mountable() {
			t.Errorf("%s is mountable", want)
		}
	}
}

func TestNothing(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":       {nil, probe.ErrEmpty},
		"zeros":       {make([]byte, 1<<20), probe.ErrZeros},
		"one zero":    {make([]byte, 1), probe.ErrZeros},
		"noise":       {noise(t, 1<<20), probe.ErrUnknown},
		"text":        {[]byte("hello"), probe.ErrUnknown},
		"boot sector": {blob(512, map[int]string{510: "\x55\xaa"}), probe.ErrUnknown},
	} {
		if got, err := identify(c.b); !errors.Is(err, c.want) || got != (probe.Found{}) {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, c.want)
		}
	}
}

func TestAmbiguous(t *testing.T) {
	b := blob(1<<20, map[int]string{0: "hsqs", 1024: "\xe2\xe1\xf5\xe0", 64<<10 + 0x40: "_BHRfS_M"})
	_, err := identify(b)
	var e *probe.AmbiguousError
	if !errors.As(err, &e) || err.Error() != "it is several things at once (squashfs, erofs, btrfs)" {
		t.Errorf("got %v", err)
	}
}

// TestSizes shows that sizes that do not fit count as too large instead of wrapping around.
func TestSizes(t *testing.T) {
	ff := bytes.Repeat([]byte{0xff}, 8)
	squash := blob(8192, map[int]string{0: "hsqs", 40: string(ff)})
	erofs := blob(8192, map[int]string{1024: "\xe2\xe1\xf5\xe0", 1024 + 12: "\xff", 1024 + 36: string(ff[:4])})
	erofs48 := blob(8192, map[int]string{1024: "\xe2\xe1\xf5\xe0", 1024 + 12: "\x0c", 1024 + 14: "\x01", 1024 + 80: "\x80", 1024 + 112: "\x24"})
	ext := blob(8192, map[int]string{1024 + 56: "\x53\xef", 1024 + 4: string(ff[:4]), 1024 + 24: string(ff[:4]), 1024 + 96: "\x40"})
	xfs := blob(8192, map[int]string{0: "XFSB" + string(ff) + string(ff[:4]), 48: "\x01"})
	stub := []byte("hsqs")
	btrfs := blob(70<<10, map[int]string{64<<10 + 0x40: "_BHRfS_M", 64<<10 + 0x70: string(ff), 64<<10 + 0x88: "\x01"})
	for name, b := range map[string][]byte{
		"squashfs": squash, "erofs": erofs, "erofs48": erofs48, "ext4": ext, "xfs": xfs, "btrfs": btrfs, "stub": stub,
	} {
		_, err := identify(b)
		var cut *probe.TruncatedError
		if !errors.As(err, &cut) || cut.Want <= int64(len(b)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestElsewhere has file systems of which the tools put a part on another device: each is recognised, and refused.
func TestElsewhere(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), noise(t, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want probe.Type
		part string
		size int64 // of both files before the tool runs
		argv []string
	}{
		{probe.Btrfs, "2 devices", 120 << 20, []string{"mkfs.btrfs", "-q", "IMAGE", "OTHER"}},
		{probe.Xfs, "its log on another device", 320 << 20, []string{"mkfs.xfs", "-q", "-l", "logdev=OTHER,size=64m", "IMAGE"}},
		{probe.Xfs, "a realtime device", 320 << 20, []string{"mkfs.xfs", "-q", "-r", "rtdev=OTHER", "IMAGE"}},
		{probe.Erofs, "data on 1 other device", 0, []string{"mkfs.erofs", "-d0", "--chunksize=4096", "--blobdev=OTHER", "IMAGE", src}},
	} {
		gpttest.Tool(t, c.argv[0])
		dir := t.TempDir()
		replace := strings.NewReplacer("IMAGE", filepath.Join(dir, "image"), "OTHER", filepath.Join(dir, "other"))
		for _, name := range []string{"image", "other"} {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, c.size)); err != nil {
				t.Fatal(err)
			}
		}
		argv := slices.Clone(c.argv)
		for i := range argv {
			argv[i] = replace.Replace(argv[i])
		}
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
		b, err := os.ReadFile(filepath.Join(dir, "image"))
		if err != nil {
			t.Fatal(err)
		}
		checkElsewhere(t, b, c.want, c.part)
	}
	// mkfs.ext4 wants a block device for the journal. (fs/ext4/ext4.h: s_journal_inum)
	path := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[1024+0xe0:], 0)
	checkElsewhere(t, b, probe.Ext4, "its journal on another device")
	// btrfstune -S would want the checksum to be right. (fs/btrfs/ctree.h: BTRFS_SUPER_FLAG_SEEDING)
	seed := blob(70<<10, map[int]string{64<<10 + 0x38: "\x00\x00\x00\x00\x01", 64<<10 + 0x40: "_BHRfS_M", 64<<10 + 0x88: "\x01"})
	checkElsewhere(t, seed, probe.Btrfs, "the flag of a seed, which more devices can share")
}

func checkElsewhere(t *testing.T, b []byte, want probe.Type, part string) {
	t.Helper()
	got, err := identify(b)
	var e *probe.ElsewhereError
	if !errors.As(err, &e) || got.Type != want || e.Type != want || e.Part != part {
		t.Errorf("%s with %s: %+v, %v", want, part, got, err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrNoProgress }

func TestReadError(t *testing.T) {
	if _, err := probe.Identify(failing{}, 100); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
	if _, err := probe.Identify(bytes.NewReader(nil), 100); err == nil {
		t.Error("a blob that became empty is something")
	}
}

func FuzzIdentify(f *testing.F) {
	for _, s := range []string{"", "hsqs", "LUKS\xba\xbe", "XFSB", "BZh9", "\x1f\x8b\x08"} {
		f.Add([]byte(s), []byte("CD001"), []byte("_BHRfS_M"))
	}
	f.Add(blob(4096, map[int]string{1024: "\xe2\xe1\xf5\xe0"}), []byte{}, []byte{})
	f.Add(blob(4096, map[int]string{1024 + 56: "\x53\xef"}), []byte{}, []byte{})
	f.Add(blob(4096, map[int]string{510: "\x55\xaa", 450: "\xee", 512: "EFI PART"}), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, head, iso, btrfs []byte) {
		b := make([]byte, 66<<10)
		copy(b, head)
		copy(b[32769:], iso)
		copy(b[64<<10+0x40:], btrfs)
		for _, b := range [][]byte{b, head} {
			got, err := identify(b)
			var cut *probe.TruncatedError
			var elsewhere *probe.ElsewhereError
			switch {
			case err == nil && (got.Type == "" || got.Size < 0 || got.Size > int64(len(b))):
				t.Fatalf("%+v in %d bytes", got, len(b))
			case errors.As(err, &cut):
				if got.Type == "" || cut.Want <= cut.Have {
					t.Fatalf("%+v, %v", got, err)
				}
			case errors.As(err, &elsewhere):
				if !got.Type.Mountable() || elsewhere.Part == "" {
					t.Fatalf("%+v, %v", got, err)
				}
			case err != nil && got != (probe.Found{}):
				t.Fatalf("%+v, %v", got, err)
			}
		}
	})
}
