package service

import (
	"bytes"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const defaultOutputLimit = 64 << 10

// collect reads the output in the background. The function that it returns is
// called when the command has ended: it takes what there is still to read and
// waits for no more, since what outlived the command may hold the pipe open.
func (s *setup) collect() func() ([]byte, bool) {
	if s.output == nil {
		return func() ([]byte, bool) { return nil, false }
	}
	var b bounded
	b.limit = s.limit
	done := make(chan struct{})
	go func() {
		defer close(done)
		// An error is the end, or the deadline.
		_, _ = io.Copy(&b, s.output)
	}()
	return func() ([]byte, bool) {
		interrupt(s.output)
		<-done
		drain(&b, s.output)
		return b.kept.Bytes(), b.truncated
	}
}

// interrupt ends a read that waits.
func interrupt(f *os.File) {
	_ = f.SetReadDeadline(time.Unix(1, 0))
}

// drain reads what is in the pipe, and does not wait.
func drain(w io.Writer, f *os.File) {
	buf := make([]byte, 32<<10)
	for range 64 { // more than any pipe holds, if somebody goes on writing
		n := 0
		err := control(f, func(fd int) { n, _ = unix.Read(fd, buf) })
		if err != nil || n <= 0 {
			return
		}
		_, _ = w.Write(buf[:n])
	}
}

// bounded keeps the first bytes of what is written to it.
type bounded struct {
	kept      bytes.Buffer
	limit     int
	truncated bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if left := b.limit - b.kept.Len(); len(p) > left {
		b.kept.Write(p[:max(left, 0)])
		b.truncated = true
		return len(p), nil
	}
	return b.kept.Write(p)
}
