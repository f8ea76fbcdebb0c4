package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/service/credential"
	"golang.org/x/sys/unix"
)

// A setup is everything that one child needs, in its parent.
type setup struct {
	plan  rawPlan
	what  *becoming  // what plan.calls is made from
	files []*os.File // open until the child has ended
	once  []*os.File // open until it has been started
	pins  runtime.Pinner

	userNS identity // the place's user namespace, as it was when we joined it

	status *os.File // what the child tells
	output *os.File // what the command writes; nil where nothing is captured
	limit  int
}

func (s *setup) close() {
	s.closeForChild()
	for _, f := range s.files {
		f.Close()
	}
	s.pins.Unpin()
}

// closeForChild closes what the child alone goes on with.
func (s *setup) closeForChild() {
	for _, f := range s.once {
		f.Close()
	}
	s.once = nil
}

// lend registers a file for the child and returns its number, which stays valid
// until the child has been started.
func (s *setup) lend(f *os.File) uintptr {
	s.once = append(s.once, f)
	return f.Fd()
}

// prepare looks at the place and opens all that the child needs of it. It runs
// on the thread that the child will be made from.
func prepare(ctx context.Context, in Place, c Command) (*setup, error) {
	s := &setup{limit: c.OutputLimit, what: &becoming{userNS: -1, root: -1}}
	s.plan.pidNS, s.plan.cgroup = -1, -1
	if s.limit <= 0 {
		s.limit = defaultOutputLimit
	}
	steps := []func() error{
		func() error { return s.check(in, c) },
		func() error { return s.handles() },
		func() error { return s.joinNamespaces(in) },
		func() error { return s.enterRoot(ctx, in) },
		func() error { return s.enterCgroup(in.Process) },
		func() error { return s.become(in, c) },
		func() error { return s.stdio(c) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			s.close()
			return nil, err
		}
	}
	s.plan.session, s.plan.keep = !c.Foreground, c.KeepRest
	s.what.session = s.plan.session
	s.plan.calls = s.what.list(&s.pins)
	return s, nil
}

func (s *setup) check(in Place, c Command) error {
	switch {
	case len(c.Argv) == 0 || c.Argv[0] == "":
		return failed("execute", exitExec, errors.New("the command is empty"))
	case in.Process == nil:
		return failed("find the place", exitFork, errors.New("no process is given"))
	case !in.Process.Alive():
		return failed("find the place", exitNamespace, ErrGone)
	}
	return nil
}

// handles opens what the guardian keeps.
func (s *setup) handles() error {
	read, write, err := pipe()
	if err != nil {
		return failed("start", exitFork, err)
	}
	s.status = read
	s.files = append(s.files, read)
	s.plan.status = int(s.lend(write))
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return failed("start", exitFork, fmt.Errorf("pidfd_open: %w", err))
	}
	s.plan.self = int(s.lend(os.NewFile(uintptr(self), "pidfd:self")))
	proc, err := os.OpenFile("/proc", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return failed("start", exitFork, err)
	}
	s.plan.proc = int(s.lend(proc))
	s.plan.keepOpen = []uintptr{uintptr(s.plan.status), uintptr(s.plan.self), uintptr(s.plan.proc)}
	return nil
}

// joinOrder leaves out the pid and the user namespace, which are joined before
// and after all others (rawchild.go).
var joinOrder = []Kind{Time, Net, IPC, UTS, Cgroup, Mount}

func (s *setup) joinNamespaces(in Place) error {
	var err error
	if s.userNS, err = in.Process.identify(User); err != nil && !errors.Is(err, unix.ENOENT) {
		return failed("find the user namespace", exitNamespace, err)
	}
	for _, kind := range joinOrder {
		f, err := s.foreign(in, kind)
		if err != nil {
			return err
		}
		if f != nil {
			s.what.namespaces = append(s.what.namespaces, rawNamespace{fd: s.lend(f), kind: rawKinds[kind]})
		}
	}
	for kind, fd := range map[Kind]*int{PID: &s.plan.pidNS, User: &s.what.userNS} {
		f, err := s.foreign(in, kind)
		if err != nil {
			return err
		}
		if f != nil {
			*fd = int(s.lend(f))
		}
	}
	return nil
}

