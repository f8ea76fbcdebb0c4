package main

import (
	"github.com/spf13/cobra"

	"github.com/extexec/extexec/units"
)

func newWrap(a *app) *cobra.Command {
	v := &dropInVerb{app: a, kind: units.Wrap, make: units.ForWrap}
	return v.command(&cobra.Command{
		Use:   "wrap [flags] UNIT",
		Short: "Have extexec start a unit's service, with its extensions",
		Long: `Wrap writes a drop-in, /etc/systemd/system/UNIT.d/50-extexec.conf, with which extexec
starts the service ("extexec run" before the command in ExecStart=) and reloads it. It
has systemd read it, and shows it. The unit's own ExecReload= lines are kept as
ReloadCommand=; one whose prefix cannot be kept there is refused. Extensions of
[Service] move to [X-Extexec]; those given as flags are added.

Commands of ExecStartPost= and ExecStop= that run beside the service get "extexec exec"
before them, so that they see what it sees; those that do not are named. Settings of
the sandbox that forbid the wrapper are named, and nothing is written then;
"extexec adopt" is the other way.

When anything fails, all is as it was. --undo takes the drop-in back, whatever has
become of the unit. Running wrap again makes the drop-in anew, for a unit that has
changed; extensions that were given as flags stay unless others are given.`,
		Example: `  sudo extexec wrap --dry-run --extension-directory /srv/conf/nginx.v nginx
  sudo extexec wrap --extension-directory /srv/conf/nginx.v nginx
  sudo extexec wrap --undo nginx`,
	})
}
