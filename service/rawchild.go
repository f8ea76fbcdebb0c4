package service

import (
	"runtime"
	"syscall"
	"unsafe"

	"github.com/extexec/extexec/service/credential"
	"golang.org/x/sys/unix"
)

// This file is the part of Run that happens in the child. The child is made
// from a process of many threads, of which it has one, and which may have held
// any lock of the Go runtime: until execve there is no Go runtime in it. So
// what the child has to do is written down by the parent as a list of system
// calls, whose arguments are numbers, and pointers that have become numbers.
// What runs in the child is functions that
//
//   - do not allocate, do not grow the stack (nosplit), store no pointer (a
//     write barrier could call the collector), and call nothing but each other
//     and raw system calls (RawSyscall6 alone: RawSyscall is one more frame on
//     the 800 bytes of stack that nosplit allows);
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
	stepStart rawStep = iota
	stepGuardian
	stepPID
	stepCgroup
	stepNamespace // the message has the kind, too
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
	messageFailed   int32 = iota + 1 // step, kind of namespace, errno
	messageGuardian                  // process id of the guardian
	messageExited                    // wait status of the command
)

type rawMessage struct {
	kind, a, b, c int32
}

const rawMessageSize = 16

// A rawCall is one system call of the command, and what must come of it.
type rawCall struct {
	number uintptr
	args   [6]uintptr
	step   rawStep
	kind   int32 // of namespace, for stepNamespace
	expect rawExpect
}

type rawExpect int32

const (
	expectSuccess  rawExpect = iota
	expectAnything           // it does not matter
	expectKnown              // EINVAL is fine: a capability that this kernel does not have
	expectSet                // a result other than 0
	expectGuardian           // the guardian's process id, else nobody waits for us
	expectNever              // execve: the next one if there is no such file
)

// A rawPlan is all that the child needs. Descriptors are -1 for none; all are
// above 2 and close-on-exec.
type rawPlan struct {
	status int // write end of the status pipe
	self   int // pidfd of our own process
	proc   int // our /proc
	pidNS  int
	cgroup int // directory of a cgroup of version 2

	calls   []rawCall
	session bool // the command has a session and a group of its own
	keep    bool // what outlives the command, and has left its group, may stay

	keepOpen []uintptr // what the guardian needs; see rawCloseOthers

	// What the child notes down for itself.
	clone    cloneArgs
	guardian uintptr // its process id as it and the command see it
	command  uintptr
	state    int32 // wait status of the command
	exited   bool
	children uintptr // descriptor of the list of our children
	signals  uintptr // signalfd
	mask     uint64
	poll     [2]unix.PollFd
	timeout  unix.Timespec
	message  rawMessage
	buffer   [4096]byte
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
	noSignals    uint64
)

// A becoming is what turns the child into the command, as the parent has found
// it. Descriptors are -1 for none; uintptrs are addresses of C strings and
// arrays that are pinned.
type becoming struct {
	procs      []uintptr // cgroup.procs files of version 1
	namespaces []rawNamespace
	userNS     int
	root       int // O_PATH of the root
	session    bool
	nofile     [2]uint64 // struct rlimit64
	umask      uint32
	who        credential.Credential
	stdio      [3]uintptr
	directory  uintptr
	argv, env  uintptr
	paths      []uintptr // candidates to execute, in turn

	permitted credential.CapSet // what this thread may
	lastCap   int               // the kernel's last capability
}

// A rawNamespace is one of the other namespaces, in the order to join them.
type rawNamespace struct {
	fd   uintptr
	kind uintptr // CLONE_NEWNS and so on
}

// A callList writes the calls down.
type callList struct {
	calls []rawCall
	pins  *runtime.Pinner
}

func (l *callList) add(step rawStep, expect rawExpect, number uintptr, args ...uintptr) {
	c := rawCall{number: number, step: step, expect: expect}
	copy(c.args[:], args)
	l.calls = append(l.calls, c)
}

// capset sets the three sets of the thread.
func (l *callList) capset(step rawStep, effective, permitted, inheritable credential.CapSet) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted), Inheritable: uint32(inheritable)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32), Inheritable: uint32(inheritable >> 32)},
	}
	l.pins.Pin(header)
	l.pins.Pin(data)
	l.add(step, expectSuccess, unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)))
}

