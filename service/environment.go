package service

import (
	"slices"
	"strconv"
	"strings"
)

// processOnly are variables about the one process that systemd started: they
// would be wrong in another, or tell it to take descriptors for its own.
var processOnly = []string{
	"MAINPID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM",
}

// environment puts a command's environment together; of two assignments to one
// variable the later one stays.
func environment(base []string, mainPID int, added []string) []string {
	base = slices.DeleteFunc(slices.Clone(base), func(a string) bool {
		name, _, _ := strings.Cut(a, "=")
		return slices.Contains(processOnly, name)
	})
	all := append(append(base, "MAINPID="+strconv.Itoa(mainPID)), added...)
	last := map[string]int{}
	for i, a := range all {
		name, _, _ := strings.Cut(a, "=")
		last[name] = i
	}
	var env []string
	for i, a := range all {
		name, _, _ := strings.Cut(a, "=")
		if last[name] == i {
			env = append(env, a)
		}
	}
	return env
}

// defaultPath is systemd's own.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates lists the paths to try for a command, in turn.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := defaultPath
	for _, a := range env {
		if v, ok := strings.CutPrefix(a, "PATH="); ok {
			path = v
		}
	}
	var paths []string
	for dir := range strings.SplitSeq(path, ":") {
		if strings.HasPrefix(dir, "/") {
			paths = append(paths, strings.TrimSuffix(dir, "/")+"/"+name)
		}
	}
	return paths
}
