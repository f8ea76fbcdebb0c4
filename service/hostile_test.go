package service

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/nsmount"
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

// TestRunInUninterruptibleSleep has a command of the service's wait for a file system
// whose server has taken the request and does not answer: no signal ends that. It is
// given up when the context ends, whether or not what outlives it is kept.
func TestRunInUninterruptibleSleep(t *testing.T) {
	needRoot(t)
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep=%v", keep), func(t *testing.T) {
			t.Parallel() // each takes ten seconds
			f, fuse, asked := startOverFUSE(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := Run(ctx, Place{Process: f.Process}, Command{Argv: []string{"cat", fuse.dir + "/file"}, KeepRest: keep})
				ended <- err
			}()
			if err := <-asked; err != nil {
				t.Fatal(err)
			}
			cancel()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want that of the context", err)
				}
			case <-time.After(time.Minute): // it gives up after ten seconds
				t.Error("the command that cannot be killed is waited for")
				fuse.dev.Close() // which ends what waits for it
				<-ended
			}
		})
	}
}

// fuse is a file system that takes requests and answers but the first.
type fuse struct {
	dev *os.File
	dir string
}

// startOverFUSE starts a service in a mount namespace with such a file system. The
// channel has an item as soon as somebody waits for an answer.
func startOverFUSE(t *testing.T) (*fixture, *fuse, <-chan error) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0) // not by os: before the mount it cannot be polled
	if err != nil {
		t.Fatal(err)
	}
	fs := &fuse{dev: os.NewFile(uintptr(fd), "/dev/fuse"), dir: t.TempDir()}
	t.Cleanup(func() { fs.dev.Close() })
	var f *fixture
	started := make(chan struct{})
	go func() { // in the test's own namespace nothing is mounted there, so that it can be removed
		defer close(started)
		runtime.LockOSThread() // never unlocked: the thread ends
		if err := errors.Join(nsmount.Unshare(nsmount.Private), fs.mount()); err != nil {
			t.Error(err)
			return
		}
		f = start(t, nil)
	}()
	if <-started; f == nil {
		t.FailNow()
	}
	asked := make(chan error, 1)
	go func() { asked <- fs.take() }()
	return f, fs, asked
}

func (f *fuse) mount() error {
	tree, err := nsmount.MountFS(nsmount.FSConfig{Type: "fuse", Source: "hang", Options: []nsmount.Option{
		{Key: "fd", Value: fmt.Sprint(f.dev.Fd())}, {Key: "rootmode", Value: "40000"}, {Key: "user_id", Value: "0"}, {Key: "group_id", Value: "0"},
	}})
	if err != nil {
		return err
	}
	at, err := nsmount.OpenInRoot(f.dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return errors.Join(err, tree.Close())
	}
	defer at.Close()
	return tree.Attach(at)
}

// take answers the first request, INIT, and returns when it has taken another. The
// structures are those of linux/fuse.h.
func (f *fuse) take() error {
	in := make([]byte, 1<<17) // more than max_write
	if _, err := f.dev.Read(in); err != nil {
		return fmt.Errorf("read INIT: %w", err)
	}
	out := make([]byte, 16+64) // fuse_out_header, fuse_init_out of protocol 7.23 and later
	binary.NativeEndian.PutUint32(out, uint32(len(out)))
	copy(out[8:16], in[8:16])                      // unique
	binary.NativeEndian.PutUint32(out[16:], 7)     // major
	binary.NativeEndian.PutUint32(out[20:], 31)    // minor
	binary.NativeEndian.PutUint32(out[36:], 1<<16) // max_write
	if _, err := f.dev.Write(out); err != nil {
		return fmt.Errorf("answer INIT: %w", err)
	}
	if _, err := f.dev.Read(in); err != nil {
		return fmt.Errorf("read the next request: %w", err)
	}
	return nil
}
