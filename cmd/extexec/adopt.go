package main

import (
	"github.com/spf13/cobra"

	"github.com/extexec/extexec/units"
)

func newAdopt(a *app) *cobra.Command {
	v := &dropInVerb{app: a, kind: units.Adopt, make: units.ForAdopt}
	return v.command(&cobra.Command{
		Use:   "adopt [flags] UNIT",
		Short: "Have systemd apply a unit's extensions, and extexec reload them",
		Long: `Adopt writes a drop-in, /etc/systemd/system/UNIT.d/50-extexec.conf, with which systemd
applies the extensions at the start, and extexec exchanges them at a reload. It has
systemd read it, and shows it. The unit's own ExecReload= lines are kept as
ReloadCommand=, so that the service is told after the exchange; one whose prefix
cannot be kept there is refused.

The extensions are those that [Service] lists, and those given as flags. What systemd
applies depends on its version: images from 248, directories from 251, confexts from
254, ".v/" from 256; on 258 and 259 a unit cannot be adopted. Where something is
lacking, "extexec wrap" is the other way.

When anything fails, all is as it was. --undo takes the drop-in back, whatever has
become of the unit. Running adopt again makes the drop-in anew, for a unit that has
changed; extensions that were given as flags stay unless others are given.`,
		Example: `  sudo extexec adopt --dry-run --extension-directory /srv/conf/nginx.v nginx
  sudo extexec adopt --extension-directory /srv/conf/nginx.v nginx
  sudo extexec adopt --undo nginx`,
	})
}
