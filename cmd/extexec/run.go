package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
)

func newRun(a *app) *cobra.Command {
	var (
		o    reload.RunOptions
		dirs stateDir
	)
	c := &cobra.Command{
		Use:   "run [flags] -- CMD [ARG...]",
		Short: "Execute a command with extensions laid over its /usr, /opt and /etc",
		Long: `Run gives itself a mount namespace of its own, lays the extensions over its
hierarchies, and executes the command in place: same process, same open files.

In a unit it finds out which unit it is in, and takes what that says in [Service]
and [X-Extexec]:

    ExecStart=!/usr/bin/extexec run -- /usr/sbin/nginx -g 'daemon off;'
    ExecReload=+/usr/bin/extexec reload

The "!" lets systemd apply the unit's sandbox and leave User= to extexec.

By hand the extensions are given as flags, or by --unit, and the instance has a
name, by which "extexec reload NAME" finds it. Of a unit only the extensions and
[X-Extexec] count then: the command keeps the user and the directory of the caller.

An extension is a directory, an image, or a "NAME.v/" directory with versions of
it, of which the newest is picked (systemd.v(7)).`,
		Example: `  sudo extexec run --name web --extension-directory /srv/conf/web.v -- nginx -g 'daemon off;'
  sudo extexec run --unit ./web.service -- nginx -g 'daemon off;'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("run wants a command: extexec run [flags] -- CMD [ARG...]")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.Dirs, err = dirs.dirs(); err != nil {
				return err
			}
			for _, list := range []*[]string{&o.Flags.Images, &o.Flags.Directories} {
				if err := absolute(*list); err != nil {
					return err
				}
			}
			if o.Flags.ImagePolicy != "" {
				if _, err := policy.Parse(o.Flags.ImagePolicy); err != nil {
					return &exitError{code: exitUsage, err: err}
				}
			}
			if strings.Contains(o.Unit, "/") {
				if o.Unit, err = filepath.Abs(o.Unit); err != nil {
					return fmt.Errorf("find unit file %q: %w", o.Unit, err)
				}
			}
			o.Argv, o.Probe = args, nsmount.Probe
			o.Warn, o.FellBack = func(text string) { a.log.Warn(text) }, a.logFellBack
			err = reload.Run(c.Context(), o)
			if o.Unit != "" {
				err = orPath(err)
			}
			return runError(err)
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&o.Unit, "unit", "", "take the settings of `UNIT`: a name, or with a slash in it the path of a unit file")
	f.StringVar(&o.Name, "name", "", "call the instance `NAME` (default: the unit's name)")
	f.StringArrayVar(&o.Flags.Directories, "extension-directory", nil, "lay the extension in directory `PATH` over the hierarchies, above what the unit has; the last one given wins")
	f.StringArrayVar(&o.Flags.Images, "extension-image", nil, "the same for the extension in image `PATH`; images lie below the directories of the other flag")
	f.StringArrayVar(&o.Flags.Hierarchies, "hierarchy", nil, "overlay `DIR`, which is /usr, /opt, /etc or below, instead of these three (may be given several times)")
	f.StringVar(&o.Flags.ImagePolicy, "image-policy", "", "what images may be, as `POLICY` of systemd.image-policy(7), instead of what the unit says: \"root=signed:usr=signed+absent\"")
	f.BoolVar(&o.Flags.AnyPath, "allow-untrusted-path", false, "take extensions also from where a user other than root can replace them")
	f.StringVar(&o.Argv0, "argv0", "", "what the command is told that it is called, as ExecStart=@ does")
	dirs.flag(c)
	return c
}

// absolute makes refs absolute; the prefixes "-" and "+" stay in front.
func absolute(refs []string) error {
	for i, r := range refs {
		path := strings.TrimLeft(r, "-+")
		if path == "" || filepath.IsAbs(path) {
			continue
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("find extension %q: %w", r, err)
		}
		refs[i] = r[:len(r)-len(path)] + abs
	}
	return nil
}

// runError gives a failed start the exit code that systemd has for it.
func runError(err error) error {
	var exit *reload.ExitError
	switch {
	case errors.Is(err, reload.ErrNoRunName):
		return &exitError{code: exitUsage, err: err}
	case errors.As(err, &exit):
		return &exitError{code: exit.Code, err: err}
	}
	return err
}
