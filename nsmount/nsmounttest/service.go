package nsmounttest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Service is a child process with a mount namespace and a root of its own, as
// systemd would have set it up: "/" is a slave of the test's mounts and shared
// again below.
type Service struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	mu  sync.Mutex

	mayDie bool
}

// Options say what the service's namespace is like.
type Options struct {
	Root        string  // a directory that becomes its root; it gets a proc below
	Propagation uintptr // of "/"; MS_SHARED (also for 0), MS_PRIVATE or MS_SLAVE
	UserNS      bool    // in a user namespace of its own

	// Sandbox makes its root an empty tmpfs in which these directories are bound, as
	// bwrap(1) does.
	Sandbox []string
}

type request struct {
	Do   string
	Args []string
	Flag uintptr
}

type reply struct {
	Text  string
	Err   string
	Errno int
	Tally map[string]int
}

// Start starts a service that ends with the test.
func Start(t testing.TB, o Options) *Service {
	t.Helper()
	Root(t)
	cmd := exec.Command("/proc/self/exe")
	if o.Propagation == 0 {
		o.Propagation = unix.MS_SHARED
	}
	opts, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), envStage+"="+stageSvc, "NSMOUNTTEST_OPTIONS="+string(opts))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = o.attr()
	return StartCommand(t, cmd)
}

func (o Options) attr() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if o.UserNS {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}
		a.GidMappings = []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}
	}
	return a
}

// A Child is a process of the service in another mount namespace.
type Child struct {
	s   *Service
	id  int
	PID int
}

// Spawn starts a child of the service in a copy of its mount namespace: a peer of
// it where o has no propagation. It ends with the service.
func (s *Service) Spawn(o Options) *Child {
	s.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &Child{s: s}
	r := s.must(request{Do: "spawn", Args: []string{string(text)}})
	if _, err := fmt.Sscan(r.Text, &c.id, &c.PID); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// Read is [Service.Read] in the child.
func (c *Child) Read(path string) string {
	c.s.t.Helper()
	r, err := c.s.ask(request{Do: "child", Args: []string{fmt.Sprint(c.id), "read", path}})
	if err != nil {
		return "error: " + err.Error()
	}
	return r.Text
}

// Mount is [Service.Mount] in the child.
func (c *Child) Mount(source, target, fsType string, flags uintptr, data string) {
	c.s.t.Helper()
	c.s.must(request{Do: "child", Args: []string{fmt.Sprint(c.id), "mount", source, target, fsType, data}, Flag: flags})
}

// Hammer is [Service.Hammer] in the child.
func (c *Child) Hammer(paths ...string) {
	c.s.t.Helper()
	c.s.must(request{Do: "child", Args: append([]string{fmt.Sprint(c.id), "hammer"}, paths...)})
}

// Tally is [Service.Tally] of the child.
func (c *Child) Tally() map[string]int {
	c.s.t.Helper()
	return c.s.must(request{Do: "child", Args: []string{fmt.Sprint(c.id), "tally"}}).Tally
}

// MountNS is [Service.MountNS] of the child.
func (c *Child) MountNS() *os.File {
	c.s.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", c.PID))
	if err != nil {
		c.s.t.Fatal(err)
	}
	c.s.t.Cleanup(func() { _ = f.Close() })
	return f
}

// Stop ends the child.
func (c *Child) Stop() {
	c.s.t.Helper()
	c.s.must(request{Do: "reap", Args: []string{fmt.Sprint(c.id)}})
}

// spawn is the service's side of [Service.Spawn].
func (w *worker) spawn(options string) (string, error) {
	var o Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return "", err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envStage+"="+stageSvc, "NSMOUNTTEST_OPTIONS="+options)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = o.attr()
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	s := &Service{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if line, err := s.out.ReadString('\n'); err != nil || line != "ready\n" {
		return "", fmt.Errorf("child did not start: %q, %w", line, err)
	}
	w.children = append(w.children, s)
	return fmt.Sprint(len(w.children)-1, " ", s.PID()), nil
}

// child is a child by its number.
func (w *worker) child(number string) *Service {
	n, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	return w.children[n]
}

func (s *Service) reap() error {
	_ = s.in.Close()
	return s.cmd.Wait()
}

// Environment makes a test binary, executed with it, serve as a service in the
// namespace that it is in.
func Environment() []string {
	return []string{envStage + "=" + stageSvc, "NSMOUNTTEST_OPTIONS={\"Propagation\":0}"}
}

// StartCommand starts a command that in the end executes the test binary with
// [Environment] in its own process.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Service {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &Service{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(s.Stop)
	if line, err := s.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("service did not start: %q, %v", line, err)
	}
	return s
}

// Stop ends the service. It is called at the end of the test, and may be before.
func (s *Service) Stop() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.in.Close()
	if err := s.cmd.Wait(); err != nil && !s.mayDie {
		s.t.Errorf("service ended with %v", err)
	}
}

