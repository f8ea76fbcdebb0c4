package extension

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestArrived: a rename is later than what is in the directory, a copy is not.
func TestArrived(t *testing.T) {
	top := t.TempDir()
	write(t, top, map[string]string{"web.v/web_1/" + confextFile + "web": "ID=_any\n", "web.v/web_1/etc/": ""})
	dir := top + "/web.v/web_1"
	arrived := func(want string) (sure bool) {
		t.Helper()
		sure, err := Arrived(pick(t, dirRef(top+"/web.v")))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Arrived: %v, want %q", err, want)
		}
		return sure
	}
	// The clock of a file system goes in ticks: write until it has gone on.
	for made := stat(t, dir).ModTime(); !changed(t, dir+"/etc/late").After(made); {
		must(t, os.WriteFile(dir+"/etc/late", nil, 0o600))
	}
	arrived(`" in it is newer than the directory itself`)
	must(t, os.Rename(dir, top+"/part"))
	must(t, os.Rename(top+"/part", dir))
	if !arrived("") {
		t.Error("a directory that was renamed is not sure to be complete")
	}
	must(t, os.RemoveAll(dir+"/etc/extension-release.d"))
	arrived("extension-release")
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st
}

// changed is when a file was written; long ago where there is none.
func changed(t *testing.T, path string) time.Time {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		return time.Time{}
	}
	return stat(t, path).ModTime()
}
