package reload

import (
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/extexec/extexec/service"
)

// TestEnvironOf: an ExecReload= line has the environment of the unit, not what the
// main process has made of it.
func TestEnvironOf(t *testing.T) {
	self, err := service.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	t.Setenv("EXTEXEC_TEST_OF_THE_UNIT", "1") // /proc/PID/environ is that of the start
	t.Setenv("MAINPID", "1")
	has := func() bool {
		env, err := environOf(self)
		if err != nil {
			t.Fatal(err)
		}
		if home, ok := lookup(env, "HOME"); !ok || home != os.Getenv("HOME") {
			t.Errorf("HOME=%q, want %q", home, os.Getenv("HOME"))
		}
		return slices.Contains(env, "EXTEXEC_TEST_OF_THE_UNIT=1")
	}
	t.Setenv("SYSTEMD_EXEC_PID", "1")
	if has() {
		t.Error("by hand: our own environment")
	}
	t.Setenv("SYSTEMD_EXEC_PID", strconv.Itoa(os.Getpid()))
	if !has() {
		t.Error("as an ExecReload= line: the main process's environment")
	}
}
