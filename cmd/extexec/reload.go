package main

import (
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
)

func newReload(a *app) *cobra.Command {
	var (
		o    reload.Options
		dirs stateDir
	)
	c := &cobra.Command{
		Use:   "reload [flags] [NAME]",
		Short: "Exchange the extensions of a running service for the newest versions",
		Long: `Reload resolves again what the unit and the flags of "extexec run" ask for: it
picks the newest versions, builds the new overlays aside, and exchanges them
inside the service's running mount namespace. No lookup ever misses a file, and
the process is not restarted. When something fails, the old state stays, or comes
back.

In [X-Extexec] of the unit, ReloadCheck= must succeed before anything goes live,
ReloadCommand= and ReloadSignal= tell the service to read again, and ReloadVerify=
must succeed afterwards. A version that fails the check or the verify is not picked
again.

NAME is that of a unit, where ".service" may be left out, or what "extexec run
--name" said. Without a NAME it reloads the service of $MAINPID: that is what a
unit has in

    ExecReload=+/usr/bin/extexec reload

Where systemd itself has applied ExtensionImages= or ExtensionDirectories=, its
overlays are recognised and replaced.

Where nothing has changed, the hierarchies are left alone, but the service is
told all the same, unless --if-changed. Over a base that can be written to, the
overlay is made anew even then: it may hold on to a file that was replaced. What is
compared is the main process's mount namespace; with Namespaces=unit, "extexec
repair" looks at the others.`,
		Example: `  sudo extexec reload web
  sudo extexec reload --if-changed web.service`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("reload wants one NAME, and got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			err := reload.LeaveRoot()
			if err != nil {
				return err
			}
			if o.Dirs, err = dirs.dirs(); err != nil {
				return err
			}
			if len(args) == 1 {
				o.Name = args[0]
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			o.Limits, o.Manager = nsmount.Probe(), bus{}
			res, err := reload.Reload(ctx, o)
			a.warn(res)
			if err != nil {
				return reloadError(err)
			}
			a.report(res)
			return nil
		},
	}
	c.ValidArgsFunction = completeNames(&dirs)
	f := c.Flags()
	f.BoolVar(&o.Force, "force", false, "exchange although nothing has changed, as a new generation, and pick what was refused or is held, too")
	f.BoolVar(&o.IfChanged, "if-changed", false, "do nothing at all where nothing has changed: no ReloadCommand= and no ReloadSignal= either")
	lockWait(c, &o.LockWait, "another reload of the same name")
	dirs.flag(c)
	return c
}

// warn gives the warnings of a reload, however that ended.
func (a *app) warn(res *reload.Result) {
	for _, w := range res.Warnings {
		a.log.Warn(fmt.Sprintf("%s: %s", res.Name, w))
	}
}

// report says what a reload came to.
func (a *app) report(res *reload.Result) {
	if !res.Exchanged {
		a.log.Info(fmt.Sprintf("%s: unchanged, generation %d", res.Name, res.Generation.Number))
		return
	}
	text := fmt.Sprintf("%s: generation %d is live", res.Name, res.Generation.Number)
	if n := len(res.Generation.Extensions); n == 1 {
		text += ", 1 extension"
	} else {
		text += fmt.Sprintf(", %d extensions", n)
	}
	a.logExchange(text, res)
}

// reloadError gives a failed reload its exit code.
func reloadError(err error) error {
	var (
		f     *reload.Failure
		check *reload.CommandError
	)
	switch {
	case errors.Is(err, reload.ErrNoName):
		return &exitError{code: exitUsage, err: reload.ErrNoName}
	case exitCode(err) != exitFailed:
		return err
	case errors.As(err, &f) && f.Left == reload.Unchanged && errors.As(err, &check):
		return &exitError{code: exitCheck, err: err}
	case errors.As(err, &f) && f.Left == reload.TakenBack:
		return &exitError{code: exitTakenBack, err: err}
	case errors.As(err, &f) && f.Left == reload.Broken:
		return &exitError{code: exitUndoFailed, err: err}
	}
	return err
}
