package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/service/credential"
	"golang.org/x/sys/unix"
)

// ErrGone says that the process has ended.
var ErrGone = errors.New("the process has ended")

// A Process is one process, held by its pidfd.
type Process struct {
	pid   int
	start uint64
	pidfd *os.File
	dir   *os.File // /proc/PID, O_PATH
	close sync.Once
}

// Open takes hold of a process by its id, as this process's pid namespace sees
// it. The caller closes it. The error wraps [ErrGone] when there is none.
func Open(pid int) (*Process, error) {
	p, err := open(pid)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return p, nil
}

func open(pid int) (*Process, error) {
	if pid <= 0 {
		return nil, errors.New("not a process id")
	}
	fd, err := unix.PidfdOpen(pid, 0) // always close-on-exec
	if err != nil {
		return nil, gone(err)
	}
	p := &Process{pid: pid, pidfd: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid))}
	dir, err := unix.Open(fmt.Sprintf("/proc/%d", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		p.Close()
		return nil, gone(err)
	}
	p.dir = os.NewFile(uintptr(dir), fmt.Sprintf("/proc/%d", pid))
	stat, err := p.read("stat", 1<<16)
	if err == nil {
		p.start, err = parseStartTime(stat)
	}
	// The pidfd names one process for ever. If that one still lives now, the
	// number has been its own all along, and so is the directory.
	if err == nil && !p.Alive() {
		err = ErrGone
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close lets go of the process.
func (p *Process) Close() error {
	var err error
	p.close.Do(func() {
		err = p.pidfd.Close()
		if p.dir != nil {
			err = errors.Join(err, p.dir.Close())
		}
	})
	return err
}

// PID is the id that the process was opened by.
func (p *Process) PID() int { return p.pid }

// PidFD is the process's pidfd. The Process keeps it.
func (p *Process) PidFD() *os.File { return p.pidfd }

// StartTime is when the process started, in clock ticks since the machine did:
// with the process id, it tells processes of one boot apart.
func (p *Process) StartTime() uint64 { return p.start }

// Alive says that the process has not ended. A zombie has.
func (p *Process) Alive() bool {
	alive := false
	if err := control(p.pidfd, func(fd int) { alive = !readable(fd) }); err != nil {
		return false
	}
	return alive
}

// Ending says that the process has ended, or that it was killed and is about to: a
// signal is sent at once, but takes effect when the process runs next.
func (p *Process) Ending() bool {
	if !p.Alive() {
		return true
	}
	// Any signal that ends a process by default, without a core, becomes a SIGKILL
	// for each of its threads (complete_signal in the kernel's signal.c). Once a
	// thread has taken it, its flags say that it exits: so they are read afterwards.
	status, err := p.read("status", maxProc)
	if err != nil {
		return errors.Is(err, ErrGone)
	}
	stat, err := p.read("stat", maxProc)
	if err != nil {
		return errors.Is(err, ErrGone)
	}
	return killed(status) || exiting(stat)
}

// maxProc bounds what is read of a file of /proc.
const maxProc = 64 << 10

// killed says whether a SIGKILL waits for the process, by /proc/PID/status.
func killed(status []byte) bool {
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte{':'})
		if k := string(key); k != "SigPnd" && k != "ShdPnd" {
			continue
		}
		set, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		if err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// exiting says whether the process exits, or has taken a signal that ends it, by
// the flags in /proc/PID/stat.
func exiting(stat []byte) bool {
	const pfExiting, pfSignaled = 0x4, 0x400 // include/linux/sched.h
	flags, err := statField(stat, 9)
	return err == nil && flags&(pfExiting|pfSignaled) != 0
}

// readable polls without waiting; a pidfd is readable when its process has
// ended, pidfd_open(2).
func readable(fd int) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || n > 0
		}
	}
}

// control calls f with the descriptor, which stays open meanwhile.
func control(f *os.File, call func(fd int)) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { call(int(fd)) })
}

// Signal sends a signal to the process, and never to another one that has come
// to bear its id.
func (p *Process) Signal(signal unix.Signal) error {
	var err error
	if e := control(p.pidfd, func(fd int) { err = unix.PidfdSendSignal(fd, signal, nil, 0) }); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("signal process %d with %s: %w", p.pid, unix.SignalName(signal), gone(err))
	}
	return nil
}

