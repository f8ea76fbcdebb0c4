package settings

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// The real-time signals that glibc leaves to programs (signal(7)).
const (
	sigRTMin = 34
	sigRTMax = 64
)

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "ILL": syscall.SIGILL,
	"TRAP": syscall.SIGTRAP, "ABRT": syscall.SIGABRT, "IOT": syscall.SIGIOT, "BUS": syscall.SIGBUS,
	"FPE": syscall.SIGFPE, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1, "SEGV": syscall.SIGSEGV,
	"USR2": syscall.SIGUSR2, "PIPE": syscall.SIGPIPE, "ALRM": syscall.SIGALRM, "TERM": syscall.SIGTERM,
	"STKFLT": syscall.SIGSTKFLT, "CHLD": syscall.SIGCHLD, "CONT": syscall.SIGCONT, "STOP": syscall.SIGSTOP,
	"TSTP": syscall.SIGTSTP, "TTIN": syscall.SIGTTIN, "TTOU": syscall.SIGTTOU, "URG": syscall.SIGURG,
	"XCPU": syscall.SIGXCPU, "XFSZ": syscall.SIGXFSZ, "VTALRM": syscall.SIGVTALRM, "PROF": syscall.SIGPROF,
	"WINCH": syscall.SIGWINCH, "IO": syscall.SIGIO, "POLL": syscall.SIGIO, "PWR": syscall.SIGPWR, "SYS": syscall.SIGSYS,
}

// ParseSignal reads a signal as systemd does: "HUP", "SIGHUP", "1", "RTMIN+2",
// "RTMAX-1". KILL and STOP cannot be caught, so they cannot ask for a reload.
func ParseSignal(s string) (syscall.Signal, error) {
	n, ok := signalNumber(s)
	if !ok {
		return 0, fmt.Errorf("%q is no signal: write a name such as HUP, or a number from 1 to %d", s, sigRTMax)
	}
	if n == syscall.SIGKILL || n == syscall.SIGSTOP {
		return 0, fmt.Errorf("%q cannot be caught by the service", s)
	}
	return n, nil
}

func signalNumber(s string) (syscall.Signal, bool) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return syscall.Signal(n), n >= 1 && n <= sigRTMax
	}
	s = strings.TrimPrefix(s, "SIG")
	if n, ok := signals[s]; ok {
		return n, true
	}
	for _, rt := range []struct {
		name, sign string
		from       int
	}{{"RTMIN", "+", sigRTMin}, {"RTMAX", "-", sigRTMax}} {
		offset, ok := strings.CutPrefix(s, rt.name)
		if !ok {
			continue
		}
		if offset == "" {
			return syscall.Signal(rt.from), true
		}
		digits, ok := strings.CutPrefix(offset, rt.sign)
		n, err := strconv.ParseUint(digits, 10, 8)
		if !ok || err != nil || n > sigRTMax-sigRTMin {
			return 0, false
		}
		if rt.sign == "-" {
			return syscall.Signal(rt.from - int(n)), true
		}
		return syscall.Signal(rt.from + int(n)), true
	}
	return 0, false
}
