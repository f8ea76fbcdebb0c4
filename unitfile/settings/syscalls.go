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

// journalCalls are those that an entry in the journal takes. The wrapper can do
// without.
var journalCalls = []string{"socket", "setsockopt", "sendto"}

var judgedCalls = slices.Concat(wrapperCalls, journalCalls)

// callGroups is what systemd's groups have of judgedCalls
// (systemd-analyze syscall-filter; 252 to 262). A group that is not here has
// none.
var callGroups = map[string][]string{
	"@mount": {"fsopen", "fsconfig", "fsmount", "open_tree", "move_mount", "mount_setattr", "mount", "umount2"},
	// @privileged has no setresgid.
	"@privileged":     {"setgroups", "setresuid", "capset"},
	"@network-io":     journalCalls,
	"@process":        {"unshare", "setns"},
	"@setuid":         {"setgroups", "setresgid", "setresuid"},
	"@system-service": slices.Concat([]string{"unshare", "setns", "setgroups", "setresgid", "setresuid", "capset"}, journalCalls),
	"@known":          judgedCalls,
}

func judgeSyscalls(_ Service, as []unitfile.Assignment) (where unitfile.Assignment, why string) {
	where, missing := missingCalls(as, wrapperCalls)
	if missing == nil {
		return unitfile.Assignment{}, ""
	}
	return where, "it takes away " + describeCalls(missing)
}

// DeniesJournal says whether SystemCallFilter= takes away what an entry in the journal
// takes: the filter may kill for it.
func (s Service) DeniesJournal() bool {
	var as []unitfile.Assignment
	for _, a := range s.Sandbox {
		if a.Key == "SystemCallFilter" {
			as = append(as, a)
		}
	}
	_, missing := missingCalls(as, journalCalls)
	return missing != nil
}

// missingCalls are those of some judgedCalls that a filter takes away, and where. It
// adds the lines up as config_parse_syscall_filter does: the first one decides
// whether the filter is a list of what is allowed or of what is denied; later lines
// of that kind add to it, of the other take away.
func missingCalls(as []unitfile.Assignment, need []string) (where unitfile.Assignment, missing []string) {
	filter := map[string]bool{} // of judgedCalls
	started, allowList := false, false
	for _, a := range as {
		if a.Value == "" {
			started, filter = false, map[string]bool{}
			continue
		}
		list, invert := strings.CutPrefix(a.Value, "~")
		if !started {
			started, allowList, where = true, !invert, a
		}
		for _, word := range strings.Fields(list) {
			name, _, _ := strings.Cut(word, ":") // NAME:ERRNO
			for _, call := range expandGroup(name) {
				if _, had := filter[call]; had != (invert != allowList) && slices.Contains(need, call) {
					where = a
				}
				if invert != allowList {
					filter[call] = true
				} else {
					delete(filter, call)
				}
			}
		}
	}
	for _, call := range need {
		if started && filter[call] != allowList {
			missing = append(missing, call)
		}
	}
	return where, missing
}

func expandGroup(name string) []string {
	if strings.HasPrefix(name, "@") {
		return callGroups[name]
	}
	if slices.Contains(judgedCalls, name) {
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
