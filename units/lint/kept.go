package lint

import (
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// Kept is how a unit's own reload goes on once extexec has taken over ExecReload=.
type Kept struct {
	Commands []string // values of ReloadCommand=
	Signal   string   // value of ReloadSignal=, "" for none
	// Refused are the lines that cannot be kept.
	Refused []Finding
}

// KeptReload says what becomes of the ExecReload= lines of a unit. Those of ours are
// left out. The error is a *unitfile.SyntaxError.
func KeptReload(u *unitfile.Unit) (Kept, error) {
	lines, err := u.Exec("Service", "ExecReload")
	if err != nil {
		return Kept{}, err
	}
	var k Kept
	for i, l := range lines {
		if IsReload(l.ExecCommand) {
			continue
		}
		prefix := strings.ReplaceAll(l.Prefix, "!!", "") // which changes nothing since Linux 4.3
		if !strings.Contains(l.Text, "$") {
			prefix = strings.ReplaceAll(prefix, ":", "") // there is nothing to expand
		}
		if signal, ok := mainSignal(l.ExecCommand); ok && i == len(lines)-1 && strings.Trim(prefix, "+!") == "" && prefix != "" {
			k.Signal = signal
			continue
		}
		if bad := strings.Trim(prefix, "-"); bad != "" || l.Text == "" {
			k.Refused = append(k.Refused, notKept(l, bad))
			continue
		}
		k.Commands = append(k.Commands, prefix+l.Text)
	}
	return k, nil
}

func notKept(l unitfile.ExecLine, prefix string) Finding {
	remedy := `write it without the prefix, as the service's own user can run it, or as ReloadSignal= or ReloadCommand= in [X-Extexec], and reset ExecReload= in a drop-in that sorts before this one`
	if l.Text == "" {
		return atLine(l, Error, "write the command without an escape before it", "the command in ExecReload= cannot be kept as ReloadCommand=: its prefix is escaped")
	}
	return atLine(l, Error, remedy, "the prefix %q of %q cannot be kept as ReloadCommand=", prefix, l.Prefix+l.Text)
}

// mainSignal is the signal of a command "kill -HUP $MAINPID".
func mainSignal(c unitfile.ExecCommand) (string, bool) {
	name := c.Path[strings.LastIndexByte(c.Path, '/')+1:]
	var signal string
	switch args := c.Argv[1:]; {
	case name != "kill":
		return "", false
	case len(args) == 2 && strings.HasPrefix(args[0], "-") && isMainPID(args[1]):
		signal = args[0][1:]
	case len(args) == 3 && args[0] == "-s" && isMainPID(args[2]):
		signal = args[1]
	default:
		return "", false
	}
	_, err := settings.ParseSignal(signal)
	return signal, err == nil
}

func isMainPID(s string) bool { return s == "$MAINPID" || s == "${MAINPID}" }
