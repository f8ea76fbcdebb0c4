package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// stage1Name is the argv[0] under which the test binary runs again as the first process of a container.
const stage1Name = "extexec-rig-stage1"

// stage1Config is what the host side tells the first process, as JSON in argv[1].
type stage1Config struct {
	Root     string // directory that becomes "/"
	Upper    string // directory to be made, for an overlay over Root; "" for none
	Hostname string
	Console  string // path of the pty that becomes /dev/console
	Notify   string // path of the socket that hears of the finished boot
	Binds    []Bind
}

// notifySocket is where the container sees stage1Config.Notify.
const notifySocket = "/run/host/notify"

// init keeps the main goroutine on the first thread: stage1 changes the namespaces of the thread that execs,
// and no goroutine that enters a container may end up on the thread that /proc/self shows.
func init() { runtime.LockOSThread() }

// stage1 runs in the new namespaces, turns the root directory into a container and becomes its systemd.
func stage1(arg string) error {
	var c stage1Config
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return fmt.Errorf("parse config: %w", err)
	}
	unix.Umask(0)
	// The cgroup namespace is made only now, inside the container's own cgroup: that becomes its root.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroup namespace: %w", err)
	}
	if err := dressRoot(c); err != nil {
		return err
	}
	if err := pivot(c.Root); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := openConsole(); err != nil {
		return err
	}
	env := []string{
		"container=rig", // as systemd's container interface asks for
		"NOTIFY_SOCKET=" + notifySocket,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	return fmt.Errorf("exec /sbin/init: %w", unix.Exec("/sbin/init", []string{"/sbin/init", "systemd.unit=multi-user.target"}, env))
}

// dressRoot mounts everything that a booted root has, below c.Root.
func dressRoot(c stage1Config) error {
	const api = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	in := func(p string) string { return filepath.Join(c.Root, p) }
	m := mounter{}
	m.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if c.Upper == "" {
		m.mount(c.Root, c.Root, "", unix.MS_BIND, "")
	} else {
		m.overlay(c.Root, c.Upper)
	}
	m.mount("proc", in("proc"), "proc", api, "")
	m.readOnly(in("proc/sys"), api) // the container must not set the machine's sysctls
	m.mount("sysfs", in("sys"), "sysfs", api, "")
	m.remount(in("sys"), unix.MS_RDONLY|api) // as nspawn has it; a writable /sys would start udevd
	m.mount("cgroup2", in("sys/fs/cgroup"), "cgroup2", api, "")
	m.mount("tmpfs", in("run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
	m.dev(in("dev"), c.Console)
	m.bind(Bind{Source: c.Notify, Target: in(notifySocket)})
	for _, b := range c.Binds {
		m.bind(Bind{Source: b.Source, Target: in(b.Target), ReadOnly: b.ReadOnly})
	}
	return m.err
}

// overlay mounts one over the directory that it has as its lower one.
func (m *mounter) overlay(root, upper string) {
	for _, dir := range []string{upper + "/data", upper + "/work"} {
		m.try(os.MkdirAll(dir, 0o755), "make overlay")
	}
	m.mount("rig", root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/data,workdir=%s/work", root, upper, upper))
}

// pivot makes root "/" and drops the host's tree.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	// pivot_root(2), "pivot_root(".", ".")": the old root is stacked on the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// On a machine systemd does that itself; in a container it leaves it to the container manager.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share /: %w", err)
	}
	return nil
}

// openConsole puts /dev/console on the standard file descriptors.
func openConsole() error {
	f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("redirect to console: %w", err)
		}
	}
	return nil
}

// A mounter does one thing after the other until the first error.
type mounter struct{ err error }

func (m *mounter) try(err error, format string, args ...any) {
	if m.err == nil && err != nil {
		m.err = fmt.Errorf(format+": %w", append(args, err)...)
	}
}

