package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxCgroupFile bounds /proc/PID/cgroup: a dozen hierarchies, each with a path.
const maxCgroupFile = 1 << 18

// A hierarchy of cgroups, one line of /proc/PID/cgroup (cgroups(7)).
type cgroupLine struct {
	controllers string // "" for version 2, "name=systemd" for systemd's own of version 1
	path        string
}

// Cgroup is the path of the process's cgroup in the hierarchy that systemd keeps
// its units in, as /proc/PID/cgroup has it: that of version 2, or, where
// systemd does not use it (its "legacy" setup), name=systemd.
func (p *Process) Cgroup() (string, error) {
	lines, err := p.cgroups()
	if err != nil {
		return "", err
	}
	line, err := unitHierarchy(lines)
	return line.path, err
}

// Unit is the name of the systemd unit that the process belongs to, such as
// "web.service"; "" when it belongs to none.
func (p *Process) Unit() (string, error) {
	unit, _, err := p.unit()
	return unit, err
}

// UnitProcesses lists the processes of the unit that the process belongs to,
// those of its sub-cgroups too; of the process's own cgroup where there is no
// unit.
func (p *Process) UnitProcesses() ([]int, error) {
	lines, err := p.cgroups()
	if err != nil {
		return nil, err
	}
	line, err := unitHierarchy(lines)
	if err != nil {
		return nil, err
	}
	root, err := managerRoot("/proc/1/cgroup")
	if err != nil {
		return nil, err
	}
	if _, unitPath := unitOfCgroup(line.path, root); unitPath != "" {
		line.path = unitPath
	}
	return line.processes()
}

func (p *Process) unit() (unit, unitPath string, err error) {
	cgroup, err := p.Cgroup()
	if err != nil {
		return "", "", err
	}
	root, err := managerRoot("/proc/1/cgroup")
	if err != nil {
		return "", "", err
	}
	unit, unitPath = unitOfCgroup(cgroup, root)
	return unit, unitPath, nil
}

func (p *Process) cgroups() ([]cgroupLine, error) {
	text, err := p.read("cgroup", maxCgroupFile)
	if err != nil {
		return nil, p.failed("find the cgroup of", err)
	}
	return parseCgroups(text), nil
}

// parseCgroups parses /proc/PID/cgroup, "ID:CONTROLLERS:PATH" a line. The path
// may have any byte but a newline in it.
func parseCgroups(text []byte) []cgroupLine {
	var lines []cgroupLine
	for line := range bytes.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(f) == 3 && strings.HasPrefix(f[2], "/") {
			lines = append(lines, cgroupLine{controllers: f[1], path: f[2]})
		}
	}
	return lines
}

// unitHierarchy picks the hierarchy that systemd tracks units in. Where both
// are mounted ("hybrid") it is version 2; but where a manager was told to use
// version 1 ("legacy"), version 2 shows the root alone.
func unitHierarchy(lines []cgroupLine) (cgroupLine, error) {
	var found cgroupLine
	for _, l := range lines {
		switch {
		case l.controllers == "" && (l.path != "/" || len(found.path) <= 1):
			found = l
		case l.controllers == "name=systemd" && (found.path == "" || found.path == "/" && l.path != "/"):
			found = l
		}
	}
	if found.path == "" {
		return found, errors.New("find cgroup: neither version 2 nor name=systemd is there")
	}
	return found, nil
}

// managerRoot is the cgroup below which the manager, process 1, keeps its own, by its
// /proc/1/cgroup: "" unless this is a container without a cgroup namespace
// (cg_get_root_path). A manager that is hidden from us (hidepid=, proc(5)) is taken for
// one that has all cgroups.
func managerRoot(file string) (string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		// Not wrapped: who asks about another process must not take it for that one's end.
		return "", fmt.Errorf("find the cgroup of the service manager: %v", err) //nolint:errorlint // see above
	}
	line, err := unitHierarchy(parseCgroups(text))
	if err != nil {
		return "", err
	}
	for _, own := range []string{"/init.scope", "/system.slice", "/system"} {
		if root, ok := strings.CutSuffix(line.path, own); ok {
			return root, nil
		}
	}
	return "", nil
}

