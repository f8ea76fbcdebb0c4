//go:build amd64

package tracer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Strike hits one system call of a program as it is about to be made.
type Strike struct {
	At     int            // which of the calls of interest, from 1; 0 for none
	Signal syscall.Signal // the process that makes it gets this signal
	// Errno is what it fails with otherwise; it is not made. Two runs of a program differ
	// by a call or two: where this one does not fail so, it is the next one that does.
	Errno syscall.Errno
}

// hits says whether it is the nth call that is hit.
func (s Strike) hits(n int, c Call) bool {
	if s.Signal != 0 {
		return n == s.At
	}
	return s.At > 0 && n >= s.At && slices.ContainsFunc(c.Failures(), func(f Strike) bool { return f.Errno == s.Errno })
}

// String is the signal's name, or the error's.
func (s Strike) String() string {
	if s.Signal != 0 {
		return unix.SignalName(s.Signal)
	}
	return unix.ErrnoName(s.Errno)
}

// A Call is one of interest that a program made.
type Call struct {
	NR   uint64
	Path string // its path argument, where it has one
	File string // what its first argument, a descriptor, was opened as
	Args [6]uint64
}

// String is its name and what it is about.
func (c Call) String() string {
	text := strings.TrimSpace(callNames[c.NR].name + " " + c.File)
	if c.Path != "" {
		text += " " + c.Path
	}
	return text
}

// An Ending is how a traced program ended, and which calls it made until then.
type Ending struct {
	Calls  []Call
	Struck *Call // the call that was hit; nil where the program made fewer
	Child  bool  // it was made by a child of the program
	State  syscall.WaitStatus
	Output string   // what it wrote to stdout and stderr
	Left   []string // processes that outlived it for more than linger
}

// linger is how long a child may outlive the program: its guardian kills what it runs
// first.
const linger = 10 * time.Second

// A tracer follows one program with its threads and children, up to where a child, or
// the program itself, executes another program.
type tracer struct {
	Strike
	Ending
	proc    *os.Root // of the pid namespace that we are in
	main    int
	begun   map[int]bool          // threads that have stopped once
	execed  bool                  // the program has executed another
	denied  map[int]syscall.Errno // threads whose call was skipped
	leaders map[int]int           // process by thread
	ended   time.Time
}

// Trace runs the command to its end. What it executes in its place is not traced, and
// waited for.
func Trace(cmd *exec.Cmd, s Strike) (*Ending, error) {
	return TraceIn(func(f func() error) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- f()
		}()
		return <-done
	}, cmd, s)
}

// TraceIn is [Trace] for a command that is born on a thread of the caller's: do runs a
// function on it, on a goroutine that is locked to it, and that has no other children
// which end meanwhile. ptrace(2) requests come from one thread.
func TraceIn(do func(f func() error) error, cmd *exec.Cmd, s Strike) (*Ending, error) {
	proc, err := os.OpenRoot("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	out, err := os.CreateTemp("", "traced")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	defer os.Remove(out.Name())
	cmd.Stdout, cmd.Stderr = out, out
	t := &tracer{Strike: s, proc: proc, begun: map[int]bool{}, denied: map[int]syscall.Errno{}, leaders: map[int]int{}}
	if err := do(func() error { return t.run(cmd) }); err != nil {
		return nil, fmt.Errorf("trace %q: %w", cmd.Args, err)
	}
	data, err := os.ReadFile(out.Name())
	t.Output = string(data)
	return &t.Ending, err
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
		_, err := syscall.Wait4(t.main, &t.State, 0, nil)
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
				t.Left = append(t.Left, fmt.Sprint("process ", pid))
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
			t.State, t.ended = ws, time.Now()
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
	data, err := t.proc.ReadFile(fmt.Sprintf("%d/status", tid))
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
	c := Call{NR: info.entry.nr, Args: info.entry.args}
	if interest.fd {
		c.File, _ = t.proc.Readlink(fmt.Sprintf("%d/fd/%d", tid, int32(c.Args[0])))
	}
	if interest.path > 0 {
		c.Path = peekString(tid, c.Args[interest.path-1])
	}
	if ofRuntime(c) {
		return nil
	}
	t.Calls = append(t.Calls, c)
	if t.Struck != nil || !t.hits(len(t.Calls), c) {
		return nil
	}
	t.Struck, t.Child = &c, t.leader(tid) != t.main
	if t.Signal != 0 {
		return syscall.Tgkill(t.leader(tid), tid, t.Signal)
	}
	t.denied[tid] = t.Errno
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
func ofRuntime(c Call) bool {
	return strings.HasPrefix(c.Path, "/sys/") || strings.HasPrefix(c.File, "/sys/fs/cgroup/") || strings.HasPrefix(c.File, "/sys/kernel/mm/") ||
		strings.HasPrefix(c.Path, "/proc/self/cgroup") || strings.HasSuffix(c.File, "/cgroup") || c.Path == "/proc/self/mountinfo" ||
		strings.Contains(c.File, "[eventfd]")
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
