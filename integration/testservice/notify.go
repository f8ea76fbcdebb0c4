package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier says whether the service manager is told anything.
type notifier bool

// send tells the service manager, if there is one that listens (sd_notify(3)).
func (n notifier) send(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if !n || path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // "@" is for abstract here too
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// watchdog ticks twice as often as the manager wants to hear of us; nil, which never ticks, without a watchdog.
func (n notifier) watchdog() <-chan time.Time {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if !n || err != nil || usec < 2 || os.Getenv("WATCHDOG_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	return time.Tick(time.Duration(usec) * time.Microsecond / 2)
}