// unitOfCgroup finds the unit in the path of a cgroup, and the path of the
// unit's own cgroup, as systemd does (cg_path_get_unit): below the slices, the
// first component is the unit; what follows are cgroups that the unit made, or
// that systemd made in it. Both are "" where there is none.
func unitOfCgroup(cgroup, root string) (unit, unitPath string) {
	rest := strings.TrimPrefix(cgroup, root)
	if rest != "" && rest[0] != '/' {
		return "", "" // "/machine-2" is not below "/machine"
	}
	at := len(cgroup) - len(rest)
	for component := range strings.SplitSeq(strings.TrimPrefix(rest, "/"), "/") {
		at += 1 + len(component)
		// systemd puts "_" before a name that the kernel would take for a file
		// of its own, such as "cgroup.service".
		name := strings.TrimPrefix(component, "_")
		switch {
		case !validUnitName(name):
			return "", ""
		case strings.HasSuffix(name, ".slice"):
			continue
		}
		return name, cgroup[:at]
	}
	return "", ""
}

// validUnitName says that a name could be a running unit's (unit_name_is_valid
// without templates).
func validUnitName(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name) > 255 || !unitTypes[name[dot+1:]] {
		return false
	}
	prefix := name[:dot]
	for _, c := range []byte(prefix) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(`:-_.\@`, c) >= 0:
		default:
			return false
		}
	}
	// "@" first is no name, "@" last a template, which does not run.
	return prefix[0] != '@' && !strings.HasSuffix(prefix, "@")
}

var unitTypes = map[string]bool{
	"service": true, "socket": true, "target": true, "device": true, "mount": true, "automount": true,
	"swap": true, "timer": true, "path": true, "slice": true, "scope": true,
}

// directory opens the cgroup where systemd mounts the hierarchy. The caller
// closes it.
func (l cgroupLine) directory() (*os.File, error) {
	dir, err := l.mountPoint()
	if err != nil {
		return nil, err
	}
	// Cgroups above our own cgroup namespace are shown as "/../x".
	for component := range strings.SplitSeq(l.path, "/") {
		if component == ".." {
			return nil, fmt.Errorf("open cgroup %q: it is outside of this cgroup namespace", l.path)
		}
	}
	return os.OpenFile(path.Join(dir, l.path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// mountPoint is where the hierarchy is mounted. systemd has fixed places for
// them and finds out by statfs(2) which setup there is (cg_unified).
func (l cgroupLine) mountPoint() (string, error) {
	candidates := []string{"/sys/fs/cgroup/" + l.controllers}
	switch l.controllers {
	case "":
		candidates = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
	case "name=systemd":
		candidates = []string{"/sys/fs/cgroup/systemd"}
	}
	want := int64(unix.CGROUP_SUPER_MAGIC)
	if l.controllers == "" {
		want = unix.CGROUP2_SUPER_MAGIC
	}
	for _, dir := range candidates {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && int64(st.Type) == want {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find cgroup hierarchy %q: not mounted at %s", l.controllers, strings.Join(candidates, " or "))
}

// Bounds of a walk over the cgroups of one unit.
const (
	maxCgroups     = 10000
	maxCgroupProcs = 64 << 20
)

// processes lists the processes of a cgroup and of those below it.
func (l cgroupLine) processes() ([]int, error) {
	top, err := l.directory()
	if err != nil {
		return nil, err
	}
	defer top.Close()
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", top.Fd()))
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %q: %w", l.path, err)
	}
	defer root.Close()
	var pids []int
	seen := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went away meanwhile
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		if seen++; seen > maxCgroups {
			return fmt.Errorf("more than %d cgroups", maxCgroups)
		}
		in, err := processesIn(root, path.Join(name, "cgroup.procs"))
		pids = append(pids, in...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %q: %w", l.path, err)
	}
	return pids, nil
}

func processesIn(root *os.Root, name string) ([]int, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCgroupProcs))
	// ENODEV: removed meanwhile. EOPNOTSUPP: a threaded cgroup, whose processes
	// are listed in the one above.
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range bytes.FieldsSeq(text) {
		// 0: a process of another pid namespace.
		if pid, err := strconv.Atoi(string(field)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
