package journald_test

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/internal/journald"
)

// journal is a socket that takes entries.
func journal(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

// received reads an entry as the journal does; nil where none has come.
func received(t *testing.T, c *net.UnixConn) map[string][]string {
	t.Helper()
	last, err := net.Dial("unixgram", c.LocalAddr().String())
	if err != nil {
		return nil // the journal is gone
	}
	defer last.Close()
	if _, err := last.Write([]byte("END\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if string(b[:n]) == "END\n" {
		return nil
	}
	fields := map[string][]string{}
	for b = b[:n]; len(b) > 0; {
		line, rest, _ := bytes.Cut(b, []byte{'\n'})
		key, value, text := strings.Cut(string(line), "=")
		if !text {
			size := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+size]), rest[8+size+1:]
		}
		fields[key], b = append(fields[key], value), rest
	}
	return fields
}

func TestEntries(t *testing.T) {
	event := []any{"MESSAGE_ID", "00ff", "LIST", []string{"a", "b"}, "N", 3, "TEXT", "x\nMESSAGE=forged", "other", "o"}
	want := map[string][]string{
		"MESSAGE_ID": {"00ff"}, "LIST": {"a", "b"}, "N": {"3"}, "TEXT": {"x\nMESSAGE=forged"},
		"MESSAGE": {"it\nbroke other=o"}, "PRIORITY": {"3"}, "SYSLOG_IDENTIFIER": {"extexec"},
	}
	for _, c := range []struct {
		name   string
		attrs  []any
		stream bool // standard error is the journal's
		gone   bool // nobody is there to take it
		entry  map[string][]string
		lines  string
	}{
		{"under the journal", event, true, false, want, ""},
		{"at a terminal", event, false, false, want, "error: it\nbroke other=o\n"},
		{"no journal", event, true, true, nil, "<3>it\n<3>broke other=o\n"},
		{"no message id", []any{"N", 3, "n", 3}, true, false, nil, "<3>it\n<3>broke n=3\n"},
		{"too large", []any{"MESSAGE_ID", "00ff", "TEXT", strings.Repeat("x", 1<<22)}, true, false, nil, "<3>it\n<3>broke\n"},
		{"the journal's own fields", []any{"MESSAGE_ID", "00ff", "_UID", 1}, true, false, map[string][]string{
			"MESSAGE_ID": {"00ff"}, "MESSAGE": {"it\nbroke _UID=1"}, "PRIORITY": {"3"}, "SYSLOG_IDENTIFIER": {"extexec"},
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, path := journal(t)
			if c.gone {
				conn.Close()
			}
			var lines bytes.Buffer
			slog.New(journald.NewHandler(&lines, journald.Options{Prefix: c.stream, Socket: path})).Error("it\nbroke", c.attrs...)
			if d := cmp.Diff(c.lines, lines.String()); d != "" {
				t.Errorf("lines (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.entry, received(t, conn)); d != "" {
				t.Errorf("entry (-want +got):\n%s", d)
			}
		})
	}
}
