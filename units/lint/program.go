package lint

import (
	"path"
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// verb is the verb of a command that is extexec, "" of any other.
func verb(c unitfile.ExecCommand) string {
	if path.Base(c.Path) != "extexec" || len(c.Argv) < 2 {
		return ""
	}
	return c.Argv[1]
}

// IsReload tells whether a command is extexec reload.
func IsReload(c unitfile.ExecCommand) bool { return verb(c) == "reload" }

// IsRun tells whether a command is extexec run: the wrapper.
func IsRun(c unitfile.ExecCommand) bool { return verb(c) == "run" }

// ours are the commands of the unit that are extexec, each verb's first one.
func ours(u *unitfile.Unit) (lines []unitfile.ExecLine) {
	for _, key := range []string{"ExecStart", "ExecReload"} {
		for _, l := range execs(u, key) {
			if verb(l.ExecCommand) != "" {
				lines = append(lines, l)
				break
			}
		}
	}
	return lines
}

// wrapperFlags are the extensions and hierarchies that the flags of extexec run name.
func wrapperFlags(argv []string) (images, directories, hierarchies []string) {
	to := map[string]*[]string{"--extension-image": &images, "--extension-directory": &directories, "--hierarchy": &hierarchies}
	for i := 0; i < len(argv) && argv[i] != "--"; i++ {
		name, value, joined := strings.Cut(argv[i], "=")
		list := to[name]
		switch {
		case list == nil:
		case joined:
			*list = append(*list, value)
		case i+1 < len(argv):
			i++
			*list = append(*list, argv[i])
		}
	}
	return images, directories, hierarchies
}

// program is the base name of what a command runs in the end.
func program(c unitfile.ExecCommand) string {
	if !IsRun(c) {
		return path.Base(c.Path)
	}
	if i := slices.Index(c.Argv, "--"); i >= 0 && i+1 < len(c.Argv) {
		return path.Base(c.Argv[i+1])
	}
	return ""
}

// execs are the commands of a setting of [Service]; those of a line that does not
// parse are left out: systemd says so itself, and starts nothing.
func execs(u *unitfile.Unit, key string) []unitfile.ExecLine {
	lines, err := u.Exec("Service", key)
	if err != nil {
		return nil
	}
	return lines
}
