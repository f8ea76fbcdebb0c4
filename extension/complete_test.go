package extension

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestOpenWhileWritten: an image that somebody has open for writing is refused, by
// name, and not any more once it is closed.
func TestOpenWhileWritten(t *testing.T) {
	nsmounttest.Root(t)
	path := t.TempDir() + "/web.raw"
	must(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	const want = "web.raw\" is open for writing in another process"
	open := func() string {
		o, err := Open(context.Background(), pick(t, imageRef(path)), debian())
		if err == nil {
			t.Error("a file of zeros was opened")
			return errorText(o.Close())
		}
		return err.Error()
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	if text := open(); !strings.Contains(text, want) {
		t.Errorf("open for writing: %s, want %s", text, want)
	}
	if _, err := Arrived(pick(t, imageRef(path))); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Arrived: %v, want %s", err, want)
	}
	must(t, writer.Close())
	if text := open(); strings.Contains(text, want) {
		t.Errorf("after that: %s", text)
	}
	// And nothing of ours keeps a writer waiting.
	writer, err = os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	must(t, writer.Close())
}

// TestOpenOnLoop: a loop device holds its file open for writing, which is how systemd has
// the images of a unit. That is no writer.
func TestOpenOnLoop(t *testing.T) {
	nsmounttest.Root(t)
	path := t.TempDir() + "/web.raw"
	must(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	device, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", path).Output()
	must(t, err)
	defer func() {
		must(t, exec.CommandContext(t.Context(), "losetup", "--detach", strings.TrimSpace(string(device))).Run())
	}()
	must(t, Complete(path))
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
