package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension/version"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/state"
)

func newUnhold(a *app) *cobra.Command {
	var (
		dir  stateDir
		wait time.Duration
	)
	c := &cobra.Command{
		Use:   "unhold [flags] NAME [REF]",
		Short: "Let versions be picked again that a rollback left",
		Long: `Unhold lifts what "extexec rollback" holds: of REF, an extension as "extexec
status" shows it, or of all. The next reload, or the next start, picks the newest
version again. The service need not be running.`,
		Example: `  sudo extexec unhold web && sudo extexec reload web
  sudo extexec unhold web.service /srv/conf/web.v`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return fmt.Errorf("unhold wants a NAME, perhaps with a REF, and got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dirs, err := dir.dirs()
			if err != nil {
				return err
			}
			u, err := remembered(dirs, args[0])
			if err != nil {
				return err
			}
			ref := ""
			if len(args) == 2 {
				ref = args[1]
			}
			lifted, err := reload.Unhold(c.Context(), u, ref, wait)
			if err != nil {
				return err
			}
			for _, h := range lifted {
				a.log.Info(fmt.Sprintf("%s: %s is no longer held: the next reload picks the newest", u.Name(), h.Ref))
			}
			switch {
			case len(lifted) > 0:
				return nil
			case ref != "":
				return fmt.Errorf("unhold %q of %q: it is not held: see %s", ref, u.Name(), u.Hint("status"))
			}
			a.log.Info(u.Name() + ": nothing is held")
			return nil
		},
	}
	c.ValidArgsFunction = completeHolds(&dir)
	lockWait(c, &wait, "a reload of the same name")
	dir.flag(c)
	return c
}

// completeHolds completes a name, then the refs of it that are held.
func completeHolds(d *stateDir) cobra.CompletionFunc {
	return completeOf(d, func(u *state.Unit) ([]cobra.Completion, error) {
		m, err := u.Memory()
		if err != nil {
			return nil, err
		}
		if r, err := u.Load(); err == nil {
			m.Settle(r, version.Compare)
		}
		var refs []cobra.Completion
		for _, h := range m.Holds {
			refs = append(refs, h.Ref)
		}
		return refs, nil
	})
}