// list writes down all that the command does. The order matters:
//
//   - the user namespace comes last of the namespaces: the others may belong to
//     the one above it (with PrivateUsers= they do), where we have no rights any
//     more once we have joined;
//   - groups and ids are set before it, as we know them here: in it setgroups may
//     be denied, and an id that it does not map could not be named;
//   - the capabilities come after it, for joining it sets them all; those of the
//     service are meant in it.
//
// Until execve nobody but root with CAP_SYS_PTRACE may trace the child: the service,
// whose ids and capabilities it comes to have, cannot reach our descriptors.
func (b *becoming) list(pins *runtime.Pinner) []rawCall {
	pins.Pin(b)
	l := &callList{pins: pins}
	b.join(l)
	b.become(l)
	b.confine(l)
	b.execute(l)
	return l.calls
}

func (b *becoming) join(l *callList) {
	// Of the child's own memory; execve gives it back. A change of ids would do it, too,
	// but to stay root is none.
	l.add(stepStart, expectSuccess, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	for _, fd := range b.procs {
		l.add(stepCgroup, expectSuccess, unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&zero)), 1)
	}
	if b.session {
		l.add(stepStart, expectSuccess, unix.SYS_SETSID)
	}
	for _, n := range b.namespaces {
		l.add(stepNamespace, expectSuccess, unix.SYS_SETNS, n.fd, n.kind)
		l.calls[len(l.calls)-1].kind = int32(n.kind)
	}
	if b.root < 0 {
		return // where setns(2) has put us
	}
	l.add(stepRoot, expectSuccess, unix.SYS_FCHDIR, uintptr(b.root))
	l.add(stepRoot, expectSuccess, unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dotPath)))
	l.add(stepRoot, expectSuccess, unix.SYS_CHDIR, uintptr(unsafe.Pointer(&slashPath)))
}

// become sets groups and ids, keeps the capabilities meanwhile, and joins the
// user namespace.
func (b *becoming) become(l *callList) {
	l.add(stepLimit, expectSuccess, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&b.nofile)))
	l.add(stepStart, expectAnything, unix.SYS_UMASK, uintptr(b.umask))
	var groups uintptr
	if len(b.who.Groups) > 0 {
		l.pins.Pin(&b.who.Groups[0])
		groups = uintptr(unsafe.Pointer(&b.who.Groups[0]))
	}
	l.add(stepGroups, expectSuccess, unix.SYS_SETGROUPS, uintptr(len(b.who.Groups)), groups)
	l.add(stepIDs, expectSuccess, unix.SYS_SETRESGID, uintptr(b.who.GID), uintptr(b.who.EGID), uintptr(b.who.SGID))
	l.add(stepIDs, expectSuccess, unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	l.add(stepIDs, expectSuccess, unix.SYS_SETRESUID, uintptr(b.who.UID), uintptr(b.who.EUID), uintptr(b.who.SUID))
	if b.userNS < 0 {
		return
	}
	// setresuid has emptied the effective set, which setns needs.
	l.capset(stepIDs, b.permitted, b.permitted, 0)
	l.add(stepUser, expectSuccess, unix.SYS_SETNS, uintptr(b.userNS), unix.CLONE_NEWUSER)
	b.permitted = 1<<(b.lastCap+1) - 1 // user_namespaces(7)
}