// foreign opens a namespace of the place, nil if this thread is in it already:
// to join one's own user namespace is an error.
func (s *setup) foreign(in Place, kind Kind) (*os.File, error) {
	step := fmt.Sprintf("find the %s namespace", kind)
	if kind == Mount && in.Mount != nil {
		return duplicate(in.Mount)
	}
	mine, err := threadNamespace(kind)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // a kernel without this kind: nobody has one
	}
	if err != nil {
		return nil, failed(step, exitNamespace, err)
	}
	theirs, err := in.Process.identify(kind)
	if err != nil {
		return nil, failed(step, exitNamespace, err)
	}
	if mine == theirs {
		return nil, nil
	}
	f, err := in.Process.open("ns/"+string(kind), unix.O_RDONLY)
	if err != nil {
		return nil, failed(step, exitNamespace, err)
	}
	return f, nil
}

// enterRoot opens the process's root. The root of one mount namespace means
// nothing in another: in a copy, it is found again by its path. The service can put
// what it likes there meanwhile, so the child, which is still root, must not follow it:
// a link to /proc/1/root would lead out of the namespace.
func (s *setup) enterRoot(ctx context.Context, in Place) error {
	const step = "find the root"
	if in.Mount == nil {
		root, err := in.Process.open("root", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return failed(step, exitNamespace, err)
		}
		s.what.root = int(s.lend(root))
		return nil
	}
	path, err := in.Process.readlink("root")
	if err != nil {
		return failed(step, exitNamespace, err)
	}
	if path == "/" {
		return nil // setns(2) goes to the root of the namespace
	}
	root, err := openIn(ctx, in.Mount, path)
	if err != nil {
		return failed(step, exitNamespace, err)
	}
	s.what.root = int(s.lend(root))
	return nil
}

// openIn opens a directory of a mount namespace, and nothing outside of it.
func openIn(ctx context.Context, mount *os.File, path string) (*os.File, error) {
	there, err := nsmount.Enter(mount)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	return nsmount.Do(ctx, there, func() (*os.File, error) { return nsmount.OpenInRoot(path, unix.O_PATH|unix.O_DIRECTORY) })
}

// enterCgroup opens the cgroups of the process that this one is not in. With
// version 2 the child is born into it; a move afterwards costs milliseconds.
func (s *setup) enterCgroup(p *Process) error {
	const step = "find the cgroup"
	theirs, err := p.cgroups()
	if err != nil {
		return failed(step, exitCgroup, err)
	}
	text, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return failed(step, exitCgroup, err)
	}
	mine := parseCgroups(text)
	for _, line := range theirs {
		if slices.Contains(mine, line) {
			continue
		}
		dir, err := line.directory()
		if err != nil {
			return failed(step, exitCgroup, err)
		}
		if line.controllers == "" {
			s.plan.cgroup = int(s.lend(dir))
			continue
		}
		procs, err := openAt(dir, "cgroup.procs", unix.O_WRONLY)
		dir.Close()
		if err != nil {
			return failed(step, exitCgroup, err)
		}
		s.what.procs = append(s.what.procs, s.lend(procs))
	}
	return nil
}

// credentials reads who the process is, in the user namespace that the command will be
// in. One that goes into a new one has all capabilities there, and in none above it.
func (s *setup) credentials(p *Process) (credential.Status, error) {
	status, err := p.Status()
	if err != nil {
		return status, err
	}
	// It can leave a user namespace, but not come back.
	now, err := p.identify(User)
	switch {
	case errors.Is(err, unix.ENOENT):
		return status, nil // a kernel without them
	case err != nil:
		return status, err
	case now != s.userNS:
		return status, errors.New("it is just going into another user namespace: try again")
	}
	return status, nil
}

// borrowed says that somebody else's rights are those of the program alone: one that is
// setuid or setgid has been executed, and does only what it was made for.
func borrowed(c *credential.Credential) bool {
	return c.UID != 0 && (c.EUID != c.UID || c.SUID != c.UID || c.EGID != c.GID || c.SGID != c.GID)
}

// become fills in who the command is and what it is executed with.
func (s *setup) become(in Place, c Command) error {
	const step = "read the credentials"
	status, err := s.credentials(in.Process)
	if err != nil {
		return failed(step, exitUser, err)
	}
	who := status.Credential
	if in.Credential != nil {
		who = *in.Credential
	} else if s.what.userNS < 0 && borrowed(&who) {
		return failed(step, exitUser, errors.New("it executes a setuid or setgid program, whose rights are not the service's: try again when that has ended"))
	}
	who.Groups = slices.Clone(who.Groups)
	s.what.who, s.what.umask = who, status.Umask
	if err := s.capabilities(); err != nil {
		return failed("read our own capabilities", exitCapabilities, err)
	}
	if err := s.openFiles(in.Process); err != nil {
		return failed("read the limits", exitLimits, err)
	}
	env := in.Environ
	if env == nil {
		if env, err = in.Process.Environ(); err != nil {
			return failed("read the environment", exitExec, err)
		}
	}
	pid := in.Process.PID()
	if n := len(status.PIDs); n > 0 {
		pid = status.PIDs[n-1] // as the command's pid namespace sees it
	}
	return s.image(environment(env, pid, c.Env), c)
}