func (m *mounter) mount(source, target, fstype string, flags uintptr, data string) {
	if m.err != nil {
		return
	}
	if fstype != "" {
		m.try(os.MkdirAll(target, 0o755), "make mount point")
	}
	m.try(unix.Mount(source, target, fstype, flags, data), "mount %s on %s", source, target)
}

// remount sets the attributes of a mount, never those of its file system.
func (m *mounter) remount(target string, flags uintptr) {
	m.mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
}

// readOnly makes one directory below a mount read-only.
func (m *mounter) readOnly(target string, flags uintptr) {
	m.mount(target, target, "", unix.MS_BIND, "")
	m.remount(target, unix.MS_RDONLY|flags)
}

// bind makes the target as the source is, a directory or a file, and binds it there.
func (m *mounter) bind(b Bind) {
	if m.err != nil {
		return
	}
	st, err := os.Stat(b.Source)
	m.try(err, "bind")
	if m.err != nil {
		return
	}
	if st.IsDir() {
		m.try(os.MkdirAll(b.Target, 0o755), "make mount point")
	} else {
		m.try(os.MkdirAll(filepath.Dir(b.Target), 0o755), "make mount point")
		m.file(b.Target)
	}
	m.mount(b.Source, b.Target, "", unix.MS_BIND|unix.MS_REC, "")
	if b.ReadOnly {
		m.remount(b.Target, unix.MS_RDONLY)
	}
}

// file makes an empty file as a mount point.
func (m *mounter) file(path string) {
	if m.err != nil {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	m.try(err, "make mount point")
	if err == nil {
		f.Close()
	}
}

// loopNodes is how many loop device nodes a container has. systemd removes loop devices that it is done
// with, so their numbers grow and the host's own nodes vanish: in the container they are names only. The
// numbers start again at 0 once all that were there at one time are gone: 200 have been seen.
const loopNodes = 512

// dev fills a /dev on tmpfs.
func (m *mounter) dev(dev, console string) {
	in := func(p string) string { return filepath.Join(dev, p) }
	m.mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755")
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		m.node(in(name), unix.S_IFCHR|0o666, 1, minor)
	}
	m.node(in("tty"), unix.S_IFCHR|0o666, 5, 0)
	m.node(in("fuse"), unix.S_IFCHR|0o666, 10, 229)
	m.node(in("loop-control"), unix.S_IFCHR|0o600, 10, 237)
	for i := range loopNodes {
		m.node(in(fmt.Sprintf("loop%d", i)), unix.S_IFBLK|0o660, 7, uint32(i))
	}
	m.partitions(dev)
	m.mount("devpts", in("pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
	m.mount("tmpfs", in("shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	m.link("pts/ptmx", in("ptmx"))
	m.link("/proc/self/fd", in("fd"))
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		m.link(fmt.Sprintf("/proc/self/fd/%d", i), in(name))
	}
	m.file(in("console"))
	m.mount(console, in("console"), "", unix.MS_BIND, "")
}

// partitions lets devtmpfs name the partitions of loop devices: their numbers (major 259) are dynamic.
func (m *mounter) partitions(dev string) {
	const names = ".devtmpfs"
	m.mount("devtmpfs", filepath.Join(dev, names), "devtmpfs", unix.MS_NOSUID, "")
	// Read-only by mount attribute: the file system itself is the machine's own /dev.
	m.remount(filepath.Join(dev, names), unix.MS_RDONLY|unix.MS_NOSUID)
	for i := range loopNodes / 2 {
		for part := 1; part <= 6; part++ {
			name := fmt.Sprintf("loop%dp%d", i, part)
			m.link(filepath.Join(names, name), filepath.Join(dev, name))
		}
	}
}

func (m *mounter) node(path string, mode, major, minor uint32) {
	if m.err == nil {
		m.try(unix.Mknod(path, mode, int(unix.Mkdev(major, minor))), "make node %s", path)
	}
}

func (m *mounter) link(target, path string) {
	if m.err != nil {
		return
	}
	if err := os.Symlink(target, path); !errors.Is(err, fs.ErrExist) {
		m.try(err, "make link")
	}
}
