// Testservice is a service for the tests: it reads files without a pause and counts what fails, tells the
// service manager what it does, accepts on inherited sockets, and can be asked what it has seen.
//
//	testservice -control /run/t/control -read /etc/app.conf -notify
//
// SIGHUP makes it reload (RELOADING=1, then READY=1), SIGUSR1 print its report to standard output, SIGUSR2
// exec itself anew with the same pid; SIGTERM ends it. What a Go program sees of its own signal dispositions
// and of RLIMIT_NOFILE is not what it was started with: read those from /proc of a C program.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/procstate"
)

type options struct {
	notify   bool
	control  string
	files    []string
	dirFiles []string
	readers  int
	pause    time.Duration
	report   string
	serve    string
	children int
	exitCode int
	exitNow  bool
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("testservice", flag.ContinueOnError)
	add := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	fs.BoolVar(&o.notify, "notify", false, "tell the service manager READY=1, RELOADING=1, WATCHDOG=1, STOPPING=1")
	fs.StringVar(&o.control, "control", "", "path of a unix socket to be asked on")
	fs.Func("read", "file to read in a loop, by path; may be repeated", add(&o.files))
	fs.Func("read-at", "DIR:NAME to read in a loop, through DIR opened once at the start; may be repeated", add(&o.dirFiles))
	fs.IntVar(&o.readers, "readers", 1, "loops a file")
	fs.DurationVar(&o.pause, "pause", 0, "after every read, where many services run side by side")
	fs.StringVar(&o.report, "state", "", "file to write what the process was started with to, as JSON")
	fs.StringVar(&o.serve, "serve", "", "file whose content every accepted connection gets (needs LISTEN_FDS)")
	fs.IntVar(&o.children, "children", 0, "child processes that wait")
	fs.IntVar(&o.exitCode, "exit-code", 0, "exit status after SIGTERM")
	fs.BoolVar(&o.exitNow, "exit-now", false, "do not wait for SIGTERM")
	return o, fs.Parse(args)
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	if err := serve(o); err != nil {
		fmt.Fprintln(os.Stderr, "testservice:", err)
		os.Exit(1)
	}
	os.Exit(o.exitCode)
}

// serve does what the options say until SIGTERM.
func serve(o options) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	if o.report != "" {
		if err := writeState(o.report); err != nil {
			return err
		}
	}
	s := &service{notify: notifier(o.notify), serve: o.serve}
	s.counts.execs, _ = strconv.Atoi(os.Getenv(execsVar))
	if err := s.startReaders(o); err != nil {
		return err
	}
	if err := s.listen(o.control); err != nil {
		return err
	}
	if err := s.accept(); err != nil {
		return err
	}
	for range o.children {
		child := exec.Command("/proc/self/exe")
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := child.Start(); err != nil {
			return err
		}
	}
	if err := s.notify.send("READY=1\nSTATUS=reading " + strconv.Itoa(len(o.files)+len(o.dirFiles)) + " files"); err != nil {
		return err
	}
	if o.exitNow {
		return nil
	}
	return s.wait(signals)
}

// wait handles signals until one ends the service.
func (s *service) wait(signals <-chan os.Signal) error {
	ping := s.notify.watchdog()
	for {
		select {
		case <-ping:
			s.counts.ping()
			if err := s.notify.send("WATCHDOG=1"); err != nil {
				return err
			}
		case sig := <-signals:
			switch sig {
			case unix.SIGHUP:
				if err := s.reload(); err != nil {
					return err
				}
			case unix.SIGUSR1:
				if err := json.NewEncoder(os.Stdout).Encode(s.report(false)); err != nil {
					return err
				}
			case unix.SIGUSR2:
				return s.execAnew()
			default:
				return s.notify.send("STOPPING=1")
			}
		}
	}
}

// reload does what sd_notify(3) asks of a service: the time tells the manager which of its signals it is for.
func (s *service) reload() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	usec := now.Nano() / int64(time.Microsecond)
	if err := s.notify.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", usec)); err != nil {
		return err
	}
	s.counts.reload()
	return s.notify.send("READY=1")
}

// execsVar counts through the environment how often the process has exec'ed itself.
const execsVar = "TESTSERVICE_EXECS"

func (s *service) execAnew() error {
	if err := os.Setenv(execsVar, strconv.Itoa(s.counts.execs+1)); err != nil {
		return err
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(path, os.Args, os.Environ())
}

// writeState writes the file whole: a test may wait for it to appear.
func writeState(path string) error {
	state, err := procstate.Read(os.Getpid())
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(state, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