// confine goes down to the capabilities of the service. The inheritable set is
// first, for one that is not in the bounding set could not be added later.
func (b *becoming) confine(l *callList) {
	l.capset(stepCapabilities, b.permitted, b.permitted, b.who.Inheritable)
	for n := range 64 {
		if b.who.Bounding.Has(n) {
			// The service must not have what we have not.
			l.add(stepBounding, expectSet, unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(n))
		} else if n <= b.lastCap {
			l.add(stepBounding, expectKnown, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n))
		}
	}
	l.capset(stepCapabilities, b.who.Effective, b.who.Permitted, b.who.Inheritable)
	l.add(stepAmbient, expectSuccess, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for n := range 64 {
		if b.who.Ambient.Has(n) {
			l.add(stepAmbient, expectSuccess, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
	if b.who.NoNewPrivs {
		l.add(stepNoNewPrivs, expectSuccess, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
}

// execute makes sure that the command ends with the guardian, and executes.
func (b *becoming) execute(l *callList) {
	// A change of credentials clears it, so it comes after the last one.
	l.add(stepParent, expectSuccess, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	l.add(stepParent, expectGuardian, unix.SYS_GETPPID)
	for n, fd := range b.stdio {
		l.add(stepStdio, expectSuccess, unix.SYS_DUP3, fd, uintptr(n), 0)
	}
	l.add(stepDirectory, expectSuccess, unix.SYS_CHDIR, b.directory)
	// Nothing that our own caller left open goes to the service.
	l.add(stepStdio, expectSuccess, unix.SYS_CLOSE_RANGE, 3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC)
	l.add(stepStart, expectSuccess, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&noSignals)), 0, 8)
	for _, path := range b.paths {
		l.add(stepExec, expectNever, unix.SYS_EXECVE, path, b.argv, b.env)
	}
}

// rawStart makes the first child, opener or guardian, and returns its process
// id. The caller holds syscall.ForkLock.
//
//go:norace
//go:nosplit
func rawStart(p *rawPlan) (pid uintptr, errno syscall.Errno) {
	// The child starts with the default for every signal that Go handles: a
	// handler would run Go code.
	p.clone = cloneArgs{flags: cloneClearSighand}
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	// The calls stand side by side and not inside each other because of the
	// little stack that nosplit leaves.
	if p.pidNS >= 0 {
		rawOpener(p)
	}
	if rawGuardian(p) {
		rawCommand(p)
	}
	rawCloseOthers(p)
	rawGuard(p)
	if p.keep {
		rawKillGroup(p)
	} else {
		rawKillAll(p)
	}
	if p.exited {
		rawTell(p, messageExited, p.state, 0, 0)
	}
	rawExit(0)
	return 0, 0 // never
}

// rawOpener goes on as the guardian's elder brother, or as the guardian.
//
//go:norace
//go:nosplit
func rawOpener(p *rawPlan) {
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETNS, uintptr(p.pidNS), unix.CLONE_NEWPID, 0, 0, 0, 0)
	if errno != 0 {
		rawFail(p, stepPID, 0, errno)
	}
	p.clone = cloneArgs{flags: cloneClearSighand | unix.CLONE_PARENT}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0, 0, 0, 0)
	if errno != 0 {
		rawFail(p, stepPID, 0, errno)
	}
	if pid == 0 {
		return
	}
	rawTell(p, messageGuardian, int32(pid), 0, 0)
	rawExit(0)
}

// rawGuardian becomes the guardian and starts the command; in the child that is
// to be the command it returns true.
//
//go:norace
//go:nosplit
func rawGuardian(p *rawPlan) (command bool) {
	p.mask = ^uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.mask)), 0, 8, 0, 0)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0); errno != 0 {
		rawFail(p, stepGuardian, 0, errno)
	}
	p.guardian, _, _ = syscall.RawSyscall6(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0)
	// Without CONFIG_PROC_CHILDREN the command's group is all that can be killed.
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(p.proc), uintptr(unsafe.Pointer(&childrenFile)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		fd = ^uintptr(0)
	}
	p.children = fd
	p.mask = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGTERM-1)
	fd, _, errno = syscall.RawSyscall6(unix.SYS_SIGNALFD4, ^uintptr(0), uintptr(unsafe.Pointer(&p.mask)), 8, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK, 0, 0)
	if errno != 0 {
		rawFail(p, stepGuardian, 0, errno)
	}
	p.signals = fd

	p.clone = cloneArgs{flags: cloneClearSighand, exitSignal: uint64(unix.SIGCHLD)}
	if p.cgroup >= 0 {
		p.clone.flags |= cloneIntoCgroup
		p.clone.cgroup = uint64(p.cgroup)
	}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0, 0, 0, 0)
	if errno != 0 {
		if p.cgroup >= 0 {
			rawFail(p, stepCgroup, 0, errno)
		}
		rawFail(p, stepStart, 0, errno)
	}
	p.command = pid
	return pid == 0
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
			syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, first, next, 0, 0, 0, 0)
			return
		}
		if next > first {
			syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, first, next-1, 0, 0, 0, 0)
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
}

