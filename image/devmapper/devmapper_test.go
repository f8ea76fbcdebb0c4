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
	if got, ok := onlyTarget(unix.DmIoctl{Target_count: 1}, b); !ok || got != (found{sectors: 56, text: want}) {
		t.Errorf("%+v, %v", got, ok)
	}
	for name, h := range map[string]unix.DmIoctl{
		"no target": {}, "two targets": {Target_count: 2}, "cut off": {Target_count: 1, Flags: unix.DM_BUFFER_FULL_FLAG},
	} {
		if _, ok := onlyTarget(h, b); ok {
			t.Errorf("%s: taken", name)
		}
	}
	copy(b[24:], "linear")
	if _, ok := onlyTarget(unix.DmIoctl{Target_count: 1}, b); ok {
		t.Error("another target was taken")
	}
	if _, ok := onlyTarget(unix.DmIoctl{Target_count: 1}, b[:10]); ok {
		t.Error("a short answer was taken")
	}
}

// TestDescribes holds tables against what we would load. The kernel shows its parameters in the order of
// verity_status (drivers/md/dm-verity-target.c).
func TestDescribes(t *testing.T) {
	v := Verity{
		Algorithm: "sha256", DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 7, HashStart: 1,
		Root: bytes.Repeat([]byte{0xab}, 32), Salt: []byte{1, 2},
	}
	const name = "extexec-verity-ab"
	line := "1 7:0 7:1 " + v.parameters()
	for _, c := range []struct {
		what       string
		t          found
		signed, ok bool
	}{
		{"ours", found{0, 56, line}, false, true},
		{"ours, signed", found{0, 56, line + " 2 root_hash_sig_key_desc " + name}, true, true},
		{"signed by another", found{0, 56, line + " 2 root_hash_sig_key_desc other"}, false, false},
		{"ignores", found{0, 56, line + " 1 ignore_corruption"}, false, false},
		{"restarts", found{0, 56, line + " 1 restart_on_corruption"}, false, false},
		{"panics", found{0, 56, line + " 1 panic_on_corruption"}, false, false},
		{"zeros", found{0, 56, line + " 1 ignore_zero_blocks"}, false, false},
		{"once", found{0, 56, line + " 1 check_at_most_once"}, false, false},
		{"ignores, signed", found{0, 56, line + " 3 ignore_corruption root_hash_sig_key_desc " + name}, false, false},
		{"repairs", found{0, 56, line + " 8 use_fec_from_device 7:2 fec_blocks 9 fec_start 0 fec_roots 2"}, false, false},
		{"short", found{0, 48, line}, false, false},
		{"behind something", found{8, 56, line}, false, false},
		{"another version", found{0, 56, "0" + line[1:]}, false, false},
		{"data on no loop device", found{0, 56, strings.Replace(line, "7:0", "8:0", 1)}, false, false},
		{"hashes on no loop device", found{0, 56, strings.Replace(line, "7:1", "252:1", 1)}, false, false},
		{"another salt", found{0, 56, line + "03"}, false, false},
		{"another root hash", found{0, 56, strings.Replace(line, "abab", "acab", 1)}, false, false},
		{"nothing", found{0, 56, ""}, false, false},
	} {
		if signed, ok := v.describes(c.t, name); signed != c.signed || ok != c.ok {
			t.Errorf("%s: signed %v, shared %v", c.what, signed, ok)
		}
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