// Status is who the process is, as its status file says now.
func (p *Process) Status() (credential.Status, error) {
	f, err := p.open("status", unix.O_RDONLY)
	if err != nil {
		return credential.Status{}, p.failed("read credentials of", err)
	}
	defer f.Close()
	s, err := credential.Read(f)
	if err != nil {
		return credential.Status{}, p.failed("read credentials of", err)
	}
	return s, nil
}

// maxEnviron bounds the environment that is copied; execve takes no more than
// a quarter of the stack limit, 2 MiB as a rule.
const maxEnviron = 8 << 20

// Environ is the environment that the process was started with, unless it has
// written over it: it is the process's own memory.
func (p *Process) Environ() ([]string, error) {
	text, err := p.read("environ", maxEnviron)
	if err != nil {
		return nil, p.failed("read environment of", err)
	}
	return parseEnviron(text), nil
}

// parseEnviron splits what /proc/PID/environ shows; what is no assignment is
// passed over.
func parseEnviron(text []byte) []string {
	var env []string
	for assignment := range bytes.SplitSeq(text, []byte{0}) {
		if i := bytes.IndexByte(assignment, '='); i > 0 {
			env = append(env, string(assignment))
		}
	}
	return env
}

// maxMountTable bounds a mount table that is read into memory: fs.mount-max mounts are
// 100,000, with some hundred bytes each.
const maxMountTable = 256 << 20

// MountTable is what is mounted in the process's mount namespace, as far as its root
// shows it; [ErrGone] where the process has left it, and is about to end.
func (p *Process) MountTable() (*nsmount.Table, error) {
	text, err := p.read("mountinfo", maxMountTable)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = ErrGone // it has no namespace or no root any more (mounts_open_common)
	}
	if err != nil {
		return nil, p.failed("read the mount table of", err)
	}
	return nsmount.ParseTable(text)
}

// failed wraps an error with the process it is about.
func (p *Process) failed(doing string, err error) error {
	return fmt.Errorf("%s process %d: %w", doing, p.pid, gone(err))
}

// open opens a file of the process's directory. For a process that has been
// reaped, ESRCH or ENOENT comes back.
func (p *Process) open(name string, flags int) (*os.File, error) {
	var fd int
	var err error
	if e := control(p.dir, func(dir int) { fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0) }); e != nil {
		return nil, e
	}
	if err != nil {
		if !p.Alive() {
			return nil, ErrGone
		}
		return nil, &fs.PathError{Op: "open", Path: p.dir.Name() + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), p.dir.Name()+"/"+name), nil
}

func (p *Process) read(name string, limit int64) ([]byte, error) {
	f, err := p.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, gone(err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %q: longer than %d bytes", f.Name(), limit)
	}
	return b, nil
}

// readlink reads a symbolic link of the process's directory.
func (p *Process) readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	var n int
	var err error
	if e := control(p.dir, func(dir int) { n, err = unix.Readlinkat(dir, name, buf) }); e != nil {
		return "", e
	}
	if err != nil {
		return "", gone(err)
	}
	return string(buf[:n]), nil
}

// gone turns what the kernel says of a process that is no more into ErrGone.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// parseStartTime finds field 22 of /proc/PID/stat.
func parseStartTime(stat []byte) (uint64, error) { return statField(stat, 22) }

// statField finds a number in /proc/PID/stat, by the number of its field. The second
// field is the process's name in parentheses and may have any byte in it,
// parentheses too: the last one ends it.
func statField(stat []byte, number int) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	number -= 3 // counted from the third field
	if end < 0 || len(fields) <= number {
		return 0, errors.New("parse stat: too few fields")
	}
	n, err := strconv.ParseUint(string(fields[number]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse stat: %w", err)
	}
	return n, nil
}

// parseOpenFiles finds the limit of open files in /proc/PID/limits.
func parseOpenFiles(limits []byte) (soft, hard uint64, err error) {
	for line := range bytes.Lines(limits) {
		values, ok := bytes.CutPrefix(line, []byte("Max open files"))
		if !ok {
			continue
		}
		fields := bytes.Fields(values)
		if len(fields) < 2 {
			break
		}
		// This limit is always a number: fs.nr_open bounds it.
		if soft, err = strconv.ParseUint(string(fields[0]), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("parse limits: %w", err)
		}
		if hard, err = strconv.ParseUint(string(fields[1]), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("parse limits: %w", err)
		}
		return soft, hard, nil
	}
	return 0, 0, errors.New("parse limits: there is none for open files")
}
