// Package procstate reads from /proc what a process was started with and lives in, so that a test can compare
// two processes: one that systemd has started directly and one that came through extexec.
//
// Read it of a C program ("sleep infinity"). A Go program changes its signal dispositions and the soft limit
// of open files before any code of its own runs.
package procstate

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A State describes one process. Numbers are as the kernel prints them.
type State struct {
	Argv       []string          `json:"argv"`
	Env        map[string]string `json:"env"` // at its start
	CWD        string            `json:"cwd"`
	Root       string            `json:"root"`
	Exe        string            `json:"exe"`
	Cgroup     string            `json:"cgroup"`
	UID        []int             `json:"uid"` // real, effective, saved, file system
	GID        []int             `json:"gid"`
	Groups     []int             `json:"groups"`
	Caps       map[string]string `json:"caps"`       // CapInh, CapPrm, CapEff, CapBnd, CapAmb in hex
	Signals    map[string]string `json:"signals"`    // SigBlk, SigIgn, SigCgt in hex
	Attributes map[string]string `json:"attributes"` // Umask, NoNewPrivs, Seccomp, Seccomp_filters, oom_score_adj
	Limits     map[string]string `json:"limits"`     // name as in proc_pid_limits(5): "soft hard"
	FDs        map[int]FD        `json:"fds"`
	Namespaces map[string]string `json:"namespaces"` // "mnt": "mnt:[4026531841]"
}

// An FD is one open file descriptor.
type FD struct {
	Target string `json:"target"` // as the link in /proc reads
	Flags  string `json:"flags"`  // octal, O_CLOEXEC (02000000) included
}

// Read describes a process by its pid; root is needed for one of another user.
func Read(pid int) (*State, error) {
	r := reader{dir: filepath.Join("/proc", strconv.Itoa(pid))}
	s := &State{
		Argv: r.strings("cmdline"),
		Env:  map[string]string{},
		CWD:  r.link("cwd"), Root: r.link("root"), Exe: r.link("exe"),
		Cgroup: r.cgroup(),
		Limits: r.limits(), FDs: r.fds(), Namespaces: r.namespaces(),
	}
	for _, e := range r.strings("environ") {
		name, value, _ := strings.Cut(e, "=")
		s.Env[name] = value
	}
	status := r.status()
	s.UID, s.GID, s.Groups = r.numbers(status["Uid"]), r.numbers(status["Gid"]), r.numbers(status["Groups"])
	s.Caps = pick(status, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
	s.Signals = pick(status, "SigBlk", "SigIgn", "SigCgt")
	s.Attributes = pick(status, "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters")
	s.Attributes["oom_score_adj"] = strings.TrimSpace(r.file("oom_score_adj"))
	if r.err != nil {
		return nil, fmt.Errorf("read state of process %d: %w", pid, r.err)
	}
	return s, nil
}

func pick(from map[string]string, names ...string) map[string]string {
	m := map[string]string{}
	for _, n := range names {
		m[n] = from[n]
	}
	return m
}

// A reader keeps the first error.
type reader struct {
	dir string
	err error
}

func (r *reader) note(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) file(name string) string {
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	r.note(err)
	return string(b)
}

func (r *reader) link(name string) string {
	target, err := os.Readlink(filepath.Join(r.dir, name))
	r.note(err)
	return target
}

// strings splits a file of NUL-terminated strings.
func (r *reader) strings(name string) []string {
	text := strings.TrimSuffix(r.file(name), "\x00")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

func (r *reader) status() map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(r.file("status")) {
		name, value, _ := strings.Cut(line, ":")
		m[name] = strings.TrimSpace(value)
	}
	return m
}

func (r *reader) numbers(s string) []int {
	var all []int
	for f := range strings.FieldsSeq(s) {
		n, err := strconv.Atoi(f)
		r.note(err)
		all = append(all, n)
	}
	return all
}

// cgroup is the path on the unified hierarchy, as the reader's cgroup namespace shows it.
func (r *reader) cgroup() string {
	for line := range strings.Lines(r.file("cgroup")) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

// limits parses the table of proc_pid_limits(5): a name of several words, then columns.
func (r *reader) limits() map[string]string {
	m := map[string]string{}
	text := r.file("limits")
	header, rows, _ := strings.Cut(text, "\n")
	soft, end := strings.Index(header, "Soft Limit"), strings.Index(header, "Units")
	if soft < 0 || end < 0 {
		r.note(fmt.Errorf("unexpected header of limits: %q", header))
		return m
	}
	for line := range strings.Lines(rows) {
		if len(line) < end {
			continue
		}
		m[strings.TrimSpace(line[:soft])] = strings.Join(strings.Fields(line[soft:end]), " ")
	}
	return m
}

func (r *reader) fds() map[int]FD {
	m := map[int]FD{}
	entries, err := os.ReadDir(filepath.Join(r.dir, "fd"))
	r.note(err)
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(r.dir, "fd", e.Name()))
		n, err2 := strconv.Atoi(e.Name())
		if err != nil || err2 != nil {
			continue // closed meanwhile
		}
		fd := FD{Target: target}
		info, err := os.ReadFile(filepath.Join(r.dir, "fdinfo", e.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			if flags, ok := strings.CutPrefix(line, "flags:"); ok {
				fd.Flags = strings.TrimSpace(flags)
			}
		}
		m[n] = fd
	}
	return m
}

func (r *reader) namespaces() map[string]string {
	m := map[string]string{}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		m[name] = r.link("ns/" + name)
	}
	return m
}
