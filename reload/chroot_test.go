package reload

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStartInChroot refuses a start that no reload could follow, be the root a mount
// or a directory on one.
func TestStartInChroot(t *testing.T) {
	b := newBed(t)
	root := t.TempDir()
	if err := unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := b.options()
	o.Argv = []string{"/bin/true"}
	for _, chroot := range []string{root, ""} {
		cmd := child{Run: &o}.command(t)
		cmd.Stderr = nil
		if chroot != "" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: chroot}
			cmd.Dir = "/"
		}
		out, err := cmd.CombinedOutput()
		if refused := strings.Contains(string(out), "this is a chroot"); refused != (chroot != "") || refused == (err == nil) {
			t.Errorf("in the root %q: %v, %q", chroot, err, out)
		}
	}
	if _, err := os.Stat(b.dir + "/state/record/bed/state.json"); err != nil {
		t.Error(err)
	}
}
