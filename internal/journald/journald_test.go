package journald_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/extexec/extexec/internal/journald"
	"golang.org/x/sys/unix"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name          string
		log           func(*slog.Logger)
		journal, term string
	}{
		{"error", func(l *slog.Logger) { l.Error("it broke") }, "<3>it broke\n", "error: it broke\n"},
		{"warning", func(l *slog.Logger) { l.Warn("look", "unit", "web.service") }, "<4>look unit=web.service\n", "warning: look unit=web.service\n"},
		{"notice", func(l *slog.Logger) { l.Log(context.Background(), journald.LevelNotice, "n") }, "<5>n\n", "n\n"},
		{"info", func(l *slog.Logger) { l.Info("done", "n", 3, "empty", "", "text", "two words") }, "<6>done n=3 empty=\"\" text=\"two words\"\n", "done n=3 empty=\"\" text=\"two words\"\n"},
		{"debug", func(l *slog.Logger) { l.Debug("d") }, "<7>d\n", "debug: d\n"},
		{
			"several lines", func(l *slog.Logger) { l.Error(errors.Join(io.EOF, errors.New("<0>forged")).Error(), "k", "a\nb") },
			"<3>EOF\n<3><0>forged k=\"a\\nb\"\n", "error: EOF\n<0>forged k=\"a\\nb\"\n",
		},
		{"ends with a newline", func(l *slog.Logger) { l.Info("x\n") }, "<6>x\n", "x\n"},
		{"terminal codes", func(l *slog.Logger) { l.Info("a\x1b[31m\xff\tü") }, "<6>a\\x1b[31m\\xff\tü\n", "a\\x1b[31m\\xff\tü\n"},
		{
			"groups", func(l *slog.Logger) {
				l.With("a", 1).WithGroup("g").With("b", 2).Info("m", slog.Group("h", "c", 3), slog.Attr{})
			},
			"<6>m a=1 g.b=2 g.h.c=3\n", "m a=1 g.b=2 g.h.c=3\n",
		},
	} {
		for want, prefix := range map[string]bool{c.journal: true, c.term: false} {
			var b bytes.Buffer
			c.log(slog.New(journald.NewHandler(&b, journald.Options{Level: slog.LevelDebug, Prefix: prefix})))
			if b.String() != want {
				t.Errorf("%s, prefix %v: got %q, want %q", c.name, prefix, b.String(), want)
			}
		}
	}
}

func TestLevel(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(journald.NewHandler(&b, journald.Options{}))
	l.Debug("no")
	l.Info("yes")
	if b.String() != "yes\n" {
		t.Errorf("got %q", b.String())
	}
}

func TestIsStream(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	ours := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for variable, want := range map[string]bool{
		ours: true, ours + "0": false, "1" + ours: false, "": false, ":": false, "x:y": false, strings.Split(ours, ":")[0]: false,
	} {
		if got := journald.IsStream(f, variable); got != want {
			t.Errorf("%q: %v", variable, got)
		}
	}
}

// FuzzHandler: whatever is logged, it makes as many lines as the message has, each
// with its priority before it, and nothing else that a terminal would act on.
func FuzzHandler(f *testing.F) {
	f.Add("done", "unit", "web.service", true)
	f.Add("two\nlines\n\n", "", "a b", true)
	f.Add("\x1b[2J<0>x\xff", "k\n<3>", "v\n<3>x", false)
	f.Fuzz(func(t *testing.T, message, key, value string, prefix bool) {
		var b bytes.Buffer
		slog.New(journald.NewHandler(&b, journald.Options{Prefix: prefix})).Info(message, key, value)
		text, ended := strings.CutSuffix(b.String(), "\n")
		lines := strings.Split(text, "\n")
		if want := strings.Count(strings.TrimRight(message, "\n"), "\n") + 1; !ended || len(lines) != want {
			t.Errorf("%q has %d lines, want %d", b.String(), len(lines), want)
		}
		for _, line := range lines {
			if prefix && !strings.HasPrefix(line, "<6>") {
				t.Errorf("%q has no priority", line)
			}
			for _, r := range line {
				if r != '\t' && !unicode.IsPrint(r) {
					t.Errorf("%q has %q", line, r)
				}
			}
		}
	})
}