// capabilities finds out what this thread may, and what there is.
func (s *setup) capabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	s.what.permitted = credential.CapSet(data[0].Permitted) | credential.CapSet(data[1].Permitted)<<32
	for n := range 64 {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err != nil {
			break // EINVAL: beyond the last one
		}
		s.what.lastCap = n
	}
	return nil
}

// openFiles takes over the process's soft limit of open files: the Go runtime
// has raised our own, and programs that use select(2) must not see that. The
// file is read because prlimit(2) would ask for CAP_SYS_RESOURCE; so would a
// limit above our hard one.
func (s *setup) openFiles(p *Process) error {
	text, err := p.read("limits", 1<<16)
	if err != nil {
		return err
	}
	soft, hard, err := parseOpenFiles(text)
	if err != nil {
		return err
	}
	var mine unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &mine); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	hard = min(mine.Max, hard)
	s.what.nofile = [2]uint64{min(soft, hard), hard}
	return nil
}

// image prepares what execve needs.
func (s *setup) image(env []string, c Command) error {
	var err error
	if s.what.argv, err = s.cStrings(c.Argv); err != nil {
		return failed("execute", exitExec, err)
	}
	if s.what.env, err = s.cStrings(env); err != nil {
		return failed("execute", exitExec, err)
	}
	for _, path := range candidates(c.Argv[0], env) {
		p, err := s.cString(path)
		if err != nil {
			return failed("execute", exitExec, err)
		}
		s.what.paths = append(s.what.paths, p)
	}
	if s.what.directory, err = s.cString(c.directory()); err != nil {
		return failed("enter the working directory", exitChdir, err)
	}
	return nil
}

// stdio opens the three descriptors of the command.
func (s *setup) stdio(c Command) error {
	const step = "set up standard input and output"
	in, out, errs := c.Stdin, c.Stdout, c.Stderr
	if in == nil {
		null, err := os.Open("/dev/null")
		if err != nil {
			return failed(step, exitStdio, err)
		}
		s.once = append(s.once, null)
		in = null
	}
	if out == nil || errs == nil {
		read, write, err := pipe()
		if err != nil {
			return failed(step, exitStdio, err)
		}
		s.output = read
		s.files = append(s.files, read)
		s.once = append(s.once, write)
		if out == nil {
			out = write
		}
		if errs == nil {
			errs = write
		}
	}
	for i, f := range []*os.File{in, out, errs} {
		f.Fd() // as os/exec: makes it blocking, which a command expects
		d, err := duplicate(f)
		if err != nil {
			return failed(step, exitStdio, err)
		}
		s.what.stdio[i] = s.lend(d)
	}
	return nil
}

// pipe makes a pipe that is read without waiting and written to with waiting:
// os.Pipe would make both ends non-blocking, and the command would see that.
func pipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	write = os.NewFile(uintptr(fds[1]), "|1")
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, nil, errors.Join(os.NewSyscallError("fcntl", err), write.Close())
	}
	return os.NewFile(uintptr(fds[0]), "|0"), write, nil
}

// duplicate makes a close-on-exec copy with a number above 2, so that dup3 in
// the child takes nothing away.
func duplicate(f *os.File) (*os.File, error) {
	var fd int
	var err error
	if e := control(f, func(old int) { fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 3) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	var fd int
	var err error
	if e := control(dir, func(d int) { fd, err = unix.Openat(d, name, flags|unix.O_CLOEXEC, 0) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
}

// cString pins a string for the child and returns its address.
func (s *setup) cString(text string) (uintptr, error) {
	b, err := unix.BytePtrFromString(text)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", text, err)
	}
	s.pins.Pin(b)
	return uintptr(unsafe.Pointer(b)), nil
}

// cStrings pins an array of strings that ends with a null.
func (s *setup) cStrings(texts []string) (uintptr, error) {
	array := make([]uintptr, len(texts)+1)
	for i, text := range texts {
		p, err := s.cString(text)
		if err != nil {
			return 0, err
		}
		array[i] = p
	}
	s.pins.Pin(&array[0])
	return uintptr(unsafe.Pointer(&array[0])), nil
}
