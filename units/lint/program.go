package lint

import (
	"path"
	"slices"

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
