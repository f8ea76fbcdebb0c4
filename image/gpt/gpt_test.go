package gpt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/gpt/gpttest"
)

const (
	rootX86 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	usrARM  = "b0e01050-ee5f-4390-949a-9101b17104e9"
	sigX86  = "41092b05-9fc8-4523-994f-2def0408b176"
	generic = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

func read(b []byte) (*gpt.Table, error) { return gpt.Read(bytes.NewReader(b), int64(len(b))) }

func TestRead(t *testing.T) {
	for _, ss := range []int{512, 1024, 2048, 4096} {
		b := gpttest.Image{SectorSize: ss, Partitions: []gpttest.Partition{
			{Type: rootX86, Label: "web_1.2", Attrs: 1<<60 | 1<<59, Data: make([]byte, 70000)},
			{Type: usrARM, Label: "größer \U0001F600", Attrs: 1 << 63, Data: make([]byte, 10)},
			{Type: sigX86, Data: make([]byte, 10)},
			{Type: generic, Label: strings.Repeat("x", 36), Data: make([]byte, 10)},
			{Type: "11111111-2222-3333-4444-555555555555", Data: make([]byte, 10)},
		}}.Bytes()
		got, err := read(b)
		if err != nil {
			t.Fatalf("%d: %v", ss, err)
		}
		if got.SectorSize != int64(ss) || got.Backup || got.ID.String() != "11111111-2222-3333-4444-555555555555" {
			t.Errorf("%d: %+v", ss, got)
		}
		type part struct {
			number             int
			kind               gpt.Kind
			label              string
			offset, size       int64
			ro, growfs, noauto bool
		}
		up := func(n int64) int64 { return (n + int64(ss) - 1) / int64(ss) * int64(ss) }
		want := []part{
			{1, gpt.Kind{Designator: "root", Arch: "x86-64"}, "web_1.2", 64 << 10, up(70000), true, true, false},
			{2, gpt.Kind{Designator: "usr", Arch: "arm64"}, "größer \U0001F600", 192 << 10, up(10), false, false, true},
			{3, gpt.Kind{Designator: "root-verity-sig", Arch: "x86-64"}, "", 256 << 10, up(10), false, false, false},
			{4, gpt.Kind{Designator: "linux-generic"}, strings.Repeat("x", 36), 320 << 10, up(10), false, false, false},
			{5, gpt.Kind{}, "", 384 << 10, up(10), false, false, false},
		}
		var have []part
		for _, p := range got.Partitions {
			have = append(have, part{p.Number, p.Kind, p.Label, p.Offset, p.Size, p.Attrs.ReadOnly(), p.Attrs.GrowFS(), p.Attrs.NoAuto()})
		}
		if d := cmp.Diff(want, have, cmp.AllowUnexported(part{})); d != "" {
			t.Errorf("%d: %s", ss, d)
		}
	}
}

// TestBackup shows that a damaged first copy is replaced, and that one that is whole but wrong is not.
func TestBackup(t *testing.T) {
	im := gpttest.Image{SectorSize: 4096, Partitions: []gpttest.Partition{{Type: rootX86, Data: make([]byte, 10)}}}
	for name, damage := range map[string]func(b []byte){
		"header gone":      func(b []byte) { clear(b[4096:8192]) },
		"header bit":       func(b []byte) { b[4096+30] ^= 1 },
		"entry bit":        func(b []byte) { b[8192+40] ^= 1 },
		"header and entry": func(b []byte) { clear(b[4096 : 8192+4096]) },
	} {
		b := im.Bytes()
		damage(b)
		got, err := read(b)
		if err != nil || !got.Backup || got.SectorSize != 4096 || len(got.Partitions) != 1 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		b[len(b)-4096] ^= 1
		if got, err := read(b); err == nil {
			t.Errorf("%s, backup too: %+v", name, got)
		}
	}
}

func TestErrors(t *testing.T) {
	le := binary.LittleEndian
	part := gpttest.Partition{Type: rootX86, Data: make([]byte, 1000)}
	edit := func(off int, v uint64, wide bool) []byte {
		return gpttest.Image{Partitions: []gpttest.Partition{part}, Edit: func(h []byte) {
			if wide {
				le.PutUint64(h[off:], v)
			} else {
				le.PutUint32(h[off:], uint32(v))
			}
		}}.Bytes()
	}
	at := func(first, last uint64) []byte {
		p := part
		p.First, p.Last = first, last
		return gpttest.Image{Partitions: []gpttest.Partition{p}}.Bytes()
	}
	whole := gpttest.Image{Partitions: []gpttest.Partition{part}}.Bytes()
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"count 0", edit(gpttest.Count, 0, false), "0 entries"},
		{"count absurd", edit(gpttest.Count, 0xffffffff, false), "4294967295 entries"},
		{"count above file", edit(gpttest.Count, 1024, false), "wrong checksum|lie over"},
		{"entry size absurd", edit(gpttest.EntrySize, 0x80000000, false), "entries of 2147483648 bytes"},
		{"entry size odd", edit(gpttest.EntrySize, 200, false), "entries of 200 bytes"},
		{"entry size 0", edit(gpttest.EntrySize, 0, false), "entries of 0 bytes"},
		{"both big", gpttest.Image{Edit: func(h []byte) {
			le.PutUint32(h[gpttest.Count:], 1024)
			le.PutUint32(h[gpttest.EntrySize:], 4096)
		}}.Bytes(), "at most 1048576 bytes"},
		{"entries outside", edit(gpttest.EntriesLBA, 1<<60, true), "outside of the image"},
		{"entries wrap", edit(gpttest.EntriesLBA, 1<<64-1, true), "outside of the image"},
		{"entries on header", edit(gpttest.EntriesLBA, 0, true), "outside of the image"},
		{"entries in data", edit(gpttest.EntriesLBA, 100, true), "lie over"},
		{"header long", edit(gpttest.HeaderSize, 4096, false), "says that it is 4096 bytes"},
		{"header short", edit(gpttest.HeaderSize, 16, false), "says that it is 16 bytes"},
		{"my lba", edit(gpttest.MyLBA, 7, true), "says that it is at 7"},
		{"usable backwards", edit(gpttest.FirstLBA, 1<<40, true), "before the first"},
		{"last far", edit(gpttest.LastLBA, 1<<63, true), "cut off"},
		{"cut off", whole[:len(whole)-(70<<10)], "cut off"},
		{"only head", whole[:2048], "cut off|lie over|outside|checksum"},
		{"only MBR", whole[:512], "no header"},
		{"partition outside", at(200, 1<<40), "partition 1 is at sectors 200 to 1099511627776"},
		{"partition backwards", at(200, 100), "partition 1 is at sectors 200 to 100"},
		{"partition on table", at(1, 100), "partition 1 is at sectors 1 to 100"},
		{"overlap", gpttest.Image{Partitions: []gpttest.Partition{
			part, {Type: generic, Data: make([]byte, 10), First: 128, Last: 129},
		}}.Bytes(), "partitions 1 and 2 overlap"},
		{"two sizes", twoSizes(), "sectors of 512 and of 4096"},
	} {
		got, err := read(c.b)
		var format *gpt.FormatError
		if !errors.As(err, &format) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
			continue
		}
		ok := false
		for w := range strings.SplitSeq(c.want, "|") {
			ok = ok || strings.Contains(err.Error(), w)
		}
		if !ok {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// twoSizes is an image that is a good table with sectors of 512 and of 4096 bytes.
func twoSizes() []byte {
	small := gpttest.Image{Edit: func(h []byte) {
		binary.LittleEndian.PutUint64(h[gpttest.EntriesLBA:], 50)
		binary.LittleEndian.PutUint64(h[gpttest.FirstLBA:], 100)
	}}.Bytes()
	big := gpttest.Image{SectorSize: 4096}.Bytes()
	copy(big[512:1024], small[512:1024])
	return big
}

func TestNone(t *testing.T) {
	noise := bytes.Repeat([]byte("noise"), 1000)
	noMBR := gpttest.Image{}.Bytes()
	clear(noMBR[:512])
	for name, b := range map[string][]byte{"empty": nil, "short": noise[:100], "noise": noise, "no MBR": noMBR} {
		if _, err := read(b); !errors.Is(err, gpt.ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrNoProgress }

func TestReadError(t *testing.T) {
	if _, err := gpt.Read(failing{}, 1<<20); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
	// The file is shorter than it was said to be.
	if _, err := gpt.Read(bytes.NewReader(nil), 1<<20); !errors.Is(err, gpt.ErrNone) {
		t.Errorf("got %v", err)
	}
}

// TestSfdisk reads what sfdisk and sgdisk write.
func TestSfdisk(t *testing.T) {
	for _, tool := range []string{"sfdisk", "sgdisk"} {
		gpttest.Tool(t, tool)
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 4<<20); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sfdisk", "-q", path)
		cmd.Stdin = strings.NewReader("label: gpt\nstart=2048, size=1024, type=" + rootX86 + ", name=one, attrs=\"GUID:60\"\n" +
			"size=512, type=" + usrARM + ", name=two\n")
		if tool == "sgdisk" {
			cmd = exec.Command("sgdisk", "-n", "1:2048:+512K", "-t", "1:"+rootX86, "-c", "1:one", "-A", "1:set:60",
				"-n", "2:0:+256K", "-t", "2:"+usrARM, "-c", "2:two", path)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", tool, err, out)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(b)
		if err != nil || len(got.Partitions) != 2 {
			t.Fatalf("%s: %+v, %v", tool, got, err)
		}
		one, two := got.Partitions[0], got.Partitions[1]
		if one.Label != "one" || one.Offset != 1<<20 || one.Size != 512<<10 || !one.Attrs.ReadOnly() || one.Kind.Designator != "root" {
			t.Errorf("%s: %+v", tool, one)
		}
		if two.Label != "two" || two.Size != 256<<10 || two.Kind != (gpt.Kind{Designator: "usr", Arch: "arm64"}) {
			t.Errorf("%s: %+v", tool, two)
		}
	}
}

func TestKinds(t *testing.T) {
	for u, want := range map[string]gpt.Kind{
		rootX86:                                {Designator: "root", Arch: "x86-64"},
		"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": {Designator: "root-verity", Arch: "x86-64"},
		sigX86:                                 {Designator: "root-verity-sig", Arch: "x86-64"},
		"b921b045-1df0-41c3-af44-4c6f280d3fae": {Designator: "root", Arch: "arm64"},
		"df3300ce-d69f-4c92-978c-9bfb0f38d820": {Designator: "root-verity", Arch: "arm64"},
		"6db69de6-29f4-4758-a7a5-962190f00ce3": {Designator: "root-verity-sig", Arch: "arm64"},
		"8484680c-9521-48c6-9c11-b0720656f69e": {Designator: "usr", Arch: "x86-64"},
		"77ff5f63-e7b6-4633-acf4-1565b864c0e6": {Designator: "usr-verity", Arch: "x86-64"},
		"e7bb33fb-06cf-4e81-8273-e543b413e2e2": {Designator: "usr-verity-sig", Arch: "x86-64"},
		usrARM:                                 {Designator: "usr", Arch: "arm64"},
		"6e11a4e7-fbca-4ded-b9e9-e1a512bb664e": {Designator: "usr-verity", Arch: "arm64"},
		"c23ce4ff-44bd-4b00-b2d4-b41b3419e02a": {Designator: "usr-verity-sig", Arch: "arm64"},
		generic:                                {Designator: "linux-generic"},
		"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": {Designator: "esp"},
	} {
		id := gpt.UUID(gpttest.UUID(u))
		if got := gpt.KindOf(id); got != want || id.String() != u {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	part := gpttest.Partition{Type: rootX86, Label: "web", Data: make([]byte, 10)}
	f.Add(gpttest.Image{Partitions: []gpttest.Partition{part}}.Bytes()[:20<<10], uint32(128), uint32(128), uint64(2))
	f.Add([]byte{}, uint32(0xffffffff), uint32(0xffffffff), uint64(1<<63))
	f.Add([]byte("EFI PART"), uint32(1024), uint32(4096), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, count, entrySize uint32, entries uint64) {
		check := func(b []byte) {
			table, err := read(b)
			if err != nil {
				var format *gpt.FormatError
				if !errors.Is(err, gpt.ErrNone) && !errors.As(err, &format) || table != nil {
					t.Fatalf("%+v, %v", table, err)
				}
				return
			}
			for _, p := range table.Partitions {
				if p.Offset < 2*table.SectorSize || p.Size <= 0 || p.Offset+p.Size > int64(len(b)) {
					t.Fatalf("%+v in %d bytes", p, len(b))
				}
			}
		}
		check(data)
		// The checksums would hide everything behind them: let the content be random and the checksums right.
		p := gpttest.Partition{Type: rootX86, Data: data}
		if len(data) >= 16 {
			p.First, p.Last = binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])
		}
		check(gpttest.Image{Partitions: []gpttest.Partition{p, part}, Edit: func(h []byte) {
			binary.LittleEndian.PutUint32(h[gpttest.Count:], count)
			binary.LittleEndian.PutUint32(h[gpttest.EntrySize:], entrySize)
			binary.LittleEndian.PutUint64(h[gpttest.EntriesLBA:], entries)
		}}.Bytes())
	})
}
