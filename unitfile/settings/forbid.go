package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// Forbidden is a setting of [Service] under which the wrapper (extexec run in
// ExecStart=!) cannot work.
type Forbidden struct {
	Setting string // "CapabilityBoundingSet"
	File    string
	Line    int
	Why     string // what the wrapper needs that the setting takes away
}

// Error is one line for the user, with the way out.
func (f Forbidden) Error() string {
	return fmt.Sprintf("%s:%d: %s= forbids the wrapper: %s; remove it for this unit, or adopt it: let systemd apply the extensions, with ExtensionDirectories= and ExtensionImages= in [Service]",
		f.File, f.Line, f.Setting, f.Why)
}

// judges say of each setting whether it forbids the wrapper. as are all its
// assignments, in order, at least one. where is the assignment to blame; why is
// "" where nothing forbids.
var judges = []struct {
	key   string
	judge func(s Service, as []unitfile.Assignment) (where unitfile.Assignment, why string)
}{
	{"CapabilityBoundingSet", judgeBoundingSet},
	{"SystemCallFilter", judgeSyscalls},
	{"RestrictNamespaces", judgeNamespaces},
	{"RestrictFileSystems", judgeSet("new file systems are mounted and read")},
	{"PrivateUsers", judgeOn("without the host's user namespace there is no right to enter the host's mount namespace")},
	{"PrivatePIDs", judgeOn("its /proc/1 is not the service manager, in whose mount namespace images are found")},
	{"RootImage", judgeSet("extexec itself and the service's base would be in different roots")},
	{"RootDirectory", judgeRoot},
	{"RootMStack", judgeSet("extexec itself and the service's base would be in different roots")},
	{"AppArmorProfile", judgeProfile("the profile is entered at the first exec and confines extexec, not only the service")},
	{"SELinuxContext", judgeProfile("the context is entered at the first exec and confines extexec, not only the service")},
	{"SecureBits", judgeSecureBits},
	{"PAMName", judgeSet("systemd opens no PAM session for a command with the prefix \"!\"")},
}

// sandboxKeys are the settings that Forbids judges.
var sandboxKeys = func() (keys []string) {
	for _, j := range judges {
		keys = append(keys, j.key)
	}
	return keys
}()

// Forbids lists each setting of the unit that forbids the wrapper; nil where
// it can be used. A seccomp filter may kill a process before it can speak, so
// this is asked before the wrapper is put into a unit, too.
func Forbids(s Settings) []Forbidden {
	var found []Forbidden
	for _, j := range judges {
		var as []unitfile.Assignment
		for _, a := range s.Service.Sandbox {
			if a.Key == j.key {
				as = append(as, a)
			}
		}
		if len(as) == 0 {
			continue
		}
		if where, why := j.judge(s.Service, as); why != "" {
			found = append(found, Forbidden{Setting: j.key, File: where.File, Line: where.Line, Why: why})
		}
	}
	return found
}

// changesUser tells what the wrapper has to do for User= and its like.
func (s Service) changesUser() (user, groups bool) {
	user = s.DynamicUser || s.User != "" && s.User != "root" && s.User != "0"
	return user, user || s.Group != "" || len(s.SupplementaryGroups) > 0
}

func judgeBoundingSet(s Service, as []unitfile.Assignment) (unitfile.Assignment, string) {
	need := []string{"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"}
	user, groups := s.changesUser()
	if user {
		need = append(need, "CAP_SETUID")
	}
	if groups {
		need = append(need, "CAP_SETGID")
	}
	var missing []string
	for _, c := range need {
		if !s.CapabilityBoundingSet.Has(c) {
			missing = append(missing, c)
		}
	}
	if missing == nil {
		return unitfile.Assignment{}, ""
	}
	return as[len(as)-1], "it lacks " + strings.Join(missing, ", ")
}

// judgeSet forbids where the setting has any value after the last reset.
func judgeSet(why string) func(Service, []unitfile.Assignment) (unitfile.Assignment, string) {
	return func(_ Service, as []unitfile.Assignment) (unitfile.Assignment, string) {
		if last := as[len(as)-1]; last.Value != "" {
			return last, why
		}
		return unitfile.Assignment{}, ""
	}
}

// judgeOn forbids where the setting is anything but "no".
func judgeOn(why string) func(Service, []unitfile.Assignment) (unitfile.Assignment, string) {
	return func(_ Service, as []unitfile.Assignment) (unitfile.Assignment, string) {
		last := as[len(as)-1]
		if on, err := unitfile.ParseBool(last.Value); last.Value == "" || err == nil && !on {
			return unitfile.Assignment{}, ""
		}
		return last, why
	}
}

// judgeProfile is judgeSet for a label; "-" alone names none.
func judgeProfile(why string) func(Service, []unitfile.Assignment) (unitfile.Assignment, string) {
	return func(_ Service, as []unitfile.Assignment) (unitfile.Assignment, string) {
		last := as[len(as)-1]
		if strings.TrimPrefix(last.Value, "-") == "" {
			return unitfile.Assignment{}, ""
		}
		return last, why
	}
}

func judgeRoot(s Service, as []unitfile.Assignment) (unitfile.Assignment, string) {
	if s.RootDirectory == "" {
		return unitfile.Assignment{}, ""
	}
	return as[len(as)-1], "extexec itself and the service's base would be in different roots"
}

func judgeSecureBits(_ Service, as []unitfile.Assignment) (where unitfile.Assignment, why string) {
	for _, a := range as {
		if a.Value == "" {
			where, why = unitfile.Assignment{}, ""
		}
		if slices.Contains(strings.Fields(a.Value), "noroot") {
			where, why = a, "with noroot, root has no capabilities after the exec of extexec"
		}
	}
	return where, why
}

// judgeNamespaces: the wrapper makes a mount namespace. The values add up as in
// config_parse_namespace_flags: a boolean replaces, a list allows, "~" denies.
func judgeNamespaces(_ Service, as []unitfile.Assignment) (where unitfile.Assignment, why string) {
	allowed, set := true, false
	for _, a := range as {
		before := allowed
		list, invert := strings.CutPrefix(a.Value, "~")
		has := slices.Contains(strings.Fields(list), "mnt")
		restrict, err := unitfile.ParseBool(a.Value)
		switch {
		case a.Value == "":
			allowed = true
		case err == nil:
			allowed = !restrict
		case !set:
			allowed = has != invert
		case invert:
			allowed = allowed && !has
		default:
			allowed = allowed || has
		}
		set = a.Value != ""
		if before && !allowed {
			where = a
		}
	}
	if allowed {
		return unitfile.Assignment{}, ""
	}
	return where, "a mount namespace (mnt) has to be made"
}
