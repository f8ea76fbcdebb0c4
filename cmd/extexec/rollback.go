package main

import (
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/state"
)

func newRollback(a *app) *cobra.Command {
	var (
		o      reload.Options
		dirs   stateDir
		number uint64
	)
	c := &cobra.Command{
		Use:   "rollback [flags] NAME [GENERATION]",
		Short: "Go back to the extensions that a service had before",
		Long: `Rollback is a reload whose extensions are those of an earlier generation, see
"extexec history": by default of the last one that was committed, had others than
the service has now, and is not held. The service's checks count as ever. What
comes of it is a new generation.

It works as long as the versions are there: where one is gone, or is something
else by now, it is named, and nothing changes.

What was left is held: of each extension, the versions after the one that came
back, up to the one that was left, are not picked again, by reload or by a start,
until a newer one appears, or with "extexec reload --force", or after "extexec
unhold".`,
		Example: `  sudo extexec rollback web
  sudo extexec rollback web.service 12`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return fmt.Errorf("rollback wants a NAME, perhaps with a GENERATION, and got %d arguments", len(args))
			}
			if len(args) == 1 {
				return nil
			}
			var err error
			if number, err = strconv.ParseUint(args[1], 10, 64); err != nil || number == 0 {
				return wantGeneration(dirs, args[0], args[1])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			if o.Dirs, err = dirs.dirs(); err != nil {
				return err
			}
			o.Name, o.Limits, o.Manager = args[0], nsmount.Probe(), bus{}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			res, err := reload.Rollback(ctx, o, number)
			a.warn(res)
			if err != nil {
				return reloadError(err)
			}
			a.report(res)
			a.reportBack(res, o.Dirs)
			return nil
		},
	}
	c.ValidArgsFunction = completeGenerations(&dirs)
	c.SetFlagErrorFunc(notANumber)
	lockWait(c, &o.LockWait, "another reload of the same name")
	dirs.flag(c)
	return c
}

// wantGeneration says which numbers there are. A "-" before one makes it a flag.
func wantGeneration(dir stateDir, name, got string) error {
	dirs, err := dir.dirs()
	if err != nil {
		return err
	}
	return fmt.Errorf("rollback wants the number of a GENERATION, and got %q: %s shows them", got, dirs.Hint("history", name))
}

// notANumber says of what looks like a flag, "-3", that a generation is meant by its number.
func notANumber(c *cobra.Command, err error) error {
	var flag *pflag.NotExistError
	if !errors.As(err, &flag) {
		return err
	}
	if _, no := strconv.ParseUint(flag.GetSpecifiedShortnames(), 10, 64); no != nil {
		return err
	}
	return fmt.Errorf("%s wants the number of a GENERATION, as history shows it, and got %q: it does not count backwards", c.Name(), "-"+flag.GetSpecifiedShortnames())
}

// reportBack says what a rollback went back to, and what is held now.
func (a *app) reportBack(res *reload.Result, dirs state.Dirs) {
	if !res.Exchanged {
		return
	}
	a.log.Info(fmt.Sprintf("%s: its extensions are those of generation %d", res.Name, res.Back))
	for _, h := range res.Holds {
		a.log.Info(fmt.Sprintf("%s: %s is held %s; lift that with: %s", res.Name, h.Ref, until(h), dirs.Hint("unhold", res.Name, h.Ref)))
	}
}

// until says how long something is held.
func until(h state.Hold) string {
	if h.Version == "" {
		return "as long as it is what it was"
	}
	return "until there is something newer than " + h.Version
}

// completeGenerations completes a name, then the numbers of its generations.
func completeGenerations(d *stateDir) cobra.CompletionFunc {
	return completeOf(d, func(u *state.Unit) ([]cobra.Completion, error) {
		h, err := historyOf(u)
		if err != nil {
			return nil, err
		}
		var all []cobra.Completion
		for _, g := range slices.Backward(h.Generations) {
			if g.Committed() {
				all = append(all, cobra.CompletionWithDesc(fmt.Sprint(g.Number), visible(extensions(g))))
			}
		}
		return all, nil
	})
}
