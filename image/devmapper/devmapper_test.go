package devmapper

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTable writes a table as the kernel has it (linux/dm-ioctl.h), and reads it back.
func TestTable(t *testing.T) {
	v := Verity{
		Algorithm: "sha256", DataBlockSize: 4096, HashBlockSize: 1024, DataBlocks: 7, HashStart: 1,
		Root: bytes.Repeat([]byte{0xab}, 32), Salt: []byte{1, 2},
	}
	want := "4096 1024 7 1 sha256 " + strings.Repeat("ab", 32) + " 0102"
	if got := v.parameters(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	v.Salt = nil
	if got := v.parameters(); !strings.HasSuffix(got, " -") {
		t.Errorf("without a salt: %q", got)
	}
	b := target(56, want)
	if len(b)%8 != 0 || !bytes.HasSuffix(bytes.TrimRight(b, "\x00"), []byte(want)) {
		t.Errorf("%q", b)
	}
	if got, ok := text(unix.DmIoctl{Target_count: 1}, b); !ok || got != want {
		t.Errorf("%q, %v", got, ok)
	}
	for name, h := range map[string]unix.DmIoctl{
		"no target": {}, "two targets": {Target_count: 2}, "cut off": {Target_count: 1, Flags: unix.DM_BUFFER_FULL_FLAG},
	} {
		if _, ok := text(h, b); ok {
			t.Errorf("%s: taken", name)
		}
	}
	copy(b[24:], "linear")
	if _, ok := text(unix.DmIoctl{Target_count: 1}, b); ok {
		t.Error("another target was taken")
	}
	if _, ok := text(unix.DmIoctl{Target_count: 1}, b[:10]); ok {
		t.Error("a short answer was taken")
	}
}

// TestName shows that names fit, however long the root hash is and however many there are.
func TestName(t *testing.T) {
	a, b := bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{1}, 64)
	b[47] = 2
	for _, n := range []int{0, numbers - 1} {
		if got := name(a, n); len(got) > 127 || len(got) != len(strings.ToUpper(got)) || got == name(b, n) {
			t.Errorf("%q, %q", got, name(b, n))
		}
	}
	if name(a, 0) == name(a, 1) {
		t.Error("two have one name")
	}
}
