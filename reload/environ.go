package reload

import (
	"os"
	"slices"

	"github.com/extexec/extexec/service"
)

// login are the variables that systemd may keep from a line with a "+".
var login = []string{"USER", "LOGNAME", "HOME", "SHELL"}

// environOf is what the Reload*= commands get. Where systemd runs us as an
// ExecReload= line, that is our own environment, the one of the unit: the main
// process may have put its state into its own and executed itself again, and a
// second one that finds it crashes (haproxy -Ws). Else it is the main process's.
func environOf(p *service.Process) ([]string, error) {
	theirs, err := p.Environ()
	if err != nil || !startedBySystemd() || os.Getenv("MAINPID") == "" {
		return theirs, err
	}
	own := os.Environ()
	for _, name := range login {
		if _, ok := lookup(own, name); ok {
			continue
		}
		if value, ok := lookup(theirs, name); ok {
			own = append(slices.Clip(own), name+"="+value)
		}
	}
	return own, nil
}