// MayDie has Stop say nothing of a service that did not end by itself.
func (s *Service) MayDie() { s.mayDie = true }

// PID is the service's process id.
func (s *Service) PID() int { return s.cmd.Process.Pid }

// MountNS opens the service's mount namespace.
func (s *Service) MountNS() *os.File {
	s.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = f.Close() })
	return f
}

func (s *Service) ask(q request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(q)
	if err != nil {
		return reply{}, err
	}
	if _, err := s.in.Write(append(b, '\n')); err != nil {
		return reply{}, err
	}
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		return reply{}, err
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return reply{}, err
	}
	if r.Err != "" {
		if r.Errno != 0 {
			return r, fmt.Errorf("%s: %w", r.Err, syscall.Errno(r.Errno))
		}
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (s *Service) must(q request) reply {
	s.t.Helper()
	r, err := s.ask(q)
	if err != nil {
		s.t.Fatalf("service: %s %q: %v", q.Do, q.Args, err)
	}
	return r
}

// Read gives a file's content as the service sees it, or its error's text.
func (s *Service) Read(path string) string {
	s.t.Helper()
	r, err := s.ask(request{Do: "read", Args: []string{path}})
	if err != nil {
		return "error: " + err.Error()
	}
	return r.Text
}

// Mount mounts in the service's namespace, as mount(2).
func (s *Service) Mount(source, target, fsType string, flags uintptr, data string) {
	s.t.Helper()
	s.must(request{Do: "mount", Args: []string{source, target, fsType, data}, Flag: flags})
}

// TryMount is [Service.Mount] where that may be refused.
func (s *Service) TryMount(source, target, fsType string, flags uintptr, data string) error {
	_, err := s.ask(request{Do: "mount", Args: []string{source, target, fsType, data}, Flag: flags})
	return err
}

// Follow starts a thread of the service in a copy of its namespace, whose "/" has
// the given propagation: MS_SHARED makes a peer of it, MS_SLAVE a follower.
func (s *Service) Follow(propagation uintptr) {
	s.t.Helper()
	s.must(request{Do: "follow", Flag: propagation})
}

// FollowerRead reads a file as the thread of [Service.Follow] sees it.
func (s *Service) FollowerRead(path string) string {
	s.t.Helper()
	r, err := s.ask(request{Do: "followerread", Args: []string{path}})
	if err != nil {
		return "error: " + err.Error()
	}
	return r.Text
}

// Fill mounts below a directory until the namespace takes no more
// (fs.mount-max).
func (s *Service) Fill(dir string) {
	s.t.Helper()
	s.must(request{Do: "fill", Args: []string{dir}})
}

// Unmount detaches a mount in the service's namespace.
func (s *Service) Unmount(target string) error {
	_, err := s.ask(request{Do: "umount", Args: []string{target}})
	return err
}

// OpenDir makes the service keep a directory open under a name.
func (s *Service) OpenDir(name, path string) {
	s.t.Helper()
	s.must(request{Do: "opendir", Args: []string{name, path}})
}

// Hammer starts a thread for each argument that opens and reads files in a loop
// and counts what it finds. An argument is a path, or several with commas between
// them; a path "NAME:REL" is read below an open directory.
func (s *Service) Hammer(paths ...string) {
	s.t.Helper()
	s.must(request{Do: "hammer", Args: paths})
}

// Storm starts a thread that binds source on target and takes it off again, until
// [Service.Tally].
func (s *Service) Storm(source, target string) {
	s.t.Helper()
	s.must(request{Do: "storm", Args: []string{source, target}})
}

// Tally stops the hammering: how often each content, or "error: ..." was found,
// by "PATH=CONTENT".
func (s *Service) Tally() map[string]int {
	s.t.Helper()
	return s.must(request{Do: "tally"}).Tally
}

// Table gives the service's mountinfo lines that contain the text.
func (s *Service) Table(containing string) []string {
	s.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, containing) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// serve is the service's side.
func serve() {
	runtime.GOMAXPROCS(4)
	if err := enterRoot(); err != nil {
		fmt.Println("service:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	w := &worker{dirs: map[string]int{}}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			for _, c := range w.children {
				_ = c.reap()
			}
			return
		}
		var q request
		var r reply
		if err := json.Unmarshal(line, &q); err == nil {
			r.Text, r.Tally, err = w.do(q)
			if err != nil {
				r.Err = err.Error()
				var errno syscall.Errno
				if errors.As(err, &errno) {
					r.Errno = int(errno)
				}
			}
		}
		b, _ := json.Marshal(r)
		fmt.Println(string(b))
	}
}

