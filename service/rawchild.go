package service

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the part of Run that happens in the child. The child is made
// from a process of many threads, of which it has one, and which may have held
// any lock of the Go runtime: until execve there is no Go runtime in it. So
// everything below is prepared by the parent as numbers and as pointers that
// have become numbers, and what runs in the child is functions that
//
//   - do not allocate, do not grow the stack (nosplit), store no pointer (a
//     write barrier could call the collector), and call nothing but each other
//     and raw system calls;
//   - are not instrumented (norace).
//
// syscall.forkAndExecInChild lives by the same rules. It cannot be used because
// it joins no namespaces.
//
// Three processes can come of it:
//
//	opener    where the service has a pid namespace of its own: joins it, which
//	          counts for its children alone (pid_namespaces(7)), leaves the
//	          guardian to our own process by CLONE_PARENT, and ends.
//	guardian  a subreaper (prctl(2)) in the service's pid namespace, with our
//	          namespaces and credentials otherwise. It starts the command, and
//	          when that ends, when it is told to (SIGTERM) or when our process
//	          is no more, it kills what is left of it, to the last descendant,
//	          and ends. That our process ends is seen by its pidfd:
//	          PR_SET_PDEATHSIG is about a thread and not about a process.
//	command   joins and becomes what the service is, and executes.

// A rawStep says what the child was doing when it failed.
type rawStep int32

const (
	stepNone rawStep = iota
	stepStart
	stepGuardian
	stepPID
	stepCgroup
	stepNamespace // + index into namespaces
	stepRoot
	stepLimit
	stepGroups
	stepIDs
	stepUser
	stepCapabilities
	stepBounding
	stepAmbient
	stepNoNewPrivs
	stepParent
	stepStdio
	stepDirectory
	stepExec
)

// The messages that come out of the status pipe, each written at once.
const (
	messageFailed   int32 = iota + 1 // step, errno
	messageGuardian                  // process id of the guardian
	messageExited                    // wait status of the command
)

type rawMessage struct {
	kind, a, b int32
}

const rawMessageSize = 12

// A rawPlan is all that the child needs. Numbers called fd are descriptors, -1
// for none; those of type uintptr otherwise are addresses of C strings and
// arrays that the parent keeps alive. All descriptors are above 2 and
// close-on-exec.
type rawPlan struct {
	status int // write end of the status pipe
	self   int // pidfd of our own process
	proc   int // our /proc

	pidNS, userNS int
	cgroup        int       // directory of a cgroup of version 2, or -1
	procs         []uintptr // cgroup.procs files of version 1
	namespaces    []rawNamespace

	root     int     // O_PATH of the root, or -1
	rootPath uintptr // path of the root in the namespace, where root is -1

	session bool // the command gets a session of its own
	keep    bool // what outlives the command, and left its group, may stay

	nofile [2]uint64 // struct rlimit64
	umask  uintptr

	groups     uintptr // of uint32
	groupCount uintptr
	gid, uid   [3]uintptr // real, effective, saved

	inheritable, permitted, effective, bounding, ambient uint64
	noNewPrivs                                           bool

	stdio     [3]uintptr
	directory uintptr
	argv, env uintptr
	paths     []uintptr // candidates to execute, in turn

	keepOpen []uintptr // what the guardian needs, sorted; see closeOthers

	// What the child notes down for itself.
	clone     cloneArgs
	guardian  uintptr // its process id as it and the command see it
	command   uintptr
	state     int32 // wait status of the command
	exited    bool
	children  uintptr // descriptor of the list of our children
	signals   uintptr // signalfd
	mask      uint64
	poll      [2]unix.PollFd
	timeout   unix.Timespec
	message   rawMessage
	capHeader unix.CapUserHeader
	capData   [2]unix.CapUserData
	buffer    [4096]byte
}

// A rawNamespace is one of the other namespaces, in the order to join them.
type rawNamespace struct {
	fd, kind uintptr // kind: CLONE_NEWNS and so on
}

