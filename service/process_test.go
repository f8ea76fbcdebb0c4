package service

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// needRoot skips a test that needs root, or fails it where the rig is required.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatal("this test needs root, and EXTEXEC_REQUIRE_RIG=1 forbids to skip it")
	}
	t.Skip("needs root")
}

// A fixture is a process that waits until the test ends.
type fixture struct {
	*Process
	stdin io.WriteCloser
	cmd   *exec.Cmd
}

// end makes the process end and waits for it.
func (f *fixture) end() {
	f.stdin.Close()
	f.cmd.Wait()
}

// start runs a command that ends in a shell which prints its host pid and then
// waits; wrap is what stands before the shell: unshare, setpriv.
func start(t *testing.T, env []string, wrap ...string) *fixture {
	t.Helper()
	args := append(slices.Clone(wrap), "/bin/sh", "-c", "read pid rest < /proc/self/stat; echo $pid; read line")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := &fixture{stdin: stdin, cmd: cmd}
	t.Cleanup(f.end)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	f.Process, err = Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Process.Close() })
	return f
}

// waitForEnd waits until the process has ended, without reaping it.
func waitForEnd(t *testing.T, p *Process) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(p.PidFD().Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if err == nil && n == 1 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) || n == 0 && err == nil {
			t.Fatalf("process %d does not end: %v", p.PID(), err)
		}
	}
}

func TestOpenSelf(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !p.Alive() || p.PID() != os.Getpid() || p.StartTime() == 0 {
		t.Errorf("alive %v, pid %d, started %d", p.Alive(), p.PID(), p.StartTime())
	}
	s, err := p.Status()
	if err != nil || int(s.UID) != os.Getuid() {
		t.Errorf("status %+v, %v", s, err)
	}
	if own, err := p.OwnUserNamespace(); err != nil || own {
		t.Errorf("own user namespace: %v, %v", own, err)
	}
	id, err := p.MountNS()
	if err != nil || id == 0 {
		t.Fatalf("mount namespace %#x, %v", id, err)
	}
	pids, err := InMountNamespace(id)
	if err != nil || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("in our mount namespace: %d, %v", pids, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, pid := range []int{0, -1} {
		if p, err := Open(pid); err == nil {
			p.Close()
			t.Errorf("opened process %d", pid)
		}
	}
	if _, err := Open(1<<22 + 1); !errors.Is(err, ErrGone) { // above every pid_max
		t.Errorf("open of no process: %v", err)
	}
}

func TestGone(t *testing.T) {
	f := start(t, nil)
	if !f.Alive() {
		t.Fatal("the fixture is not alive")
	}
	f.end()
	if f.Alive() {
		t.Error("alive after its end")
	}
	_, statusErr := f.Status()
	_, environErr := f.Environ()
	_, nsErr := f.MountNS()
	_, unitErr := f.Unit()
	_, userErr := f.OwnUserNamespace()
	signalErr := f.Signal(syscall.SIGTERM)
	for what, err := range map[string]error{
		"status": statusErr, "environ": environErr, "namespace": nsErr, "unit": unitErr, "user namespace": userErr, "signal": signalErr,
	} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("%s of a process that has ended: %v", what, err)
		}
	}
}

func TestZombieIsNotAlive(t *testing.T) {
	f := start(t, nil)
	f.stdin.Close()
	waitForEnd(t, f.Process) // and do not reap it
	if p, err := Open(f.PID()); err == nil {
		p.Close()
		t.Error("opened a zombie as alive")
	}
}

func TestMountNamespace(t *testing.T) {
	needRoot(t)
	own := start(t, nil, "unshare", "-m")
	twin := start(t, nil, "nsenter", "-m", "-t", strconv.Itoa(own.PID()))
	plain := start(t, nil)
	id, err := own.MountNS()
	if err != nil {
		t.Fatal(err)
	}
	if id&InodeID == 0 && id>>32 == 0xf0 {
		t.Errorf("id %#x looks like an inode number", id)
	}
	if other, err := plain.MountNS(); err != nil || other == id {
		t.Errorf("ids %#x and %#x, %v", id, other, err)
	}
	pids, err := InMountNamespace(id)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(pids)
	want := []int{own.PID(), twin.PID()}
	slices.Sort(want)
	if !cmp.Equal(pids, want) {
		t.Errorf("in the namespace: %d, want %d", pids, want)
	}
}

func TestUserNamespaceOfAnother(t *testing.T) {
	needRoot(t)
	f := start(t, nil, "unshare", "-U", "--map-root-user")
	if own, err := f.OwnUserNamespace(); err != nil || !own {
		t.Errorf("own user namespace: %v, %v", own, err)
	}
}

func TestParseStartTime(t *testing.T) {
	stat := "42 (a) R ) (x) S 1 42 42 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 1 0 987654 0 0"
	if got, err := parseStartTime([]byte(stat)); err != nil || got != 987654 {
		t.Errorf("start time %d, %v", got, err)
	}
	for _, bad := range []string{"", ")", "1 (x) S", strings.Replace(stat, "987654", "-1", 1)} {
		if got, err := parseStartTime([]byte(bad)); err == nil {
			t.Errorf("start time of %q: %d", bad, got)
		}
	}
}

