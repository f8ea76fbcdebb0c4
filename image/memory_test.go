package image

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSeal shows that nobody can change a copy once it is sealed: not by another descriptor, not by a mapping, and it
// can neither grow nor shrink, nor be unsealed.
func TestSeal(t *testing.T) {
	m, err := createMemory(strings.Repeat("long name ", 50), 8192)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.WriteAt([]byte("content"), 4096); err != nil {
		t.Fatal(err)
	}
	if err := seal(m); err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteAt([]byte("x"), 4096); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v, want EPERM", err)
	}
	for _, size := range []int64{0, 4096, 16384} {
		if err := m.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Errorf("truncate to %d: %v, want EPERM", size, err)
		}
	}
	if _, err := unix.Mmap(int(m.Fd()), 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
		t.Errorf("map: %v, want EPERM", err)
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", m.Fd()), os.O_RDWR, 0)
	if err == nil {
		if _, err := again.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("write by another descriptor: %v, want EPERM", err)
		}
		again.Close()
	}
	if _, err := unix.FcntlInt(m.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("seal again: %v, want EPERM", err)
	}
	st, err := m.Stat()
	if err != nil || st.Mode()&0o111 != 0 {
		t.Errorf("mode %v, %v: it can be executed", st.Mode(), err)
	}
}
