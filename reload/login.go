package reload

import (
	"os"
	"slices"
	"strings"

	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/service/credential"
	"github.com/extexec/extexec/unitfile/settings"
)

// setLogin sets the variables that systemd would have set for User=, where it had
// not left the user to us. What the unit's Environment= and EnvironmentFile= say
// comes later for systemd, so what is there already stays; UnsetEnvironment= comes
// last of all.
func setLogin(u settings.Service, variables []string) error {
	if u.NoLoginEnvironment {
		return nil
	}
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		if _, set := os.LookupEnv(name); set || slices.Contains(u.UnsetEnvironment, name) || slices.Contains(u.UnsetEnvironment, v) {
			continue
		}
		if err := setenv(v); err != nil {
			return err
		}
	}
	return nil
}

func setenv(assignment string) error {
	name, value, _ := strings.Cut(assignment, "=")
	return os.Setenv(name, value)
}

// filtersWithPrivileges is the systemd version that came to load seccomp filters
// before it changes the user. Earlier ones do it afterwards: that takes
// no_new_privs, so a service with User= and any filter has it there, although
// nothing says NoNewPrivileges=, systemd.exec(5).
const filtersWithPrivileges = 255

// impliedNoNewPrivs has no_new_privs set where systemd would. Must run in the host
// view. A manager whose version cannot be told is taken for an old one.
func impliedNoNewPrivs(change *credential.Change) error {
	if !change.DropsPrivileges() {
		return nil
	}
	filtered, err := haveFilter()
	if err != nil || !filtered {
		return err
	}
	if version, ok := service.ManagerVersion(); !ok || version < filtersWithPrivileges {
		change.SetNoNewPrivs()
	}
	return nil
}
