//go:build amd64

package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A strike hits one system call of a program as it is about to be made.
type strike struct {
	at     int            // which of the calls of interest, from 1; 0 for none
	signal syscall.Signal // the process that makes it gets this signal
	errno  syscall.Errno  // else it is not made, and fails with this
}

// A call is one of interest that a program made.
type call struct {
	nr   uint64
	path string // its path argument, where it has one
	file string // what its first argument, a descriptor, was opened as
	args [6]uint64
}

func (c call) String() string {
	text := strings.TrimSpace(callNames[c.nr].name + " " + c.file)
	if c.path != "" {
		text += " " + c.path
	}
	return text
}

// An ending is how a traced program ended, and which calls it made until then.
type ending struct {
	calls  []call
	struck *call // the call that was hit; nil where the program made fewer
	child  bool  // it was made by a child of the program
	state  syscall.WaitStatus
	output string   // what it wrote to stdout and stderr
	left   []string // processes that outlived it for more than linger
}

// linger is how long a child may outlive the program: its guardian kills what it runs
// first.
const linger = 10 * time.Second

// A tracer follows one program with its threads and children, up to where a child, or
// the program itself, executes another program.
type tracer struct {
	strike
	ending
	main    int
	begun   map[int]bool          // threads that have stopped once
	execed  bool                  // the program has executed another
	denied  map[int]syscall.Errno // threads whose call was skipped
	leaders map[int]int           // process by thread
	ended   time.Time
}

// trace runs the command to its end. What it executes in its place is not traced, and
// waited for.
func trace(cmd *exec.Cmd, s strike) (*ending, error) {
	out, err := os.CreateTemp("", "crash")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	defer os.Remove(out.Name())
	cmd.Stdout, cmd.Stderr = out, out
	t := &tracer{strike: s, begun: map[int]bool{}, denied: map[int]syscall.Errno{}, leaders: map[int]int{}}
	done := make(chan error)
	go func() { // ptrace(2) requests come from one thread; wait4 with __WNOTHREAD sees its children alone
		runtime.LockOSThread()
		done <- t.run(cmd)
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("trace %q: %w", cmd.Args, err)
	}
	data, err := os.ReadFile(out.Name())
	t.output = string(data)
	return &t.ending, err
}

const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

func (t *tracer) run(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return err
	}
	t.main = cmd.Process.Pid
	t.leaders[t.main] = t.main
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(t.main, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		return fmt.Errorf("wait for its start: %v, %w", ws, err)
	}
	if err := syscall.PtraceSetOptions(t.main, options); err != nil {
		return fmt.Errorf("set options: %w", err)
	}
	if err := syscall.PtraceSyscall(t.main, 0); err != nil {
		return err
	}
	for len(t.leaders) > 0 {
		// What is left of a program that has ended may never stop.
		how := unix.WALL | unix.WNOTHREAD
		if !t.ended.IsZero() {
			how |= unix.WNOHANG
		}
		tid, err := syscall.Wait4(-1, &ws, how, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case tid == 0:
			t.idle()
			continue
		}
		if err := t.stopped(tid, ws); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			return err
		}
	}
	if t.execed {
		_, err := syscall.Wait4(t.main, &t.state, 0, nil)
		return err
	}
	return nil
}

// idle waits a little, and ends what has outlived the program for too long.
func (t *tracer) idle() {
	if time.Since(t.ended) > linger {
		t.ended = time.Now()
		for tid, pid := range t.leaders {
			if tid == pid && pid != t.main {
				t.left = append(t.left, fmt.Sprint("process ", pid))
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	unix.Nanosleep(&unix.Timespec{Nsec: 100_000}, nil)
}

func (t *tracer) stopped(tid int, ws syscall.WaitStatus) error {
	switch {
	case ws.Exited() || ws.Signaled():
		delete(t.leaders, tid)
		if tid == t.main {
			t.state, t.ended = ws, time.Now()
		}
		return nil
	case ws.StopSignal() == syscall.SIGTRAP|0x80:
		if err := t.atCall(tid); err != nil {
			return err
		}
	case ws.TrapCause() == unix.PTRACE_EVENT_EXEC:
		t.execed = t.execed || tid == t.main
		delete(t.leaders, tid)
		return syscall.PtraceDetach(tid)
	case ws.TrapCause() > 0: // a thread or a child was made
		child, err := syscall.PtraceGetEventMsg(tid)
		if err != nil {
			return err
		}
		t.born(int(child))
	case ws.StopSignal() == syscall.SIGSTOP && !t.begun[tid]: // so it begins
		t.begun[tid] = true
		t.born(tid)
	default:
		return syscall.PtraceSyscall(tid, int(ws.StopSignal()))
	}
	return syscall.PtraceSyscall(tid, 0)
}

// born notes which process a new thread belongs to.
func (t *tracer) born(tid int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return // gone already
	}
	t.leaders[tid] = tid
	if _, after, ok := strings.Cut(string(data), "\nTgid:\t"); ok {
		var pid int
		if _, err := fmt.Sscan(after, &pid); err == nil {
			t.leaders[tid] = pid
		}
	}
}

// syscallInfo is struct ptrace_syscall_info of linux/ptrace.h, Linux 5.3.
type syscallInfo struct {
	op    uint8
	_     [3]uint8
	arch  uint32
	ip    uint64
	sp    uint64
	entry struct {
		nr   uint64
		args [6]uint64
	}
	_ [16]byte
}

func (t *tracer) atCall(tid int) error {
	var info syscallInfo
	_, _, errno := syscall.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return errno
	}
	if info.op == unix.PTRACE_SYSCALL_INFO_EXIT {
		errno, skipped := t.denied[tid]
		if !skipped {
			return nil
		}
		delete(t.denied, tid)
		return setResult(tid, errno)
	}
	interest, ok := callNames[info.entry.nr]
	if !ok || info.op != unix.PTRACE_SYSCALL_INFO_ENTRY {
		return nil
	}
	c := call{nr: info.entry.nr, args: info.entry.args}
	if interest.fd {
		c.file, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(c.args[0])))
	}
	if interest.path > 0 {
		c.path = peekString(tid, c.args[interest.path-1])
	}
	if ofRuntime(c) {
		return nil
	}
	t.calls = append(t.calls, c)
	if len(t.calls) != t.at {
		return nil
	}
	t.struck, t.child = &c, t.leader(tid) != t.main
	if t.signal != 0 {
		return syscall.Tgkill(t.leader(tid), tid, t.signal)
	}
	t.denied[tid] = t.errno
	return skipCall(tid)
}

func (t *tracer) leader(tid int) int {
	if pid := t.leaders[tid]; pid != 0 {
		return pid
	}
	return tid
}

func peekString(tid int, at uint64) string {
	buf := make([]byte, 256)
	n, _ := syscall.PtracePeekData(tid, uintptr(at), buf)
	text, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return text
}

// ofRuntime says that the call is one of the Go runtime's own.
func ofRuntime(c call) bool {
	return strings.HasPrefix(c.path, "/sys/") || strings.HasPrefix(c.file, "/sys/fs/cgroup/") ||
		strings.HasPrefix(c.path, "/proc/self/cgroup") || strings.HasSuffix(c.file, "/cgroup") || c.path == "/proc/self/mountinfo" ||
		strings.Contains(c.file, "[eventfd]")
}

// skipCall has the call at whose entry the thread stands not be made.
func skipCall(tid int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Orig_rax = ^uint64(0)
	return syscall.PtraceSetRegs(tid, &regs)
}

func setResult(tid int, errno syscall.Errno) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(errno)
	return syscall.PtraceSetRegs(tid, &regs)
}
