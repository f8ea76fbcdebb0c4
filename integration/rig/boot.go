package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bootLimit = 60 * time.Second
	stopLimit = 30 * time.Second
	// sigPowerOff is SIGRTMIN+4, at which systemd starts poweroff.target (systemd(1)).
	sigPowerOff = unix.Signal(34 + 4)
)

// A Bind is a directory or file of the host that a container shows.
type Bind struct {
	Source   string // absolute path on the host
	Target   string // absolute path in the container, made when it is not there
	ReadOnly bool
}

// Options of a container of its own.
type Options struct {
	Binds []Bind
	// OverlayRoot makes "/" an overlay, as container engines and live systems have it.
	OverlayRoot bool
}

// A machine is a booted container, whoever uses it.
type machine struct {
	suite   Suite
	run     *run
	id      string // unique on this host; also the host name inside
	dir     string // everything that it has on the host's disk
	cgroup  cgroup
	leader  int // pid of its systemd, on the host
	pidfd   *os.File
	inside  *thread
	exited  chan struct{} // closed when its systemd has ended
	exitErr error         // how; valid once exited is closed
	version int           // systemd's
	state   string        // "running" or "degraded"
	before  snapshot
	closing sync.Once
}

// bootMachine unpacks a fresh root and boots it.
func bootMachine(r *run, s Suite, o Options) (*machine, error) {
	tarball, err := Root(s)
	if err != nil {
		return nil, err
	}
	id, dir, err := r.newDir(s)
	if err != nil {
		return nil, err
	}
	m := &machine{suite: s, run: r, id: id, dir: dir, exited: make(chan struct{})}
	if err := m.boot(tarball, o); err != nil {
		return nil, errors.Join(fmt.Errorf("boot %s: %w", s, err), m.discard())
	}
	return m, nil
}

func (m *machine) boot(tarball string, o Options) error {
	if err := m.unpack(tarball); err != nil {
		return err
	}
	err := m.installBinaries()
	if err != nil {
		return err
	}
	if m.cgroup, err = newCgroup(m.run.cgroupPath(m.id)); err != nil {
		return err
	}
	if err := m.start(o); err != nil {
		return fmt.Errorf("%w\n%s", err, m.console())
	}
	if m.inside, err = newThread(int(m.pidfd.Fd())); err != nil {
		return err
	}
	return m.settle()
}

// rootDir is the directory that is the container's "/".
func (m *machine) rootDir() string { return filepath.Join(m.dir, "root") }

// unpack makes the root. Plain files: an overlay as "/" would take one of the kernel's two nesting levels.
func (m *machine) unpack(tarball string) error {
	if err := os.Mkdir(m.rootDir(), 0o755); err != nil {
		return err
	}
	out, err := exec.Command("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", tarball, "-C", m.rootDir()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", tarball, err, tail(out, 10))
	}
	// An id of its own: without one systemd would mount one over /etc/machine-id, below a hierarchy.
	var machineID [16]byte
	if _, err := rand.Read(machineID[:]); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.rootDir(), "etc/machine-id"), []byte(hex.EncodeToString(machineID[:])+"\n"), 0o444)
}

// start runs stage1 in new namespaces and returns when systemd says that the boot is finished.
func (m *machine) start(o Options) error {
	notify, err := m.listenNotify()
	if err != nil {
		return fmt.Errorf("listen for ready: %w", err)
	}
	defer notify.Close()
	log, err := os.Create(m.consolePath())
	if err != nil {
		return err
	}
	master, slave, err := openPTY()
	if err != nil {
		log.Close()
		return err
	}
	c := stage1Config{Root: m.rootDir(), Hostname: m.id, Console: slave.Name(), Notify: m.notifyPath(), Binds: o.Binds}
	if o.OverlayRoot {
		c.Upper = filepath.Join(m.dir, "upper")
	}
	config, err := json.Marshal(c)
	if err == nil {
		err = m.spawn(string(config), log)
	}
	go copyConsole(log, master)
	if err != nil {
		slave.Close()
		return err
	}
	go func() {
		<-m.exited
		slave.Close()
	}()
	return m.awaitReady(notify)
}

