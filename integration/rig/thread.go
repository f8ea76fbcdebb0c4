package rig

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// A thread is one operating system thread inside a container's namespaces. Functions given to do run there,
// one at a time; processes that they start are born in the container. The thread ends with close.
type thread struct {
	work chan func()
	quit chan struct{} // closed to end the thread
	done chan struct{} // closed when it has ended
}

// newThread enters all namespaces of the process but its user namespace, which is the host's.
func newThread(pidfd int) (*thread, error) {
	t := &thread{work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	entered := make(chan error)
	go func() {
		defer close(t.done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		err := enter(pidfd)
		entered <- err
		if err != nil {
			return
		}
		for {
			select {
			case f := <-t.work:
				f()
			case <-t.quit:
				return
			}
		}
	}()
	if err := <-entered; err != nil {
		return nil, err
	}
	return t, nil
}

func enter(pidfd int) error {
	// setns(2): a mount namespace can be joined only by a thread that shares its root and cwd with no other.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare fs: %w", err)
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	if err := unix.Setns(pidfd, all); err != nil {
		return fmt.Errorf("enter container: %w", err)
	}
	return nil
}

var errClosed = errors.New("the container is stopped")

// do runs f on the thread and waits for it.
func (t *thread) do(f func() error) error {
	result := make(chan error, 1)
	select {
	case t.work <- func() { result <- f() }:
		return <-result
	case <-t.done:
		return errClosed
	}
}

// close ends the thread; work that is under way finishes first.
func (t *thread) close() {
	close(t.quit)
	<-t.done
}
