package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/reload/status"
	"github.com/spf13/cobra"
)

// A history is what "extexec history --json" writes.
type history struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	// Current is the number of the generation that was last committed since the
	// machine was started; 0 for none.
	Current     uint64             `json:"current"`
	Generations []state.Generation `json:"generations"` // oldest first
}

func newHistory(a *app) *cobra.Command {
	var dir stateDir
	var asJSON bool
	c := &cobra.Command{
		Use:   "history [flags] NAME",
		Short: "Show the generations that a service had",
		Long: `History shows what a service had over its hierarchies, oldest first, and what was
tried and did not come to stay. It outlives the service and the boot.

    OUTCOME   committed; refused (it never went live); taken back (it was live, and
              the one before is again); undo failed
    BY        run, reload or rollback

As many committed generations are kept as KeepGenerations= says, 10 by default.
"extexec rollback" goes back to one of them.`,
		Example: `  extexec history web.service
  extexec history --json web | jq '.generations[] | select(.outcome == "refused").why'`,
		Args: oneName,
		RunE: func(_ *cobra.Command, args []string) error {
			dirs, err := dir.dirs()
			if err != nil {
				return err
			}
			u, err := remembered(dirs, args[0])
			if err != nil {
				return err
			}
			h, err := historyOf(u)
			if err != nil {
				return err
			}
			if asJSON {
				return a.writeJSON(h)
			}
			return writeHistory(a, h)
		},
	}
	dir.flag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.ValidArgsFunction = completeNames(&dir)
	return c
}

// remembered returns the unit of a name that has a record or a memory: after a boot
// there is only the latter.
func remembered(dirs state.Dirs, name string) (*state.Unit, error) {
	candidates := []string{name}
	if !strings.HasSuffix(name, ".service") {
		candidates = append(candidates, name+".service")
	}
	for _, n := range candidates {
		u, err := dirs.Unit(n)
		if err != nil {
			return nil, err
		}
		for _, d := range []string{u.RecordDir(), u.MemoryDir()} {
			if _, err := os.Lstat(d); err == nil {
				return u, nil
			}
		}
	}
	return nil, fmt.Errorf("find %q: nothing is remembered of it in %q: look at what runs: %s", name, dirs.Memory, dirs.Hint("list"))
}

func historyOf(u *state.Unit) (*history, error) {
	generations, err := u.History()
	if err != nil {
		return nil, err
	}
	h := &history{Schema: status.Schema, Name: u.Name()}
	r, err := u.Load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		h.Current, generations = r.Current.Number, generations.With(&r.Current)
	}
	h.Generations = append([]state.Generation{}, generations...)
	return h, nil
}

func writeHistory(a *app, h *history) error {
	if len(h.Generations) == 0 {
		_, err := fmt.Fprintf(a.out, "%s has no history.\n", h.Name)
		return err
	}
	var t table
	t.add("GENERATION", "TIME", "OUTCOME", "BY", "EXTENSIONS", "WHY")
	for i := range h.Generations {
		g := &h.Generations[i]
		outcome := g.Outcome
		if g.Number == h.Current && g.Committed() {
			outcome = "current"
		}
		t.add(fmt.Sprint(g.Number), when(g.Time), outcome, g.Trigger, extensions(*g), g.Why)
	}
	return t.write(a.out)
}
