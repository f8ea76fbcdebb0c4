package reload

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestStartInChroot refuses a start that no reload could follow.
func TestStartInChroot(t *testing.T) {
	b := newBed(t)
	root := t.TempDir()
	if out, err := exec.Command("mount", "--rbind", "/", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", root).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
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