// killRounds bounds how often what does not end is killed, each time with a pause: what
// the kernel holds (state D), such as who waits for a FUSE server that has taken the
// request, ends by no signal.
const killRounds = 200

// rawKillGroup kills the command, unless it has ended, and its process group: it
// has one of its own unless it was started in ours. It gives up after some seconds.
//
//go:norace
//go:nosplit
func rawKillGroup(p *rawPlan) {
	for range killRounds {
		if p.exited {
			return
		}
		if p.session {
			syscall.RawSyscall6(unix.SYS_KILL, -p.command, uintptr(unix.SIGKILL), 0, 0, 0, 0)
		}
		syscall.RawSyscall6(unix.SYS_KILL, p.command, uintptr(unix.SIGKILL), 0, 0, 0, 0)
		rawReap(p)
		if !p.exited {
			rawPause(p)
		}
	}
}

// rawPause waits for a child's end, but not long.
//
//go:norace
//go:nosplit
func rawPause(p *rawPlan) {
	p.poll[0] = unix.PollFd{Fd: int32(p.signals), Events: unix.POLLIN}
	p.timeout = unix.Timespec{Nsec: 50_000_000}
	syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p.poll)), 1, uintptr(unsafe.Pointer(&p.timeout)), 0, 0, 0)
	rawTerminated(p)
	rawReap(p)
}

// rawTerminated empties the signalfd and says whether SIGTERM was in it.
//
//go:norace
//go:nosplit
func rawTerminated(p *rawPlan) bool {
	terminated := false
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_READ, p.signals, uintptr(unsafe.Pointer(&p.buffer)), 128, 0, 0, 0)
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
// of one that died become ours, as we are a subreaper. It gives up after some seconds.
//
//go:norace
//go:nosplit
func rawKillAll(p *rawPlan) {
	for range killRounds {
		if p.children == ^uintptr(0) {
			syscall.RawSyscall6(unix.SYS_KILL, -p.command, uintptr(unix.SIGKILL), 0, 0, 0, 0)
			syscall.RawSyscall6(unix.SYS_KILL, p.command, uintptr(unix.SIGKILL), 0, 0, 0, 0)
		} else {
			rawKillListed(p)
		}
		rawReap(p)
		_, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, unix.WALL|unix.WNOHANG, 0, 0, 0)
		if errno == unix.ECHILD {
			return
		}
		rawPause(p)
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
			syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		}
	}
}

// rawCommand makes the calls that turn the child into the command.
//
//go:norace
//go:nosplit
func rawCommand(p *rawPlan) {
	failure := unix.ENOENT
	for i := range p.calls {
		c := &p.calls[i]
		result, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		switch c.expect {
		case expectAnything:
			errno = 0
		case expectKnown:
			if errno == unix.EINVAL {
				errno = 0
			}
		case expectSet:
			if errno == unix.EINVAL || errno == 0 && result == 0 {
				errno = unix.EPERM
			}
		case expectGuardian:
			if result != p.guardian {
				rawExit(255)
			}
		case expectNever: // as execvp(3) has it
			if errno == unix.EACCES {
				failure = errno
			}
			if errno == unix.EACCES || errno == unix.ENOENT || errno == unix.ENOTDIR {
				errno = 0
			}
		}
		if errno != 0 {
			rawFail(p, c.step, c.kind, errno)
		}
	}
	rawFail(p, stepExec, 0, failure)
}

//go:norace
//go:nosplit
func rawFail(p *rawPlan, step rawStep, kind int32, errno syscall.Errno) {
	p.message = rawMessage{messageFailed, int32(step), kind, int32(errno)}
	for {
		syscall.RawSyscall6(unix.SYS_WRITE, uintptr(p.status), uintptr(unsafe.Pointer(&p.message)), rawMessageSize, 0, 0, 0)
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 255, 0, 0, 0, 0, 0)
	}
}

//go:norace
//go:nosplit
func rawTell(p *rawPlan, kind, a, b, c int32) {
	p.message = rawMessage{kind, a, b, c}
	syscall.RawSyscall6(unix.SYS_WRITE, uintptr(p.status), uintptr(unsafe.Pointer(&p.message)), rawMessageSize, 0, 0, 0)
}

//go:norace
//go:nosplit
func rawExit(code uintptr) {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0)
	}
}
