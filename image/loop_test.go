package image

import (
	"os"
	"testing"
	"time"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestLockLoops: one at a time takes a loop device, and one who never ends does not keep the others from it for ever.
func TestLockLoops(t *testing.T) {
	nsmounttest.Root(t)
	open := func() *os.File {
		f, err := os.OpenFile(loopControl, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	if !lockLoops(first, time.Minute) {
		t.Error("nobody holds it, and it is not to be had")
	}
	if lockLoops(second, 0) {
		t.Error("two hold it")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if !lockLoops(second, time.Minute) {
		t.Error("the first one has ended, and it is not to be had")
	}
}