// cloneArgs is struct clone_args, linux/sched.h.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// rawKinds is the kind of every namespace for setns(2).
var rawKinds = map[Kind]uintptr{
	Mount: unix.CLONE_NEWNS, User: unix.CLONE_NEWUSER, PID: unix.CLONE_NEWPID, Net: unix.CLONE_NEWNET,
	IPC: unix.CLONE_NEWIPC, UTS: unix.CLONE_NEWUTS, Cgroup: unix.CLONE_NEWCGROUP, Time: unix.CLONE_NEWTIME,
}

// These are in linux/sched.h.
const (
	cloneClearSighand = 0x100000000 // Linux 5.5
	cloneIntoCgroup   = 0x200000000 // Linux 5.7
)

var (
	childrenFile = [...]byte{'t', 'h', 'r', 'e', 'a', 'd', '-', 's', 'e', 'l', 'f', '/', 'c', 'h', 'i', 'l', 'd', 'r', 'e', 'n', 0}
	dotPath      = [...]byte{'.', 0}
	slashPath    = [...]byte{'/', 0}
	zero         = [...]byte{'0'}
)

// rawStart makes the first child, opener or guardian, and returns its process
// id. The caller holds syscall.ForkLock.
//
//go:norace
//go:nosplit
func rawStart(p *rawPlan) (pid uintptr, errno syscall.Errno) {
	// The child starts with the default for every signal that Go handles: a
	// handler would run Go code.
	p.clone = cloneArgs{flags: cloneClearSighand}
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	p.mask = ^uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.mask)), 0, 8, 0, 0)
	if p.pidNS >= 0 {
		rawOpener(p)
	}
	rawGuardian(p)
	return 0, 0 // never
}

// rawOpener goes on as the guardian's elder brother, or as the guardian.
//
//go:norace
//go:nosplit
func rawOpener(p *rawPlan) {
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.pidNS), unix.CLONE_NEWPID, 0); errno != 0 {
		rawFail(p, stepPID, errno)
	}
	p.clone = cloneArgs{flags: cloneClearSighand | unix.CLONE_PARENT}
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0)
	if errno != 0 {
		rawFail(p, stepPID, errno)
	}
	if pid == 0 {
		return
	}
	rawTell(p, messageGuardian, int32(pid), 0)
	rawExit(0)
}

//go:norace
//go:nosplit
func rawGuardian(p *rawPlan) {
	if _, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0); errno != 0 {
		rawFail(p, stepGuardian, errno)
	}
	p.guardian, _, _ = syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	// Without CONFIG_PROC_CHILDREN the command's group is all that can be killed.
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(p.proc), uintptr(unsafe.Pointer(&childrenFile)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		fd = ^uintptr(0)
	}
	p.children = fd
	p.mask = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGTERM-1)
	fd, _, errno = syscall.RawSyscall6(unix.SYS_SIGNALFD4, ^uintptr(0), uintptr(unsafe.Pointer(&p.mask)), 8, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK, 0, 0)
	if errno != 0 {
		rawFail(p, stepGuardian, errno)
	}
	p.signals = fd

	p.clone = cloneArgs{flags: cloneClearSighand, exitSignal: uint64(unix.SIGCHLD)}
	if p.cgroup >= 0 {
		p.clone.flags |= cloneIntoCgroup
		p.clone.cgroup = uint64(p.cgroup)
	}
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0)
	if errno != 0 {
		if p.cgroup >= 0 {
			rawFail(p, stepCgroup, errno)
		}
		rawFail(p, stepStart, errno)
	}
	if pid == 0 {
		rawCommand(p)
	}
	p.command = pid
	rawCloseOthers(p)
	rawGuard(p)
}

// rawCloseOthers lets go of every descriptor that the guardian does not need:
// it must not keep our process's lock, or the ends of another child's pipe.
//
//go:norace
//go:nosplit
func rawCloseOthers(p *rawPlan) {
	first := uintptr(0)
	for {
		next := ^uintptr(0) >> 32 // the highest number, as 32 bits
		for _, fd := range p.keepOpen {
			if fd >= first && fd < next {
				next = fd
			}
		}
		if p.children >= first && p.children < next {
			next = p.children
		}
		if p.signals >= first && p.signals < next {
			next = p.signals
		}
		if next == ^uintptr(0)>>32 {
			syscall.RawSyscall(unix.SYS_CLOSE_RANGE, first, next, 0)
			return
		}
		if next > first {
			syscall.RawSyscall(unix.SYS_CLOSE_RANGE, first, next-1, 0)
		}
		first = next + 1
	}
}

