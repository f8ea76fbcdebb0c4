package release

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSize is the size, in bytes, up to which a release file is read. Real ones
// have a few hundred.
const MaxSize = 1 << 20

// Parse reads an os-release or extension-release file: assignments as systemd's
// environment files have them. Of a key that is given twice the last counts. A
// line without "=" is ignored, as systemd does. An error names the line.
func Parse(data []byte) (map[string]string, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes are too many for a release file, the limit is %d", len(data), MaxSize)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("a NUL byte: this is not a text file")
	}
	fields := map[string]string{}
	for s := (scanner{data: data, line: 1}); ; {
		line := s.line
		key, ok := s.key()
		if !ok {
			return fields, nil
		}
		value := s.value()
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("line %d: %q is not valid UTF-8", line, key+"="+value)
		}
		fields[key] = value
	}
}

type scanner struct {
	data []byte
	pos  int
	line int
}

func (s *scanner) next() (byte, bool) {
	if s.pos == len(s.data) {
		return 0, false
	}
	c := s.data[s.pos]
	s.pos++
	if c == '\n' {
		s.line++
	}
	return c, true
}

// key reads up to the next "=", over comments and lines that have none.
func (s *scanner) key() (string, bool) {
	var key []byte
	comment := false
	for {
		c, ok := s.next()
		switch {
		case !ok:
			return "", false
		case isNewline(c):
			// Also after a backslash: a comment has no continuation.
			key, comment = key[:0], false
		case comment || len(key) == 0 && isSpace(c):
		case len(key) == 0 && (c == '#' || c == ';'):
			comment = true
		case len(key) > 0 && c == '=':
			return strings.TrimRight(string(key), spaces), true
		default:
			key = append(key, c)
		}
	}
}

// value reads up to the end of the line: quoted parts that follow each other
// are joined, and once an unquoted part begins, quotes stand for themselves.
func (s *scanner) value() string {
	var out []byte
	keep := 0 // What comes before was quoted or escaped: its blanks count.
	bare := false
	for {
		c, ok := s.next()
		switch {
		case !ok || isNewline(c):
			return string(out[:keep]) + strings.TrimRight(string(out[keep:]), spaces)
		case c == '\\':
			bare = true
			if escaped, ok := s.next(); ok && !isNewline(escaped) {
				out = append(out, escaped)
			}
			keep = len(out)
		case bare:
			out = append(out, c)
		case c == '\'' || c == '"':
			out = s.quoted(out, c)
			keep = len(out)
		case !isSpace(c):
			bare = true
			out = append(out, c)
		}
	}
}

// quoted reads up to the closing quote, or to the end of the file, and appends
// to out. In double quotes a backslash escapes what a shell would expand, and
// the end of a line.
func (s *scanner) quoted(out []byte, quote byte) []byte {
	for {
		c, ok := s.next()
		switch {
		case !ok || c == quote:
			return out
		case c == '\\' && quote == '"':
			escaped, ok := s.next()
			switch {
			case !ok:
				return out
			case strings.IndexByte("\"\\`$", escaped) >= 0:
				out = append(out, escaped)
			case escaped != '\n':
				out = append(out, '\\', escaped)
			}
		default:
			out = append(out, c)
		}
	}
}

const spaces = " \t\n\r"

func isSpace(c byte) bool { return strings.IndexByte(spaces, c) >= 0 }

func isNewline(c byte) bool { return c == '\n' || c == '\r' }
