package service

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A child is a guardian that runs.
type child struct {
	pid   int
	pidfd *os.File
}

// start makes the child, and where there is an opener, waits for that and finds
// the guardian.
func (s *setup) start() (*child, error) {
	// Nobody else makes a child while ours is being made: it has a copy of every
	// descriptor.
	syscall.ForkLock.Lock()
	pid, errno := rawStart(&s.plan)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return nil, failed("start the child", exitFork, errno)
	}
	if s.plan.pidNS < 0 {
		return newChild(int(pid))
	}
	if _, err := reap(int(pid)); err != nil {
		return nil, failed("start the child", exitFork, err)
	}
	m, err := s.message()
	switch {
	case err != nil:
		return nil, failed("join the pid namespace", exitNamespace, err)
	case m.kind != messageGuardian:
		return nil, s.childFailure(m)
	}
	return newChild(int(m.a))
}

// newChild takes hold of a child that nobody but us can reap.
func newChild(pid int) (*child, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		// Without it the child could not be told to end.
		_ = unix.Kill(pid, unix.SIGKILL)
		_, waitErr := reap(pid)
		return nil, failed("start the child", exitFork, errors.Join(err, waitErr))
	}
	return &child{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd:child")}, nil
}

// terminate tells the guardian to kill what there is.
func (c *child) terminate() {
	// It has ended where this fails.
	_ = control(c.pidfd, func(fd int) { _ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) })
}

// wait waits for the guardian's end.
func (c *child) wait() error {
	state, err := reap(c.pid)
	err = errors.Join(err, c.pidfd.Close())
	if err == nil && state.Signaled() {
		err = failed("wait for the command", exitFork, fmt.Errorf("its guardian was killed by %s", unix.SignalName(state.Signal())))
	}
	return err
}

// reap waits for one child. It has no exit signal: that needs __WALL.
func reap(pid int) (unix.WaitStatus, error) {
	var state unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &state, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return state, os.NewSyscallError("wait4", err)
		}
	}
}

// message reads one message of the child, if there is one.
func (s *setup) message() (rawMessage, error) {
	var buf [rawMessageSize]byte
	var n int
	var err error
	if e := control(s.status, func(fd int) { n, err = readFD(fd, buf[:]) }); e != nil {
		return rawMessage{}, e
	}
	switch {
	case errors.Is(err, unix.EAGAIN) || err == nil && n == 0:
		return rawMessage{}, errors.New("the child ended without a word")
	case err != nil:
		return rawMessage{}, fmt.Errorf("read what the child said: %w", err)
	case n != rawMessageSize:
		return rawMessage{}, fmt.Errorf("the child said only %d bytes", n)
	}
	word := func(i int) int32 { return int32(binary.NativeEndian.Uint32(buf[4*i:])) }
	return rawMessage{word(0), word(1), word(2), word(3)}, nil
}

func readFD(fd int, b []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, b); !errors.Is(err, unix.EINTR) {
			return n, os.NewSyscallError("read", err)
		}
	}
}

// outcome reads what the child told about the command. A failure comes before
// the end that it led to.
func (s *setup) outcome() (syscall.WaitStatus, error) {
	m, err := s.message()
	switch {
	case err != nil:
		return 0, failed("start the child", exitFork, err)
	case m.kind == messageExited:
		return syscall.WaitStatus(m.a), nil
	}
	return 0, s.childFailure(m)
}

func (s *setup) childFailure(m rawMessage) error {
	step, errno := rawStep(m.a), syscall.Errno(m.c)
	if step == stepNamespace {
		for kind, number := range rawKinds {
			if number == uintptr(m.b) {
				return failed(fmt.Sprintf("join the %s namespace", kind), exitNamespace, errno)
			}
		}
	}
	f, ok := rawFailures[step]
	if !ok {
		return failed("start the child", exitFork, fmt.Errorf("unknown step %d: %w", m.a, errno))
	}
	return failed(f.step, f.code, errno)
}