// rawGuard waits for the command's end or for ours.
//
//go:norace
//go:nosplit
func rawGuard(p *rawPlan) {
	ended := false
	for !p.exited && !ended {
		p.poll[0] = unix.PollFd{Fd: int32(p.self), Events: unix.POLLIN}
		p.poll[1] = unix.PollFd{Fd: int32(p.signals), Events: unix.POLLIN}
		syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p.poll)), 2, 0, 0, 0, 0)
		ended = p.poll[0].Revents != 0
		if rawTerminated(p) {
			ended = true
		}
		rawReap(p)
	}
	switch {
	case !p.keep:
		rawKillAll(p)
	case !p.exited:
		// Kill its group: it has one of its own unless it was started in ours.
		if p.session {
			syscall.RawSyscall(unix.SYS_KILL, -p.command, uintptr(unix.SIGKILL), 0)
		}
		syscall.RawSyscall(unix.SYS_KILL, p.command, uintptr(unix.SIGKILL), 0)
		for !p.exited {
			if rawWait(p, 0) == 0 {
				break
			}
		}
	}
	if p.exited {
		rawTell(p, messageExited, p.state, 0)
	}
	rawExit(0)
}

// rawTerminated empties the signalfd and says whether SIGTERM was in it.
//
//go:norace
//go:nosplit
func rawTerminated(p *rawPlan) bool {
	terminated := false
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, p.signals, uintptr(unsafe.Pointer(&p.buffer)), 128)
		if errno != 0 || n != 128 { // struct signalfd_siginfo
			return terminated
		}
		// ssi_signo comes first; below 256 it is in its low byte.
		if p.buffer[0] == byte(unix.SIGTERM) || p.buffer[3] == byte(unix.SIGTERM) {
			terminated = true
		}
	}
}

// rawWait reaps one child and notes the command's end; it returns its id, or 0
// when none has ended or none is left.
//
//go:norace
//go:nosplit
func rawWait(p *rawPlan, flags uintptr) uintptr {
	state := int32(0)
	for {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&state)), flags|unix.WALL, 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || pid == 0 {
			return 0
		}
		if pid == p.command {
			p.exited = true
			p.state = state
		}
		return pid
	}
}

//go:norace
//go:nosplit
func rawReap(p *rawPlan) {
	for rawWait(p, unix.WNOHANG) != 0 {
	}
}

// rawKillAll kills every child and reaps it, until there is none. The children
// of one that died become ours, as we are a subreaper. It gives up on one that
// the kernel holds (state D) after some seconds.
//
//go:norace
//go:nosplit
func rawKillAll(p *rawPlan) {
	for range 200 {
		if p.children == ^uintptr(0) {
			syscall.RawSyscall(unix.SYS_KILL, -p.command, uintptr(unix.SIGKILL), 0)
			syscall.RawSyscall(unix.SYS_KILL, p.command, uintptr(unix.SIGKILL), 0)
		} else {
			rawKillListed(p)
		}
		rawReap(p)
		_, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, unix.WALL|unix.WNOHANG, 0, 0, 0)
		if errno == unix.ECHILD {
			return
		}
		p.poll[0] = unix.PollFd{Fd: int32(p.signals), Events: unix.POLLIN}
		p.timeout = unix.Timespec{Nsec: 50_000_000}
		syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p.poll)), 1, uintptr(unsafe.Pointer(&p.timeout)), 0, 0, 0)
		rawTerminated(p)
	}
}