func TestParseEnviron(t *testing.T) {
	got := parseEnviron([]byte("A=1\x00=x\x00noassignment\x00\x00B=b=c\x00C=\n"))
	if want := []string{"A=1", "B=b=c", "C=\n"}; !cmp.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
}

type manager func() (int, error)

func (m manager) MainPID(context.Context, string) (int, error) { return m() }

func TestMainProcess(t *testing.T) {
	live := start(t, nil)
	dead := start(t, nil)
	dead.end()
	answers := []int{dead.PID(), live.PID(), live.PID()}
	p, err := Main(t.Context(), "web.service", manager(func() (int, error) {
		a := answers[0]
		answers = answers[1:]
		return a, nil
	}))
	if err != nil || p.PID() != live.PID() {
		t.Fatalf("main process: %v, %v", p, err)
	}
	p.Close()
	if _, err := Main(t.Context(), "web.service", manager(func() (int, error) { return 0, nil })); !errors.Is(err, ErrGone) {
		t.Errorf("main process of a stopped unit: %v", err)
	}
}

func TestFromEnvironment(t *testing.T) {
	for value, ok := range map[string]bool{strconv.Itoa(os.Getpid()): true, "x": false, "0": false, "-4": false} {
		t.Setenv("MAINPID", value)
		p, err := FromEnvironment()
		if (err == nil) != ok {
			t.Errorf("$MAINPID %q: %v", value, err)
		}
		if p != nil {
			p.Close()
		}
	}
	t.Setenv("MAINPID", "")
	if p, err := FromEnvironment(); p != nil || err != nil {
		t.Errorf("without $MAINPID: %v, %v", p, err)
	}
}

func TestParseOpenFiles(t *testing.T) {
	text := "Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax open files            333                  4096                 files     \n"
	if soft, hard, err := parseOpenFiles([]byte(text)); err != nil || soft != 333 || hard != 4096 {
		t.Errorf("limits %d, %d, %v", soft, hard, err)
	}
	for _, bad := range []string{"", "Max open files 1", "Max open files x 1", "Max open files 1 x"} {
		if soft, hard, err := parseOpenFiles([]byte(bad)); err == nil {
			t.Errorf("limits of %q: %d, %d", bad, soft, hard)
		}
	}
}

func FuzzParseOpenFiles(f *testing.F) {
	f.Add([]byte("Max open files            333                  4096                 files     \n"))
	f.Fuzz(func(t *testing.T, text []byte) { parseOpenFiles(text) })
}

func FuzzParseStartTime(f *testing.F) {
	f.Add([]byte("42 (a) R ) (x) S 1 42 42 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 1 0 987654 0 0"))
	f.Add([]byte("1 ("))
	f.Fuzz(func(t *testing.T, stat []byte) { parseStartTime(stat) })
}

func FuzzEnding(f *testing.F) {
	f.Add([]byte("SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"), []byte("42 (a) Z 1 42 42 0 -1 4228364 0"))
	f.Add([]byte("SigPnd:"), []byte("1 ("))
	f.Fuzz(func(t *testing.T, status, stat []byte) {
		killed(status)
		exiting(stat)
	})
}

func FuzzParent(f *testing.F) {
	f.Add([]byte("42 (a) R ) (x) S 1 42 42 0 -1 4194304"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		if parentOf(stat) < 0 {
			t.Errorf("%q has the parent %d", stat, parentOf(stat))
		}
	})
}

// TestEnding: a process that was killed counts as ended at once.
func TestEnding(t *testing.T) {
	for range 50 {
		cmd := exec.Command("sleep", "infinity")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := Open(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if p.Ending() {
			t.Error("it ends before it was killed")
		}
		if err := p.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if !p.Ending() {
			t.Error("it does not end although it was killed")
		}
		_ = cmd.Wait()
		p.Close()
	}
	stat := "42 (a) R ) (x) S 1 42 42 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 1 0 987654 0 0"
	if exiting([]byte(stat)) || !exiting([]byte(strings.Replace(stat, "4194304", "4194308", 1))) {
		t.Error("the flags of stat are not read right")
	}
	for text, want := range map[string]bool{"SigPnd:\t0000000000000100\n": true, "ShdPnd:\t0000000000000100\n": true, "SigPnd:\t00000000000000ff\nSigCgt:\t0000000000000100\n": false, "": false} {
		if got := killed([]byte(text)); got != want {
			t.Errorf("killed by %q: %v", text, got)
		}
	}
}

// leaderEnv makes the test binary end its first thread, and stay.
const leaderEnv = "EXTEXEC_TEST_END_LEADER"

func init() {
	if os.Getenv(leaderEnv) != "" {
		runtime.LockOSThread() // the first one
	}
}

// endLeader prints a line once the first thread has ended, and waits for the end of its
// input.
func endLeader() {
	go func() {
		for {
			stat, err := os.ReadFile("/proc/self/stat")
			if err != nil {
				panic(err)
			}
			if bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')'):], []byte(") Z")) {
				break
			}
		}
		fmt.Println("ended")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
}

// TestMountTableOfLeaver: a process that has left its namespace, and has not ended yet,
// is gone for who asks about that.
func TestMountTableOfLeaver(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), leaderEnv+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !p.Alive() {
		t.Fatal("it has ended: the test shows nothing")
	}
	if _, err := p.MountTable(); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want %v", err, ErrGone)
	}
}
