package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Kind is a kind of namespace, named as in /proc/PID/ns.
type Kind string

// The kinds of namespaces(7).
const (
	Mount  Kind = "mnt"
	User   Kind = "user"
	PID    Kind = "pid"
	Net    Kind = "net"
	IPC    Kind = "ipc"
	UTS    Kind = "uts"
	Cgroup Kind = "cgroup"
	Time   Kind = "time"
)

// InodeID is set in a namespace id where the kernel has no unique ids (before
// 6.11): the rest is then the inode number, which a later namespace may get
// again.
const InodeID uint64 = 1 << 63

// Namespace opens one of the process's namespaces; the caller closes it.
func (p *Process) Namespace(kind Kind) (*os.File, error) {
	f, err := p.open("ns/"+string(kind), unix.O_RDONLY)
	if err != nil {
		return nil, p.failed(fmt.Sprintf("open the %s namespace of", kind), err)
	}
	return f, nil
}

// MountNS is the id of the process's mount namespace: never given twice while
// the machine runs, unless it has [InodeID] set.
func (p *Process) MountNS() (uint64, error) {
	f, err := p.Namespace(Mount)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	id, err := MountNamespaceID(f)
	if err != nil {
		return 0, p.failed("identify the mount namespace of", err)
	}
	return id, nil
}

// MountNamespaceID is the id of a mount namespace that the caller has open, as
// [Process.MountNS] gives it.
func MountNamespaceID(ns *os.File) (uint64, error) {
	var id uint64
	var err error
	if e := control(ns, func(fd int) { id, err = mountNamespaceID(fd) }); e != nil {
		return 0, e
	}
	return id, err
}

func mountNamespaceID(fd int) (uint64, error) {
	// linux/nsfs.h, Linux 6.11. The answer has 64 bits, as an int has where this
	// program runs (package credential sees to that).
	id, err := unix.IoctlGetInt(fd, unix.NS_GET_MNTNS_ID)
	if err == nil {
		return uint64(id), nil
	}
	if !errors.Is(err, unix.ENOTTY) {
		return 0, fmt.Errorf("ask for namespace id: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("ask for namespace id: %w", err)
	}
	return st.Ino | InodeID, nil
}

// OwnUserNamespace says that the process has a user namespace other than that
// of the calling thread.
func (p *Process) OwnUserNamespace() (bool, error) {
	mine, err := threadNamespace(User)
	if err != nil {
		return false, err
	}
	theirs, err := p.identify(User)
	if err != nil {
		return false, p.failed("identify the user namespace of", err)
	}
	return mine != theirs, nil
}

// An identity tells the namespaces that exist at one time apart.
type identity struct {
	dev, ino uint64
}

func (p *Process) identify(kind Kind) (identity, error) {
	var st unix.Stat_t
	var err error
	if e := control(p.dir, func(dir int) { err = unix.Fstatat(dir, "ns/"+string(kind), &st, 0) }); e != nil {
		return identity{}, e
	}
	if err != nil {
		if !p.Alive() {
			return identity{}, ErrGone
		}
		return identity{}, gone(err)
	}
	return identity{st.Dev, st.Ino}, nil
}

// threadNamespace identifies a namespace of the calling thread.
func threadNamespace(kind Kind) (identity, error) {
	path := "/proc/thread-self/ns/" + string(kind)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return identity{st.Dev, st.Ino}, nil
}

// IsHostNamespace tells whether a mount namespace is that of PID 1, or the one
// that we were started in: neither is a service's to have exchanged. Where PID 1
// may not be looked at (a container's root, say) the second must do.
func IsHostNamespace(id uint64) (bool, error) {
	for _, path := range []string{"/proc/1/ns/mnt", "/proc/self/ns/mnt"} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return false, err
		}
		host, err := MountNamespaceID(f)
		f.Close()
		if err != nil || host == id {
			return host == id, err
		}
	}
	return false, nil
}

// InMountNamespace lists the processes whose main thread is in the mount
// namespace with that id (see [Process.MountNS]), by process id. Processes that
// end meanwhile, and those that this one may not look at, are passed over.
func InMountNamespace(id uint64) ([]int, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	if len(names) == 0 {
		// An empty directory says nothing of who lives.
		return nil, errors.New("list processes: /proc is empty: mount a proc there")
	}
	var pids []int
	known := map[identity]bool{} // few namespaces, many processes
	var failed error
	err = control(proc, func(dir int) {
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			is, err := inMountNamespace(dir, name, id, known)
			if err != nil && !passing(err) {
				failed = fmt.Errorf("look at process %d: %w", pid, err)
				return
			}
			if is {
				pids = append(pids, pid)
			}
		}
	})
	return pids, errors.Join(err, failed)
}

// passing says that a process has ended, or is not ours to look at (proc(5)). Any other
// error, such as EMFILE, must not pass for the end of it.
func passing(err error) bool {
	return slices.ContainsFunc([]error{ErrGone, unix.ENOENT, unix.ESRCH, unix.EACCES, unix.EPERM}, func(e error) bool { return errors.Is(err, e) })
}

func inMountNamespace(proc int, pid string, id uint64, known map[identity]bool) (bool, error) {
	path := pid + "/ns/mnt"
	var st unix.Stat_t
	if err := unix.Fstatat(proc, path, &st, 0); err != nil {
		return false, err
	}
	key := identity{st.Dev, st.Ino}
	is, seen := known[key]
	if seen {
		return is, nil
	}
	fd, err := unix.Openat(proc, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	got, err := mountNamespaceID(fd)
	if err != nil {
		return false, err
	}
	// The process may have moved since the stat: what was opened counts.
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	known[identity{st.Dev, st.Ino}] = got == id
	return got == id, nil
}