// rawKillListed kills the children that /proc lists. Its numbers are those of
// our /proc's pid namespace, which kill(2) would take for others; a directory of
// /proc stands for its process as a pidfd does (pidfd_send_signal(2)).
//
//go:norace
//go:nosplit
func rawKillListed(p *rawPlan) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, p.children, uintptr(unsafe.Pointer(&p.buffer)), unsafe.Sizeof(p.buffer)-1, 0, 0, 0)
	if errno != 0 || n >= unsafe.Sizeof(p.buffer) {
		return
	}
	start := uintptr(0)
	for i := range p.buffer {
		if uintptr(i) >= n {
			return // a number that is cut off is for the next time
		}
		if p.buffer[i] != ' ' {
			continue
		}
		p.buffer[i] = 0
		name := uintptr(unsafe.Pointer(&p.buffer)) + start
		start = uintptr(i) + 1
		fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(p.proc), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			syscall.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, fd, uintptr(unix.SIGKILL), 0, 0, 0, 0)
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
	}
}

// rawCommand becomes the command. The order matters:
//
//   - the user namespace comes last of the namespaces: the others may belong to
//     the one above it (with PrivateUsers= they do), where we have no rights any
//     more once we have joined;
//   - groups and ids are set before it, as we know them here: in it setgroups may
//     be denied, and an id that it does not map could not be named;
//   - the capabilities come after it, for joining it sets them all; those of the
//     service are meant in it.
//
// As a user that is not root here, and until execve, nobody but root may trace
// us (PR_SET_DUMPABLE in prctl(2)): the service cannot reach our descriptors.
//
//go:norace
//go:nosplit
func rawCommand(p *rawPlan) {
	for _, fd := range p.procs {
		_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&zero)), 1)
		rawCheck(p, stepCgroup, errno)
	}
	if p.session {
		syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	}
	for i := range p.namespaces {
		_, _, errno := syscall.RawSyscall(unix.SYS_SETNS, p.namespaces[i].fd, p.namespaces[i].kind, 0)
		if errno != 0 {
			rawTell(p, messageFailed, int32(stepNamespace), int32(errno)|int32(i)<<16)
			rawExit(255)
		}
	}
	rawEnterRoot(p)
	_, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&p.nofile)), 0, 0, 0)
	rawCheck(p, stepLimit, errno)
	syscall.RawSyscall(unix.SYS_UMASK, p.umask, 0, 0)
	rawBecome(p)
	rawConfine(p)
	rawExecute(p)
}

//go:norace
//go:nosplit
func rawEnterRoot(p *rawPlan) {
	var errno syscall.Errno
	switch {
	case p.root >= 0:
		_, _, errno = syscall.RawSyscall(unix.SYS_FCHDIR, uintptr(p.root), 0, 0)
	case p.rootPath != 0:
		_, _, errno = syscall.RawSyscall(unix.SYS_CHDIR, p.rootPath, 0, 0)
	default:
		return // where setns(2) has put us
	}
	rawCheck(p, stepRoot, errno)
	_, _, errno = syscall.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dotPath)), 0, 0)
	rawCheck(p, stepRoot, errno)
	_, _, errno = syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(&slashPath)), 0, 0)
	rawCheck(p, stepRoot, errno)
}

// rawBecome sets groups and ids, keeps the capabilities meanwhile, and joins the
// user namespace.
//
//go:norace
//go:nosplit
func rawBecome(p *rawPlan) {
	_, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, p.groupCount, p.groups, 0)
	rawCheck(p, stepGroups, errno)
	_, _, errno = syscall.RawSyscall(unix.SYS_SETRESGID, p.gid[0], p.gid[1], p.gid[2])
	rawCheck(p, stepIDs, errno)
	_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0, 0)
	rawCheck(p, stepIDs, errno)
	_, _, errno = syscall.RawSyscall(unix.SYS_SETRESUID, p.uid[0], p.uid[1], p.uid[2])
	rawCheck(p, stepIDs, errno)
	if p.userNS < 0 {
		return
	}
	// setresuid has emptied the effective set, which setns needs.
	rawCheck(p, stepIDs, rawRaise(p, false))
	_, _, errno = syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.userNS), unix.CLONE_NEWUSER, 0)
	rawCheck(p, stepUser, errno)
}