// spawn starts the container's first process. The thread that does it must live as long as the container,
// because PR_SET_PDEATHSIG is about the parent thread: so the container never outlives this process.
func (m *machine) spawn(config string, log *os.File) error {
	dir, err := m.cgroup.open()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{stage1Name, config}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = log, log
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		Setsid:     true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd,
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer dir.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			m.exitErr = cmd.Wait()
		}
		close(m.exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	m.leader = cmd.Process.Pid
	m.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	return nil
}

func (m *machine) consolePath() string { return filepath.Join(m.dir, "console.log") }
func (m *machine) notifyPath() string  { return filepath.Join(m.dir, "notify") }

// console is the end of what the container wrote to its console.
func (m *machine) console() string {
	b, err := os.ReadFile(m.consolePath())
	if err != nil {
		return err.Error()
	}
	return "console:\n" + tail(b, 40)
}

// listenNotify makes the socket that systemd, as any service manager's payload, sends READY=1 to.
func (m *machine) listenNotify() (*net.UnixConn, error) {
	// Through the directory's descriptor: socket paths end at 108 bytes.
	d, err := os.Open(m.dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/notify", d.Fd())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return conn, os.Chmod(m.notifyPath(), 0o666)
}

// awaitReady returns when systemd has sent READY=1, or why it never will.
func (m *machine) awaitReady(notify *net.UnixConn) error {
	if err := notify.SetReadDeadline(time.Now().Add(bootLimit)); err != nil {
		return err
	}
	go func() { // a container that dies will not say so
		<-m.exited
		notify.SetReadDeadline(time.Unix(1, 0))
	}()
	b := make([]byte, 4096)
	for {
		n, err := notify.Read(b)
		if err != nil {
			select {
			case <-m.exited:
				return fmt.Errorf("systemd ended during boot: %w", m.exitErr)
			default:
				return fmt.Errorf("systemd did not finish booting in %s", bootLimit)
			}
		}
		for line := range bytes.Lines(b[:n]) {
			if string(bytes.TrimSpace(line)) == "READY=1" {
				return nil
			}
		}
	}
}

// settle waits for the last jobs of the boot and notes what the booted container is like.
func (m *machine) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	r, err := m.exec(ctx, Command{Argv: []string{"systemctl", "is-system-running", "--wait"}})
	if err != nil {
		return err
	}
	m.state = strings.TrimSpace(r.Stdout)
	if m.state != "running" && m.state != "degraded" {
		return fmt.Errorf("system is %q after boot: %s\n%s", m.state, r.Stderr, m.console())
	}
	r, err = m.exec(ctx, Command{Argv: []string{"systemctl", "--version"}})
	if err != nil {
		return err
	}
	if _, err := fmt.Sscanf(r.Stdout, "systemd %d ", &m.version); err != nil {
		return fmt.Errorf("parse systemd version %q: %w", r.Stdout, err)
	}
	m.before, err = m.snapshot()
	return err
}

// stop shuts the container down and removes all that it has on the host.
func (m *machine) stop() error {
	err := m.powerOff()
	return errors.Join(err, m.discard())
}

func (m *machine) powerOff() error {
	if err := unix.PidfdSendSignal(int(m.pidfd.Fd()), sigPowerOff, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop %s: %w", m.id, err)
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-m.exited:
	case <-limit.C:
		return fmt.Errorf("stop %s: still there after %s\n%s", m.id, stopLimit, m.console())
	}
	// reboot(2): in a pid namespace, a power off kills the first process with SIGINT.
	var exit *exec.ExitError
	if errors.As(m.exitErr, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGINT {
		return nil
	}
	if m.exitErr == nil {
		m.exitErr = errors.New("it returned")
	}
	return fmt.Errorf("stop %s: systemd did not power off: %w\n%s", m.id, m.exitErr, m.console())
}

// discard ends the container at once, if it is still there, and removes its files.
func (m *machine) discard() error {
	if m.inside != nil {
		m.inside.close()
	}
	var errs []error
	if m.pidfd != nil {
		unix.PidfdSendSignal(int(m.pidfd.Fd()), unix.SIGKILL, nil, 0)
		<-m.exited
		m.pidfd.Close()
	}
	if m.cgroup != "" {
		errs = append(errs, m.cgroup.remove())
	}
	errs = append(errs, removeTree(m.dir))
	return errors.Join(errs...)
}
