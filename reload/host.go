package reload

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// startedBySystemd tells whether systemd executed this very process:
// systemd.exec(5), $SYSTEMD_EXEC_PID, from 248 on. A child of such a process has
// the variable too, with another number. So has the first process of a pid
// namespace of its own (PrivatePIDs=): 257 gives it the number outside.
func startedBySystemd() bool {
	pid := os.Getenv("SYSTEMD_EXEC_PID")
	return pid == strconv.Itoa(os.Getpid()) || pid != "" && os.Getpid() == 1
}

// hostView is where images are found and records are kept: for what systemd
// started the mount namespace of PID 1, since the unit's sandbox hides or
// write-protects what is needed; by hand the caller's own. Where these are the same, it
// takes no thread: what is handed to one costs two switches.
func hostView(systemd bool) (*nsmount.Namespace, error) {
	if !systemd || seesWhat(1) {
		return nsmount.Here()
	}
	f, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("enter the host's mount namespace: %w: let the unit keep CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_SYS_CHROOT, or adopt it: let systemd apply the extensions, with ExtensionDirectories= and ExtensionImages= in [Service]", err)
	}
	defer f.Close()
	ns, err := nsmount.Enter(f)
	if err != nil {
		return nil, fmt.Errorf("enter the host's mount namespace: %w: let the unit keep CAP_SYS_ADMIN and CAP_SYS_CHROOT, or adopt it: let systemd apply the extensions, with ExtensionDirectories= and ExtensionImages= in [Service]", err)
	}
	return ns, nil
}

// seesWhat tells whether this process sees what another one does, PID 1 say: what
// systemd starts for a unit without a sandbox does, and an ExecReload=+, which has none,
// where the unit has no root of its own.
func seesWhat(pid int) bool {
	for _, link := range []string{"ns/mnt", "root"} {
		other, err := locate(fmt.Sprintf("/proc/%d/%s", pid, link))
		if err != nil {
			return false
		}
		if own, err := locate("/proc/self/" + link); err != nil || own != other {
			return false
		}
	}
	return true
}

func locate(path string) (nsmount.Location, error) {
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return nsmount.Location{}, err
	}
	defer f.Close()
	return nsmount.Locate(f)
}

// LeaveRoot is for an ExecReload= line of a unit with RootDirectory= or
// RootImage=: systemd runs it in that root, and, because of the "+", without the
// API file systems (apply_mount_namespace of systemd's exec-invoke.c). Without
// /proc nothing of this works, so the program is executed once more, in the host
// view. It returns nil where that is not needed. Must be called on the main
// goroutine, locked to the first thread.
func LeaveRoot() error {
	if _, err := os.Stat("/proc/self"); err == nil || !startedBySystemd() {
		return nil
	}
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return fmt.Errorf("find the host's mount namespace: open process 1: %w", err)
	}
	host := os.NewFile(uintptr(fd), "pidfd of process 1")
	defer host.Close()
	// /proc/self/exe is not there either; systemd passes the path that it has
	// executed, unless the line has an "@".
	program, err := os.Open(os.Args[0])
	if err != nil {
		return fmt.Errorf("execute again in the host's mount namespace: %w: write ExecReload=+ with the full path and no \"@\"", err)
	}
	defer program.Close()
	return fmt.Errorf("leave the root of the service, which has no /proc: %w", nsmount.ExecIn(host, program, os.Args, os.Environ()))
}

// aside runs f on a goroutine that is bound to no thread. The main goroutine is
// bound to the first one: what it hands to another, and what it gets back, costs
// two switches of threads, and a transaction hands over a dozen times.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}
