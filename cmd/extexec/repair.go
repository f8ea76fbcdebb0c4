package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/internal/journald"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
)

func newRepair(a *app) *cobra.Command {
	var (
		o      reload.RepairOptions
		dir    stateDir
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "repair [flags] [NAME...]",
		Short: "Find running services that see an older state, and exchange it there",
		Long: `Repair looks at the mount namespaces of running services, and exchanges what is
out of date in them, without a restart:

  - A service with a record (see "extexec list") should show its current
    generation. It does not after a reload that was interrupted or could not be taken
    back whole, or when somebody has unmounted an overlay. With Namespaces=unit the
    other namespaces of the unit's processes count, too.
  - Any other service should show what systemd-sysext or systemd-confext have merged
    on the host. One that was started before the merge or its last refresh may not:
    its own mounts (ProtectSystem=, BindPaths=, ...) can keep the old state in its
    namespace. There the host's tree is exchanged in; the service's own mounts below
    it are kept. A hierarchy that shows neither the host's directory nor an older
    merge (RootDirectory=, TemporaryFileSystem=, extensions of the unit) is left
    alone.

Without a NAME it looks at all of them. Each service is a transaction of its own. With
--dry-run it only says what it found. The exit code is 1 where a service could not be
repaired.`,
		Example: `  sudo extexec repair --dry-run
  sudo systemd-confext refresh && sudo extexec repair`,
		Args: func(_ *cobra.Command, args []string) (err error) {
			for _, name := range args {
				err = errors.Join(err, state.CheckName(name))
			}
			return err
		},
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.Dirs, err = dir.dirs(); err != nil {
				return err
			}
			o.Names, o.Limits = args, nsmount.Probe()
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			all, err := reload.Repair(ctx, o)
			if asJSON {
				if all == nil {
					all = []reload.Repaired{}
				}
				err = errors.Join(err, a.writeJSON(map[string]any{"schema": status.Schema, "services": all}))
			} else if err == nil || len(all) > 0 {
				err = errors.Join(err, writeRepaired(a, all, o.DryRun))
			}
			return errors.Join(err, a.notRepaired(all))
		},
	}
	c.ValidArgsFunction = completeAllNames(&dir)
	f := c.Flags()
	f.BoolVar(&o.DryRun, "dry-run", false, "say what would be exchanged, and change nothing")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	lockWait(c, &o.LockWait, "a reload of a service")
	dir.flag(c)
	return c
}

func writeRepaired(a *app, all []reload.Repaired, dry bool) error {
	var t table
	t.add("SERVICE", "PROCESSES", "HIERARCHY", "SHOWS", "WANTED", "DONE")
	for _, r := range all {
		for _, s := range r.Stale {
			pids := s.PIDs
			if len(pids) == 0 && r.PID != 0 {
				pids = []int{r.PID}
			}
			done := "yes"
			if dry || !r.Done {
				done = "no"
			}
			t.add(r.Name, someOf(pids), s.Path, s.Shows, s.Wanted, done)
		}
	}
	if len(t.rows) == 1 {
		if slices.ContainsFunc(all, func(r reload.Repaired) bool { return r.Err != nil }) {
			return nil // that may not be so
		}
		_, err := fmt.Fprintln(a.out, "Nothing to repair.")
		return err
	}
	return t.write(a.out)
}

// notRepaired logs what is to be said, and is the error of a repair of which a part
// has failed. One that could not be taken back counts more.
func (a *app) notRepaired(all []reload.Repaired) error {
	var failed []string
	code := exitFailed
	for _, r := range all {
		for _, w := range r.Warnings {
			a.log.Warn(fmt.Sprintf("%s: %s", r.Name, w))
		}
		if r.Err == nil {
			if r.Done && len(r.Stale) > 0 {
				a.event(slog.LevelInfo, journald.IDRepaired, r.Name+": repaired", named(r.Name))
			}
			continue
		}
		a.logFailure(r.Err.Error(), r.Err)
		failed = append(failed, r.Name)
		if exitCode(r.Err) == exitUndoFailed {
			code = exitUndoFailed
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &exitError{code: code, err: fmt.Errorf("not repaired: %s", strings.Join(failed, " "))}
}
