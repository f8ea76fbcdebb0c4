package rig

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openPTY makes a pseudo terminal: the container writes to the slave, by its path, and the host reads the
// master. systemd opens and closes its console often: as long as the slave is open here, the master goes on.
func openPTY() (master, slave *os.File, err error) {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSPTLCK, 0) // unlockpt(3)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("set up pty: %w", err)
	}
	return f, slave, nil
}

// copyConsole writes what comes from the terminal to the log, until nobody has its other side open.
func copyConsole(log, tty *os.File) {
	defer log.Close()
	defer tty.Close()
	// pty(7): a read with no slave open fails with EIO.
	if _, err := io.Copy(log, tty); err != nil && !errors.Is(err, unix.EIO) {
		fmt.Fprintf(log, "rig: read console: %v\n", err)
	}
}
