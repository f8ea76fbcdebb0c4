package reload

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// TestSeesWhat tells a process in this namespace and root from one in a copy of the
// namespace, and from one whose root is the same directory, mounted a second time.
func TestSeesWhat(t *testing.T) {
	nsmounttest.Root(t)
	again := t.TempDir()
	if out, err := exec.Command("mount", "--rbind", "/", again).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", again).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	if seesWhat(nsmounttest.Start(t, nsmounttest.Options{}).PID()) {
		t.Error("true of a process in another namespace")
	}
	for name, c := range map[string]struct {
		attr syscall.SysProcAttr
		want bool
	}{
		"the same":     {want: true},
		"another root": {attr: syscall.SysProcAttr{Chroot: again}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("cat")
			cmd.SysProcAttr, cmd.Dir = &c.attr, "/"
			in, err := cmd.StdinPipe()
			if err == nil {
				err = cmd.Start() // comes back once the program is executed
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := seesWhat(cmd.Process.Pid); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if seesWhat(cmd.Process.Pid) {
				t.Error("true of a process that is gone")
			}
		})
	}
}
