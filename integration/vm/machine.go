package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/vm/wire"
)

// A Task is a command that runs in the guest.
type Task = wire.Task

// An Event is what happened in the guest.
type Event = wire.Event

// A Config says what one machine is and does.
type Config struct {
	Kernel  Kernel
	Guest   string            // integration/vm/guest, compiled
	Files   map[string]string // what is in /payload, by its name there: files of this machine
	Tasks   []Task            // run one after another
	Modules []string          // loaded beside those that every machine has
	Params  []string          // on the kernel's command line
	Systemd bool              // the root is Debian forky's, and systemd runs in it
}

// Run boots a machine, runs its tasks, and tells what happens. It returns when the
// machine is off, and says how much processor time it took. A task that fails is no
// error here; an error has the end of the console in it. The end of ctx kills the
// machine. One that goes off before it has told anything is booted once more: under an
// emulator on several threads a kernel can die while it patches its own code ("int3"),
// and nothing of ours has run by then.
func Run(ctx context.Context, c Config, tell func(Event)) (time.Duration, error) {
	initramfs, err := c.initramfs()
	if err != nil {
		return 0, fmt.Errorf("prepare %s: %w", c.Kernel, err)
	}
	defer initramfs.Close()
	told := false
	heed := func(e Event) {
		told = true
		tell(e)
	}
	used, err := c.runOnce(ctx, initramfs, heed)
	if err == nil || told || ctx.Err() != nil {
		return used, err
	}
	again, second := c.runOnce(ctx, initramfs, heed)
	if second != nil {
		second = errors.Join(err, fmt.Errorf("booted once more: %w", second))
	}
	return used + again, second
}

func (c Config) runOnce(ctx context.Context, initramfs *os.File, tell func(Event)) (time.Duration, error) {
	m, err := c.boot(ctx, initramfs)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", c.Kernel, err)
	}
	if err := m.follow(ctx, tell); err != nil {
		err = fmt.Errorf("%s: %w; the end of its console:\n%s", c.Kernel, err, m.console.String())
		return m.used, err
	}
	return m.used, nil
}

// initramfs is written to memory, so that nothing is left of it whatever happens.
func (c Config) initramfs() (*os.File, error) {
	fd, err := unix.MemfdCreate("extexec-vm-initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	tree, err := c.Kernel.open()
	if err == nil {
		err = writeInitramfs(f, tree, c)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// commandLine says how QEMU is called: with the initramfs, the console and the port
// for events as descriptors 3, 4 and 5.
func (c Config) commandLine() ([]string, error) {
	tree, err := c.Kernel.open()
	if err != nil {
		return nil, err
	}
	disk, err := c.disk()
	if err != nil {
		return nil, err
	}
	argv, err := qemu()
	if err != nil {
		return nil, err
	}
	params := append([]string{
		// A panic ends the machine. What only costs time is left out.
		"console=ttyS0", "quiet", "panic=-1", "mitigations=off", "no_timer_check", "cryptomgr.notests", "random.trust_cpu=on",
	}, c.Params...)
	if c.Systemd {
		params = append(params, "systemd.unit=multi-user.target", "net.ifnames=0")
	}
	return append(argv, "-nodefaults", "-no-user-config", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-display", "none", "-nic", "none", "-no-reboot", "-device", "virtio-rng-pci",
		"-kernel", tree.image, "-initrd", "/dev/fd/3", "-append", strings.Join(params, " "),
		"-serial", "file:/dev/fd/4", "-serial", "file:/dev/fd/5",
		"-drive", "file="+disk+",format=raw,if=virtio,snapshot=on,cache=unsafe"), nil
}

// disk is the file of the root disk.
func (c Config) disk() (string, error) {
	if c.Systemd {
		return systemdDisk()
	}
	return rootArtifact.path()
}

// A machine is a QEMU process.
type machine struct {
	events  *os.File // what comes out of the guest's second port
	console tailBuffer
	ended   chan error    // how the process has ended
	used    time.Duration // of processor time, then
	reading sync.WaitGroup
}

// boot starts QEMU. It is killed with this process, and with ctx.
func (c Config) boot(ctx context.Context, initramfs *os.File) (*machine, error) {
	argv, err := c.commandLine()
	if err != nil {
		return nil, err
	}
	consoleRead, consoleWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer consoleWrite.Close()
	eventsRead, eventsWrite, err := os.Pipe()
	if err != nil {
		consoleRead.Close()
		return nil, err
	}
	defer eventsWrite.Close()
	m := &machine{events: eventsRead, ended: make(chan error, 1)}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &m.console, &m.console
	cmd.ExtraFiles = []*os.File{initramfs, consoleWrite, eventsWrite} // 3, 4 and 5
	cmd.Env = append(os.Environ(), "TMPDIR=/var/tmp")                 // what is written to the disk; QEMU unlinks it at once
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that starts the process
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			err := cmd.Wait()
			m.used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			m.ended <- err
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, consoleRead.Close(), eventsRead.Close())
	}
	m.reading.Go(func() {
		defer consoleRead.Close()
		_, _ = io.Copy(&m.console, consoleRead)
	})
	return m, nil
}

// follow tells the guest's events until the machine is off.
func (m *machine) follow(ctx context.Context, tell func(Event)) error {
	defer m.events.Close()
	var done bool
	var errs []error
	lines := bufio.NewReader(m.events)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // QEMU has ended
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			errs = append(errs, fmt.Errorf("read event %q: %w", line, err))
			continue
		}
		if e.Error != "" {
			errs = append(errs, fmt.Errorf("guest: task %q: %s", e.Task, e.Error))
		}
		done = done || e.Done
		tell(e)
	}
	err := <-m.ended
	m.reading.Wait()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("killed: %w", context.Cause(ctx))
	case err == nil && !done:
		err = errors.New("it went off before all tasks had ended")
	}
	return errors.Join(append(errs, err)...)
}

// A tailBuffer keeps the end of what is written.
type tailBuffer struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 16 << 10

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if over := len(b.text) - tailSize; over > 0 {
		b.text = b.text[over:]
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
