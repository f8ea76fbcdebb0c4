package settings

import (
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// wrapperCalls are the system calls by which a filter is judged: what the
// wrapper makes and a sandbox may take away. What every service makes (open,
// execve, clone, ...) is not among them.
var wrapperCalls = []string{
	"fsopen", "fsconfig", "fsmount", "open_tree", "move_mount", "mount_setattr", "mount", "umount2",
	"unshare", "setns",
	"setgroups", "setresgid", "setresuid", "capset",
}

// callGroups is what systemd's groups have of wrapperCalls
// (systemd-analyze syscall-filter; 252 to 262). A group that is not here has
// none.
var callGroups = map[string][]string{
	"@mount": {"fsopen", "fsconfig", "fsmount", "open_tree", "move_mount", "mount_setattr", "mount", "umount2"},
	// @privileged has no setresgid.
	"@privileged":     {"setgroups", "setresuid", "capset"},
	"@process":        {"unshare", "setns"},
	"@setuid":         {"setgroups", "setresgid", "setresuid"},
	"@system-service": {"unshare", "setns", "setgroups", "setresgid", "setresuid", "capset"},
	"@known":          wrapperCalls,
}

// judgeSyscalls adds the lines up as config_parse_syscall_filter does: the
// first one decides whether the filter is a list of what is allowed or of what
// is denied; later lines of that kind add to it, of the other take away.
func judgeSyscalls(_ Service, as []unitfile.Assignment) (where unitfile.Assignment, why string) {
	filter := map[string]bool{} // of wrapperCalls
	started, allowList := false, false
	var last unitfile.Assignment
	for _, a := range as {
		if a.Value == "" {
			started, filter = false, map[string]bool{}
			continue
		}
		list, invert := strings.CutPrefix(a.Value, "~")
		if !started {
			started, allowList, last = true, !invert, a
		}
		for _, word := range strings.Fields(list) {
			name, _, _ := strings.Cut(word, ":") // NAME:ERRNO
			for _, call := range expandGroup(name) {
				if _, had := filter[call]; had != (invert != allowList) {
					last = a
				}
				if invert != allowList {
					filter[call] = true
				} else {
					delete(filter, call)
				}
			}
		}
	}
	if !started {
		return unitfile.Assignment{}, ""
	}
	var missing []string
	for _, call := range wrapperCalls {
		if filter[call] != allowList {
			missing = append(missing, call)
		}
	}
	if missing == nil {
		return unitfile.Assignment{}, ""
	}
	return last, "it takes away " + describeCalls(missing)
}

func expandGroup(name string) []string {
	if strings.HasPrefix(name, "@") {
		return callGroups[name]
	}
	if slices.Contains(wrapperCalls, name) {
		return []string{name}
	}
	return nil
}

// describeCalls names a whole group instead of its calls.
func describeCalls(calls []string) string {
	var words []string
	for _, group := range []string{"@mount", "@setuid"} {
		in := callGroups[group]
		all := func(c string) bool { return !slices.Contains(calls, c) }
		if slices.ContainsFunc(in, all) {
			continue
		}
		words = append(words, group)
		calls = slices.DeleteFunc(slices.Clone(calls), func(c string) bool { return slices.Contains(in, c) })
	}
	return strings.Join(append(words, calls...), " ")
}
