package gpt_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/gpt/gpttest"
)

func uuid(t *testing.T, s string) gpt.UUID {
	t.Helper()
	u, err := gpt.ParseUUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// What Encode writes, Read reads, from either end, and sgdisk finds nothing wrong with it.
func TestEncode(t *testing.T) {
	const size = 1 << 20
	id := uuid(t, "029f4951-90d3-4059-b93b-d358015a0a3b")
	want := []gpt.Partition{
		{Number: 1, Type: uuid(t, rootX86), ID: uuid(t, "f7673bbc-bc79-8335-f6e3-2fe4b68dc564"), Kind: gpt.Kind{Designator: "root", Arch: "x86-64"},
			Label: "root-x86-64", Offset: 20 << 10, Size: 500 << 10, Attrs: gpt.ReadOnly},
		{Number: 2, Type: uuid(t, sigX86), ID: uuid(t, generic), Kind: gpt.Kind{Designator: "root-verity-sig", Arch: "x86-64"},
			Label: "größer \U0001F600", Offset: 520 << 10, Size: 16 << 10},
	}
	head, tail, err := gpt.Encode(id, size, want)
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, size)
	copy(image, head)
	copy(image[size-len(tail):], tail)
	for _, backup := range []bool{false, true} {
		if backup {
			clear(image[512:gpt.HeadSize])
		}
		got, err := read(image)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&gpt.Table{ID: id, SectorSize: 512, Backup: backup, Partitions: want}, got); d != "" {
			t.Error(d)
		}
	}
	copy(image, head)
	gpttest.Tool(t, "sgdisk")
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sgdisk", "--verify", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEncodeRefuses(t *testing.T) {
	p := gpt.Partition{Offset: 20 << 10, Size: 4096}
	with := func(f func(*gpt.Partition)) []gpt.Partition {
		q := p
		f(&q)
		return []gpt.Partition{q}
	}
	for _, c := range []struct {
		name string
		size int64
		ps   []gpt.Partition
		want string
	}{
		{"odd size", 100<<10 + 1, nil, "whole sectors"},
		{"too small", 4096, nil, "at least"},
		{"over the head", 100 << 10, with(func(p *gpt.Partition) { p.Offset = 4096 }), "not in whole sectors between"},
		{"over the tail", 40 << 10, with(func(p *gpt.Partition) { p.Size = 10 << 10 }), "not in whole sectors between"},
		{"empty", 100 << 10, with(func(p *gpt.Partition) { p.Size = 0 }), "not in whole sectors between"},
		{"label", 100 << 10, with(func(p *gpt.Partition) { p.Label = strings.Repeat("x", 37) }), "longer than 36"},
		{"twice", 100 << 10, []gpt.Partition{p, p}, "overlap"},
		{"many", 100 << 10, make([]gpt.Partition, 129), "room for 128"},
	} {
		if _, _, err := gpt.Encode(gpt.UUID{}, c.size, c.ps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTypeOf(t *testing.T) {
	for _, arch := range gpt.Architectures() {
		for _, d := range []string{"root", "root-verity", "root-verity-sig", "usr", "usr-verity", "usr-verity-sig"} {
			k := gpt.Kind{Designator: d, Arch: arch}
			u, ok := gpt.TypeOf(k)
			if !ok || gpt.KindOf(u) != k {
				t.Errorf("%v: %s, %v", k, u, ok)
			}
		}
	}
	if u, ok := gpt.TypeOf(gpt.Kind{Designator: "esp"}); !ok || gpt.KindOf(u).Designator != "esp" {
		t.Errorf("esp: %s, %v", u, ok)
	}
	if u, ok := gpt.TypeOf(gpt.Kind{Designator: "root", Arch: "vax"}); ok {
		t.Errorf("vax: %s", u)
	}
}

func TestUUID(t *testing.T) {
	const text = "029f4951-90d3-4059-b93b-d358015a0a3b"
	u := uuid(t, text)
	b := u.Bytes()
	if u.String() != text || !bytes.HasPrefix(b[:], []byte{0x02, 0x9f, 0x49, 0x51, 0x90}) || gpt.FromBytes(b) != u {
		t.Errorf("%s, % x", u, b)
	}
	if uuid(t, strings.ToUpper(strings.ReplaceAll(text, "-", ""))) != u {
		t.Error("the plain form is another UUID")
	}
	for _, s := range []string{"", "x", text + "0", text[1:], "029f4951-90d3-4059-b93b-d358015a0a3g", "029f495190-d3-4059-b93b-d358015a0a3b"} {
		if u, err := gpt.ParseUUID(s); err == nil {
			t.Errorf("%q is taken for %s", s, u)
		}
	}
}