// rawRaise makes everything effective that is permitted, and sets the
// inheritable set if asked to.
//
//go:norace
//go:nosplit
func rawRaise(p *rawPlan, inherit bool) syscall.Errno {
	p.capHeader = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := syscall.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&p.capHeader)), uintptr(unsafe.Pointer(&p.capData)), 0)
	if errno != 0 {
		return errno
	}
	p.capData[0].Effective = p.capData[0].Permitted
	p.capData[1].Effective = p.capData[1].Permitted
	if inherit {
		p.capData[0].Inheritable = uint32(p.inheritable)
		p.capData[1].Inheritable = uint32(p.inheritable >> 32)
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&p.capHeader)), uintptr(unsafe.Pointer(&p.capData)), 0)
	return errno
}

// rawConfine goes down to the capabilities of the service. The inheritable set
// is first, for one that is not in the bounding set could not be added later.
//
//go:norace
//go:nosplit
func rawConfine(p *rawPlan) {
	rawCheck(p, stepCapabilities, rawRaise(p, true))
	for n := range uintptr(64) {
		var errno syscall.Errno
		have := uintptr(1)
		if p.bounding>>n&1 == 0 {
			_, _, errno = syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0)
		} else {
			have, _, errno = syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, n, 0)
		}
		if errno == unix.EINVAL {
			break // beyond the kernel's last one
		}
		if errno == 0 && have == 0 {
			errno = unix.EPERM // the service may what we may not
		}
		rawCheck(p, stepBounding, errno)
	}
	p.capData = [2]unix.CapUserData{
		{Effective: uint32(p.effective), Permitted: uint32(p.permitted), Inheritable: uint32(p.inheritable)},
		{Effective: uint32(p.effective >> 32), Permitted: uint32(p.permitted >> 32), Inheritable: uint32(p.inheritable >> 32)},
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&p.capHeader)), uintptr(unsafe.Pointer(&p.capData)), 0)
	rawCheck(p, stepCapabilities, errno)
	_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	rawCheck(p, stepAmbient, errno)
	for n := range uintptr(64) {
		if p.ambient>>n&1 == 0 {
			continue
		}
		_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0, 0)
		rawCheck(p, stepAmbient, errno)
	}
	if p.noNewPrivs {
		_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
		rawCheck(p, stepNoNewPrivs, errno)
	}
}

// rawExecute makes sure that the command ends with the guardian, and executes.
//
//go:norace
//go:nosplit
func rawExecute(p *rawPlan) {
	// A change of credentials clears it, so it comes after the last one.
	_, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	rawCheck(p, stepParent, errno)
	parent, _, _ := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	if parent != p.guardian {
		rawExit(255)
	}
	for n := range p.stdio {
		_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, p.stdio[n], uintptr(n), 0)
		rawCheck(p, stepStdio, errno)
	}
	if p.directory != 0 {
		_, _, errno = syscall.RawSyscall(unix.SYS_CHDIR, p.directory, 0, 0)
		rawCheck(p, stepDirectory, errno)
	}
	// Nothing that our own caller left open goes to the service.
	_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 3, ^uintptr(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
	rawCheck(p, stepStdio, errno)
	p.mask = 0
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.mask)), 0, 8, 0, 0)
	failure := syscall.Errno(unix.ENOENT)
	for _, path := range p.paths {
		_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, path, p.argv, p.env)
		if errno == unix.ENOENT || errno == unix.ENOTDIR {
			continue
		}
		failure = errno
		if errno != unix.EACCES { // as execvp(3) has it
			break
		}
	}
	rawFail(p, stepExec, failure)
}

//go:norace
//go:nosplit
func rawCheck(p *rawPlan, step rawStep, errno syscall.Errno) {
	if errno != 0 {
		rawFail(p, step, errno)
	}
}

//go:norace
//go:nosplit
func rawFail(p *rawPlan, step rawStep, errno syscall.Errno) {
	rawTell(p, messageFailed, int32(step), int32(errno))
	rawExit(255)
}

//go:norace
//go:nosplit
func rawTell(p *rawPlan, kind, a, b int32) {
	p.message = rawMessage{kind, a, b}
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.status), uintptr(unsafe.Pointer(&p.message)), rawMessageSize)
}

//go:norace
//go:nosplit
func rawExit(code uintptr) {
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}
