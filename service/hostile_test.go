package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/extexec/extexec/service/credential"
	"golang.org/x/sys/unix"
)

// What a service may try against those who run a command in its place.

// until waits for what a process does by itself.
func until(t *testing.T, p *Process, is func() bool) {
	t.Helper()
	for !is() {
		if !p.Alive() {
			t.Fatal("the process has ended")
		}
		runtime.Gosched()
	}
}

// TestRunSeesNewUserNamespace has a service without any rights go into a user namespace
// while its place is looked at: it has all rights there, and must not be given them here.
func TestRunSeesNewUserNamespace(t *testing.T) {
	needRoot(t)
	f := start(t, nil, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "sh", "-c", "echo $$; read line; exec unshare -U sh -c 'read line'", "sh")
	s := &setup{what: &becoming{userNS: -1, root: -1}}
	defer s.close()
	if err := s.joinNamespaces(Place{Process: f.Process}); err != nil {
		t.Fatal(err)
	}
	if status, err := s.credentials(f.Process); err != nil || status.Bounding != 0 {
		t.Fatalf("before: %+v, %v", status, err)
	}
	if _, err := io.WriteString(f.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	until(t, f.Process, func() bool { own, err := f.OwnUserNamespace(); return err == nil && own })
	status, err := f.Status()
	if err != nil || status.Bounding == 0 {
		t.Fatalf("it has no rights in its namespace: %+v, %v", status, err)
	}
	if _, err := s.credentials(f.Process); err == nil || !strings.Contains(err.Error(), "another user namespace") {
		t.Errorf("taken for those of before: %v", err)
	}
}

// TestRunNotAsSetuid has the service execute a program with more rights than it has.
func TestRunNotAsSetuid(t *testing.T) {
	needRoot(t)
	content, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	for mode, id := range map[os.FileMode]func(credential.Credential) uint32{
		os.ModeSetuid: func(c credential.Credential) uint32 { return c.EUID },
		os.ModeSetgid: func(c credential.Credential) uint32 { return c.EGID },
	} {
		dir := t.TempDir()
		program := dir + "/cat"
		if err := errors.Join(os.WriteFile(program, content, 0o755), os.Chmod(program, mode|0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
			t.Fatal(err)
		}
		f := start(t, nil, "setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "sh", "-c", "echo $$; exec "+program, "sh")
		until(t, f.Process, func() bool { s, err := f.Status(); return err == nil && id(s.Credential) == 0 })
		r, err := Run(t.Context(), Place{Process: f.Process}, Command{Argv: []string{"id"}})
		var e *StartError
		if !errors.As(err, &e) || e.ExitCode() != exitUser {
			t.Errorf("%v: %v, %s", mode, err, r.Output)
		}
	}
}

// TestOpenInStaysInside has the path of a chroot lead out of the namespace.
func TestOpenInStaysInside(t *testing.T) {
	needRoot(t)
	f := start(t, nil, "unshare", "-m")
	ns, err := f.Namespace(Mount)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, to := range []string{"/proc/1/root", "/proc/self/root", fmt.Sprintf("/proc/%d/cwd", os.Getpid())} {
		link := filepath.Join(t.TempDir(), "root")
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if root, err := openIn(t.Context(), ns, link); err == nil {
			root.Close()
			t.Errorf("a link to %s is followed", to)
		}
	}
	dir, err := openIn(t.Context(), ns, "/usr")
	if err != nil {
		t.Fatal(err)
	}
	dir.Close()
}

// TestChildIsNotTraced looks that it is no more, before it has what the service has.
func TestChildIsNotTraced(t *testing.T) {
	var pins runtime.Pinner
	defer pins.Unpin()
	b := &becoming{root: -1, userNS: -1, namespaces: []rawNamespace{{kind: rawKinds[UTS]}}}
	first := b.list(&pins)[0]
	if first.number != unix.SYS_PRCTL || first.args[0] != unix.PR_SET_DUMPABLE || first.args[1] != 0 || first.expect != expectSuccess {
		t.Errorf("the first call is %+v", first)
	}
}
