// Command guest is the first process of a virtual machine of package vm. It loads
// modules, makes the disk the root, runs the tasks of the plan and powers off.
//
// It is process 1, which collects what is left of processes; a copy of it runs the
// tasks, since it waits for its own. Where the plan wants systemd, it becomes that,
// and the copy is a service.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/vm/wire"
)

func main() {
	if os.Args[0] == wire.TaskLoop {
		if err := tasks(); err != nil {
			send(wire.Event{Error: err.Error()})
			os.Exit(1)
		}
		return
	}
	if err := initialize(); err != nil {
		fmt.Println("guest:", err) // the console
	}
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("guest: power off:", err)
	select {}
}

func initialize() error {
	plan, err := readPlan(wire.PlanFile)
	if err != nil {
		return err
	}
	for _, m := range []struct{ fsType, at, data string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", "mode=755"},
	} {
		if err := mount(m.fsType, m.at, m.fsType, 0, m.data); err != nil {
			return err
		}
	}
	if err := load(plan.Modules); err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return err
	}
	if plan.Systemd {
		return becomeSystemd(plan)
	}
	if err := mountRest(); err != nil {
		return err
	}
	return runTasks(plan)
}

func readPlan(path string) (*wire.Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p wire.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return &p, nil
}

func mount(source, target, fsType string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fsType, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// load loads the modules with their parameters of the kernel's command line:
// modprobe does that, finit_module(2) does not.
func load(modules []wire.Module) error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, m := range modules {
		var params []string
		for word := range strings.FieldsSeq(string(line)) {
			name, rest, ok := strings.Cut(word, ".")
			if ok && strings.ReplaceAll(name, "-", "_") == m.Name {
				params = append(params, rest)
			}
		}
		f, err := os.Open(wire.ModulesDir + "/" + m.File)
		if err != nil {
			return err
		}
		flags := 0
		if m.Compressed {
			flags = unix.MODULE_INIT_COMPRESSED_FILE
		}
		err = unix.FinitModule(int(f.Fd()), strings.Join(params, " "), flags)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", m.Name, err)
		}
	}
	return nil
}

// switchRoot makes the disk the root of all: pivot_root(2) does not work on an
// initramfs, so this moves the mount, as switch_root(8) does. The payload comes
// along as a bind mount of the initramfs.
func switchRoot() error {
	if err := mount(wire.RootDisk, wire.NewRoot, "ext4", 0, ""); err != nil {
		return err
	}
	if err := mount(wire.PayloadDir, wire.NewRoot+wire.PayloadDir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := mount(dir, wire.NewRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	if err := unix.Chdir(wire.NewRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
}

// mountRest mounts what systemd would.
func mountRest() error {
	for _, m := range []struct{ fsType, at, data string }{
		{"devpts", "/dev/pts", ""}, {"tmpfs", "/dev/shm", ""}, {"cgroup2", "/sys/fs/cgroup", ""},
	} {
		if err := mount(m.fsType, m.at, m.fsType, 0, m.data); err != nil {
			return err
		}
	}
	// As systemd leaves it.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share the root: %w", err)
	}
	return nil
}

// tasksUnit runs the tasks once the system is up; the machine is off with their end.
// Nothing on the disk outlives it, so nothing is stopped before.
const tasksUnit = `[Unit]
Description=Tasks of package vm
After=multi-user.target
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
Type=exec
ExecStart=@` + wire.GuestFile + ` "` + wire.TaskLoop + `"
Environment=HOME=/root LANG=C.UTF-8 TMPDIR=/var/tmp
`

// becomeSystemd leaves the tasks to a service.
func becomeSystemd(p *wire.Plan) error {
	if err := writePlan(p); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	wants := wire.UnitDir + "/multi-user.target.wants"
	if err := errors.Join(
		os.WriteFile(wire.GuestFile, self, 0o755),
		os.MkdirAll(wants, 0o755),
		os.WriteFile(wire.UnitDir+"/"+wire.TasksUnit, []byte(tasksUnit), 0o644),
		os.Symlink("../"+wire.TasksUnit, wants+"/"+wire.TasksUnit),
	); err != nil {
		return err
	}
	const systemd = "/usr/lib/systemd/systemd"
	return fmt.Errorf("execute %s: %w", systemd, unix.Exec(systemd, []string{systemd}, nil))
}

func writePlan(p *wire.Plan) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(wire.TasksFile, data, 0o600)
}

// runTasks has a copy of this program run the tasks, and collects every process
// that ends until that one does.
func runTasks(p *wire.Plan) error {
	if err := writePlan(p); err != nil {
		return err
	}
	self := &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", "TMPDIR=/var/tmp",
	}}
	loop, err := os.StartProcess("/proc/self/exe", []string{wire.TaskLoop}, self)
	if err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if err == nil && pid == loop.Pid {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the tasks: %w", err)
		}
	}
}

// tasks runs all tasks and tells the host.
func tasks() error {
	plan, err := readPlan(wire.TasksFile)
	if err != nil {
		return err
	}
	if err := rawPort(); err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	send(wire.Event{Kernel: unix.ByteSliceToString(u.Release[:])})
	for _, t := range plan.Tasks {
		send(run(t))
	}
	send(wire.Event{Done: true})
	return nil
}

// run runs a task to its end, which the event tells.
func run(t wire.Task) wire.Event {
	cmd := exec.Command(t.Argv[0], t.Argv[1:]...)
	cmd.Dir, cmd.Env = t.Dir, append(os.Environ(), t.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	w := teller(t.Name)
	cmd.Stdout, cmd.Stderr = w, w
	err := cmd.Run()
	e := wire.Event{Task: t.Name, Ended: true}
	if cmd.ProcessState == nil {
		e.Error = err.Error()
		return e
	}
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	e.Status = ws.ExitStatus()
	if ws.Signaled() {
		e.Status = 128 + int(ws.Signal())
	}
	return e
}

// teller tells the host what a task prints.
type teller string

func (t teller) Write(b []byte) (int, error) {
	send(wire.Event{Task: string(t), Output: string(b)})
	return len(b), nil
}

// rawPort has the port hand over what is written as it is.
func rawPort() error {
	f, err := os.OpenFile(wire.ResultsPort, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	tio, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	tio.Iflag, tio.Oflag, tio.Lflag = 0, 0, 0
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, tio)
}

// send writes an event; there is nobody to tell of an error.
func send(e wire.Event) {
	line, _ := json.Marshal(e)
	f, err := os.OpenFile(wire.ResultsPort, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	defer f.Close()
	_, _ = f.Write(append(line, '\n'))
}
