package journald

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sys/unix"
)

// Socket is where the journal takes entries with fields.
const Socket = "/run/systemd/journal/socket"

// messageID is the field that makes a record an entry of its own in the journal.
const messageID = "MESSAGE_ID"

// isField says whether a key is one of the journal's, which are in capitals:
// systemd.journal-fields(7). One that begins with an underscore is the journal's own.
func isField(key string) bool {
	if key == "" || len(key) > 64 || key[0] < 'A' || key[0] > 'Z' {
		return false
	}
	return strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// An entry is what the journal is sent: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
type entry struct {
	b  []byte
	id bool // it has a message id
}

// add appends a field; a list is the same field several times.
func (e *entry) add(key string, v slog.Value) {
	v = v.Resolve()
	if list, ok := v.Any().([]string); ok {
		for _, one := range list {
			e.addText(key, one)
		}
		return
	}
	e.addText(key, v.String())
	e.id = e.id || key == messageID
}

func (e *entry) addText(key, value string) {
	e.b = append(e.b, key...)
	if strings.Contains(value, "\n") {
		e.b = append(e.b, '\n')
		e.b = binary.LittleEndian.AppendUint64(e.b, uint64(len(value)))
	} else {
		e.b = append(e.b, '=')
	}
	e.b = append(append(e.b, value...), '\n')
}

// send gives the entry to the journal. It waits for a second at most; an entry that is
// too large for one datagram fails.
func (e *entry) send(socket string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fmt.Errorf("bound the wait for the journal: %w", err)
	}
	if err := unix.Sendto(fd, e.b, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("send to %q: %w", socket, err)
	}
	return nil
}
