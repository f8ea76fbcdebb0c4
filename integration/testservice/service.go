package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/testclient"
)

// service is the running test service.
type service struct {
	notify  notifier
	serve   string // file that is sent to whoever connects
	counts  counts
	readers []*reader
	// inherited keeps the descriptors of LISTEN_FDS open and where they are.
	inherited []*os.File
}

type counts struct {
	mu                      sync.Mutex
	reloads, accepts, pings int
	execs                   int // fixed at the start
}

func (c *counts) reload() { c.add(&c.reloads) }
func (c *counts) accept() { c.add(&c.accepts) }
func (c *counts) ping()   { c.add(&c.pings) }

func (c *counts) add(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// report is what was seen since the start, or since the last report that said to forget.
func (s *service) report(forget bool) *testclient.Report {
	s.counts.mu.Lock()
	r := &testclient.Report{PID: os.Getpid(), Reloads: s.counts.reloads, Accepts: s.counts.accepts, Pings: s.counts.pings, Execs: s.counts.execs}
	s.counts.mu.Unlock()
	for _, reader := range s.readers {
		reads := reader.report(forget)
		if same := r.File(reads.Path); same != nil {
			merge(same, reads)
			continue
		}
		r.Files = append(r.Files, reads)
	}
	return r
}

// merge adds what another loop over the same file has seen.
func merge(to, from *testclient.Reads) {
	to.Lookups += from.Lookups
	to.Failed += from.Failed
	if to.FirstError == "" {
		to.FirstError = from.FirstError
	}
	for content, n := range from.Contents {
		to.Contents[content] += n
	}
}

// listen answers on the control socket; it is there before the service is ready.
func (s *service) listen(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.answer(conn)
		}
	}()
	return nil
}

func (s *service) answer(conn net.Conn) {
	defer conn.Close()
	word, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	word = strings.TrimSpace(word)
	if word == "reload" {
		if err := s.reload(); err != nil {
			fmt.Fprintln(os.Stderr, "testservice:", err)
		}
	}
	// The asker sees an error when this fails.
	_ = json.NewEncoder(conn).Encode(s.report(word == "forget"))
}

// accept serves the sockets that the manager passed (sd_listen_fds(3)). The descriptors stay as they are, so
// that an exec passes them on.
func (s *service) accept() error {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid := os.Getenv("LISTEN_PID"); n == 0 || pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	for fd := 3; fd < 3+n; fd++ {
		f := os.NewFile(uintptr(fd), "listen-"+strconv.Itoa(fd))
		l, err := net.FileListener(f) // has a copy of its own
		if err != nil {
			return fmt.Errorf("use fd %d: %w", fd, err)
		}
		s.inherited = append(s.inherited, f)
		go s.acceptOn(l)
	}
	return nil
}

func (s *service) acceptOn(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.counts.accept()
		go func() {
			defer conn.Close()
			var text []byte
			if s.serve != "" {
				var err error
				if text, err = os.ReadFile(s.serve); err != nil {
					text = []byte("error: " + err.Error())
				}
			}
			_, _ = conn.Write(text)
		}()
	}
}

// A reader looks one file up and reads it, again and again.
type reader struct {
	dir  int // directory that the name is looked up from, or AT_FDCWD
	name string

	mu    sync.Mutex
	reads testclient.Reads
}

func (s *service) startReaders(o options) error {
	for _, path := range o.files {
		s.addReaders(o.readers, unix.AT_FDCWD, path, path)
	}
	for _, f := range o.dirFiles {
		dir, name, ok := strings.Cut(f, ":")
		if !ok {
			return fmt.Errorf("-read-at %q: want DIR:NAME", f)
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %q: %w", dir, err)
		}
		s.addReaders(o.readers, fd, name, filepath.Join(dir, name)+"@")
	}
	for _, r := range s.readers {
		go r.loop(o.pause)
	}
	return nil
}

func (s *service) addReaders(n, dir int, name, label string) {
	for range n {
		s.readers = append(s.readers, &reader{dir: dir, name: name, reads: testclient.Reads{Path: label, Contents: map[string]uint64{}}})
	}
}

func (r *reader) loop(pause time.Duration) {
	b := make([]byte, 100)
	for {
		n, err := r.read(b)
		r.note(b[:n], err)
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

func (r *reader) read(b []byte) (int, error) {
	fd, err := unix.Openat(r.dir, r.name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Openat(r.dir, r.name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, b)
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	return n, nil
}

func (r *reader) note(b []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads.Lookups++
	if err != nil {
		r.reads.Failed++
		if r.reads.FirstError == "" {
			r.reads.FirstError = time.Now().Format(time.RFC3339Nano) + " " + err.Error()
		}
		return
	}
	r.reads.Contents[string(b)]++
	if r.reads.Last != string(b) {
		r.reads.Last = string(b)
	}
}

// report copies what was seen, and forgets it if asked to.
func (r *reader) report(forget bool) *testclient.Reads {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.reads
	out.Contents = map[string]uint64{}
	for content, n := range r.reads.Contents {
		out.Contents[content] = n
	}
	if forget {
		r.reads = testclient.Reads{Path: out.Path, Contents: map[string]uint64{}}
	}
	return &out
}
