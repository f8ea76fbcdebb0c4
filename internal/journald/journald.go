package journald

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// LevelNotice is between slog's Info and Warn: normal, but worth a look.
const LevelNotice = slog.Level(2)

// A Handler is a [slog.Handler] for standard error.
type Handler struct {
	out    *output
	level  slog.Leveler
	prefix bool
	socket string
	attrs  string // what WithAttrs added, formatted
	group  string // what WithGroup added, with a dot at its end
}

type output struct {
	mu sync.Mutex
	w  io.Writer
}

// Options are the choices of a Handler.
type Options struct {
	// Level is the lowest one that is written; nil means [slog.LevelInfo].
	Level slog.Leveler
	// Prefix puts "<N>", the priority, before every line.
	Prefix bool
	// Socket is where records with a message id go as entries with fields; "" for
	// nowhere, and [Socket] for the journal.
	Socket string
}

// NewHandler returns a handler that writes to w.
func NewHandler(w io.Writer, o Options) *Handler {
	h := &Handler{out: &output{w: w}, level: o.Level, prefix: o.Prefix, socket: o.Socket}
	if h.level == nil {
		h.level = slog.LevelInfo
	}
	return h
}

// IsStream says whether f is the stream that the environment variable
// JOURNAL_STREAM describes: "DEVICE:INODE", see systemd.exec(5). A child of a
// service inherits the variable also when its standard error goes elsewhere.
func IsStream(f *os.File, variable string) bool {
	device, inode, ok := strings.Cut(variable, ":")
	if !ok {
		return false
	}
	dev, err := strconv.ParseUint(device, 10, 64)
	if err != nil {
		return false
	}
	ino, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	return st.Dev == dev && st.Ino == ino
}

// Enabled says whether a record of that level is written.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle writes one record. Where the journal has got it as an entry, the journal's own
// stream does not get the line, too.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var attrs strings.Builder
	var e entry
	attrs.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		if h.group == "" && isField(a.Key) {
			e.add(a.Key, a.Value)
		} else {
			appendAttr(&attrs, h.group, a)
		}
		return true
	})
	lines := strings.Split(strings.TrimRight(r.Message, "\n"), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	if h.socket != "" && e.id {
		e.addText("MESSAGE", strings.Join(lines, "\n")+attrs.String())
		e.addText("PRIORITY", strconv.Itoa(priority(r.Level)))
		e.addText("SYSLOG_IDENTIFIER", "extexec")
		if e.send(h.socket) == nil && h.prefix {
			return nil
		}
	}
	return h.write(r.Level, lines, attrs.String())
}

// write writes one record as lines.
func (h *Handler) write(level slog.Level, lines []string, attrs string) error {
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == 0 || h.prefix {
			b.WriteString(h.head(level))
		}
		b.WriteString(line)
	}
	b.WriteString(attrs)
	b.WriteByte('\n')

	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := io.WriteString(h.out.w, b.String())
	return err
}

// WithAttrs returns a handler that adds attrs to every record.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		appendAttr(&b, h.group, a)
	}
	c := *h
	c.attrs = b.String()
	return &c
}

// WithGroup returns a handler that puts name and a dot before the keys of every
// attribute added later.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}

// head is what a line begins with; at a terminal, the first one of a record.
func (h *Handler) head(l slog.Level) string {
	switch {
	case h.prefix:
		return "<" + strconv.Itoa(priority(l)) + ">"
	case l >= slog.LevelError:
		return "error: "
	case l >= slog.LevelWarn:
		return "warning: "
	case l < slog.LevelInfo:
		return "debug: "
	}
	return ""
}

// priority is the syslog(3) priority of a level.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= LevelNotice:
		return 5
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

func appendAttr(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range v.Group() {
			appendAttr(b, group, member)
		}
		return
	}
	b.WriteByte(' ')
	b.WriteString(printable(group + a.Key))
	b.WriteByte('=')
	if text := v.String(); bare(text) {
		b.WriteString(text)
	} else {
		b.WriteString(strconv.Quote(text))
	}
}

// bare says whether a value is clear without quotes.
func bare(s string) bool {
	if s == "" {
		return false
	}
	for _, r := range s {
		if r == ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// printable returns s with everything escaped that is not to be seen, tabs
// excepted.
func printable(s string) string {
	clean := func(r rune) bool { return r == '\t' || r != utf8.RuneError && unicode.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if clean(r) {
			b.WriteString(s[:n])
		} else {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}
