package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStagedIsPrivate shows that nobody else reaches what is put together for an image: setuid files and device nodes of
// extensions that may not be trusted are there for as long as the image is made.
func TestStagedIsPrivate(t *testing.T) {
	at := t.TempDir()
	t.Setenv("TMPDIR", at)
	staged, remove, err := (&imageOutput{}).stage()
	must(t, err)
	must(t, os.Chmod(staged, 0o755)) // as the root directory of the image has to be
	st, err := os.Stat(filepath.Dir(staged))
	must(t, err)
	if st.Mode().Perm() != 0o700 || filepath.Dir(staged) == at {
		t.Errorf("%q lies in a directory of mode %o", staged, st.Mode().Perm())
	}
	must(t, remove())
	left, err := os.ReadDir(at)
	if err != nil || len(left) > 0 {
		t.Errorf("%v, left: %v", err, left)
	}
}
