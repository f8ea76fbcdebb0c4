package turn_test

import (
	"os"
	"testing"
	"time"

	"github.com/extexec/extexec/internal/turn"
)

// TestWait: it is one's turn at a time, and one who never ends does not keep the others
// waiting for ever.
func TestWait(t *testing.T) {
	path := t.TempDir() + "/control"
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	if !turn.Wait(first, time.Minute) {
		t.Error("nobody has it, and it is not to be had")
	}
	if turn.Wait(second, 0) {
		t.Error("two have it")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if !turn.Wait(second, time.Minute) {
		t.Error("the first one has ended, and it is not to be had")
	}
}