func enterRoot() error {
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv("NSMOUNTTEST_OPTIONS")), &o); err != nil {
		return err
	}
	if o.Propagation == 0 && len(o.Sandbox) == 0 {
		return nil // somebody else has set the namespace up
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make / slave: %w", err)
	}
	if len(o.Sandbox) > 0 {
		return sandbox(o.Sandbox)
	}
	if o.Root != "" {
		if err := unix.Mount(o.Root, o.Root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind root: %w", err)
		}
		if err := os.MkdirAll(filepath.Join(o.Root, "proc"), 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/proc", filepath.Join(o.Root, "proc"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind proc: %w", err)
		}
		if err := unix.Chdir(o.Root); err != nil {
			return err
		}
		if err := unix.PivotRoot(".", "."); err != nil {
			return fmt.Errorf("pivot_root: %w", err)
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
		if err := unix.Chdir("/"); err != nil {
			return err
		}
	}
	return unix.Mount("", "/", "", unix.MS_REC|o.Propagation, "")
}

// sandbox makes the root an empty tmpfs with some directories bound in it.
func sandbox(dirs []string) error {
	const root = "/tmp"
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, d := range dirs {
		if err := os.MkdirAll(root+d, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(d, root+d, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", d, err)
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

type worker struct {
	dirs  map[string]int
	stop  atomic.Bool
	wg    sync.WaitGroup
	mu    sync.Mutex
	tally map[string]int

	follower chan func()
	children []*Service
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// follow starts the thread of a copy of the namespace.
func (w *worker) follow(propagation uintptr) error {
	w.follower = make(chan func())
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil && propagation != unix.MS_SHARED {
			err = unix.Mount("", "/", "", unix.MS_REC|propagation, "")
		}
		ready <- err
		for f := range w.follower {
			f()
		}
	}()
	return <-ready
}

func (w *worker) do(q request) (string, map[string]int, error) {
	switch q.Do {
	case "read":
		b, err := os.ReadFile(q.Args[0])
		return string(b), nil, err
	case "spawn":
		text, err := w.spawn(q.Args[0])
		return text, nil, err
	case "child":
		r, err := w.child(q.Args[0]).ask(request{Do: q.Args[1], Args: q.Args[2:], Flag: q.Flag})
		return r.Text, r.Tally, err
	case "reap":
		return "", nil, w.child(q.Args[0]).reap()
	case "mount":
		return "", nil, unix.Mount(q.Args[0], q.Args[1], q.Args[2], q.Flag, q.Args[3])
	case "follow":
		return "", nil, w.follow(q.Flag)
	case "followerread":
		result := make(chan reply)
		w.follower <- func() { b, err := os.ReadFile(q.Args[0]); result <- reply{Text: string(b), Err: text(err)} }
		r := <-result
		if r.Err != "" {
			return "", nil, errors.New(r.Err)
		}
		return r.Text, nil, nil
	case "fill":
		return "", nil, fill(q.Args[0])
	case "umount":
		return "", nil, unix.Unmount(q.Args[0], unix.MNT_DETACH)
	case "opendir":
		fd, err := unix.Open(q.Args[1], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		w.dirs[q.Args[0]] = fd
		return "", nil, err
	case "hammer":
		w.stop.Store(false)
		w.tally = map[string]int{}
		for _, p := range q.Args {
			w.wg.Go(func() { w.hammer(p) })
		}
		return "", nil, nil
	case "storm":
		w.stop.Store(false)
		w.wg.Go(func() {
			for !w.stop.Load() {
				// The target comes and goes with the tree below it.
				_ = unix.Mount(q.Args[0], q.Args[1], "", unix.MS_BIND, "")
				_ = unix.Unmount(q.Args[1], unix.MNT_DETACH)
			}
		})
		return "", nil, nil
	case "tally":
		w.stop.Store(true)
		w.wg.Wait()
		return "", w.tally, nil
	}
	return "", nil, fmt.Errorf("unknown request %q", q.Do)
}

// fill doubles what is mounted below dir until a recursive bind does not fit, and
// goes on with halves: the directory N has 2^N mounts.
func fill(dir string) error {
	source, half := dir, -1
	for i := 0; i < 64; i++ {
		sub := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			return err
		}
		for {
			err := unix.Mount(source, sub, "", unix.MS_BIND|unix.MS_REC, "")
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOSPC) {
				return err
			}
			if half < 0 {
				half = i
			}
			if half--; half < 0 {
				return nil
			}
			source = filepath.Join(dir, fmt.Sprint(half))
		}
	}
	return errors.New("the namespace takes any number of mounts")
}

func readAt(dir int, rel string) (string, error) {
	fd, err := unix.Openat(dir, rel, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func (w *worker) hammer(list string) {
	specs := strings.Split(list, ",")
	counts := map[string]int{}
	for i := 0; !w.stop.Load(); i++ {
		spec := specs[i%len(specs)]
		dir, rel := unix.AT_FDCWD, spec
		if name, r, ok := strings.Cut(spec, ":"); ok {
			dir, rel = w.dirs[name], r
		}
		text, err := readAt(dir, rel)
		if err != nil {
			text = "error: " + err.Error()
		}
		counts[spec+"="+text]++
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for found, n := range counts {
		w.tally[found] += n
	}
}
