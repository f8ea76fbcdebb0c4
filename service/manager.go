package service

import (
	"bytes"
	"os"
	"strconv"
)

// ManagerVersion is the version of the systemd that is process 1, not of one that
// was installed since: it is told by the library that it has mapped. It says false
// where process 1 is none, has no such library or cannot be looked at. Paths are
// looked up on the calling goroutine.
func ManagerVersion() (version int, ok bool) {
	maps, err := os.ReadFile("/proc/1/maps")
	if err != nil {
		return 0, false
	}
	return libraryVersion(maps)
}

// libraryVersion finds the version in a line of maps, proc_pid_maps(5), that ends
// in "libsystemd-shared-257.so"; distributions may have "257.13-1" there.
func libraryVersion(maps []byte) (int, bool) {
	const library = "/libsystemd-shared-"
	for line := range bytes.Lines(maps) {
		i := bytes.LastIndex(line, []byte(library))
		if i < 0 {
			continue
		}
		digits := line[i+len(library):]
		digits = digits[:len(digits)-len(bytes.TrimLeft(digits, "0123456789"))]
		if version, err := strconv.Atoi(string(digits)); err == nil {
			return version, true
		}
	}
	return 0, false
}
