package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
)

func newPlan(a *app) *cobra.Command {
	var (
		o                reload.PlanOptions
		dirs             stateDir
		asJSON, exitCode bool
	)
	c := &cobra.Command{
		Use:   "plan [flags] NAME",
		Short: "Show what a reload would change, and change nothing",
		Long:  planHelp,
		Example: `  sudo extexec plan web
  sudo extexec plan --diff web.service
  sudo extexec plan --exit-code --json web | jq '.hierarchies[].files[].path'`,
		Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.Dirs, err = dirs.dirs(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			o.Name, o.Limits, o.Manager = args[0], nsmount.Probe(), bus{}
			plan, err := reload.Plan(ctx, o)
			if asJSON {
				err = errors.Join(err, a.writePlanJSON(plan, err))
			} else {
				err = errors.Join(err, a.writePlan(plan))
			}
			if err == nil && exitCode && plan.Changes() {
				return &exitError{code: exitChanges}
			}
			return err
		},
	}
	c.ValidArgsFunction = completeNames(&dirs)
	f := c.Flags()
	f.BoolVar(&o.Diff, "diff", false, "show how the texts of files differ, as diff -u does")
	f.BoolVar(&o.Checksum, "checksum", false, "read files of the same size: their metadata may agree and their contents not")
	f.BoolVar(&exitCode, "exit-code", false, "end with exit code 6 where there are changes")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	dirs.flag(c)
	return c
}

const planHelp = `Plan does what a reload does until nothing is left but to run ReloadCheck= and to
exchange: it reads the settings, picks, opens and checks the extensions, and builds
the new trees aside. Then it compares the files of the new state with those of the
one that is live.

For each ref it shows all versions, the best first, and why each was passed over.
Files are compared by their metadata: type, size, permissions, owner, time of
modification, target of a link. Before each file:

    A   added           M   changed         D   removed
    H   in more than one extension: the first that is named hides the others

behind PATH means that a mount lies on it that the service keeps (BindPaths=,
InaccessiblePaths=, the host's), so that it does not see the file.

What the host has changed in the base, and a reload would show, is not looked at.
Where a reload would fail before its check, plan fails with the same words.`

// writePlanJSON writes the plan, and what made it fail.
func (a *app) writePlanJSON(plan *reload.PlanResult, failed error) error {
	doc := struct {
		*reload.PlanResult
		Changes bool   `json:"changes"`
		Error   string `json:"error,omitempty"`
	}{PlanResult: plan, Changes: plan.Changes()}
	if failed != nil {
		doc.Error = failed.Error()
	}
	return a.writeJSON(doc)
}

func (a *app) writePlan(plan *reload.PlanResult) error {
	for _, w := range plan.Warnings {
		a.log.Warn(fmt.Sprintf("%s: %s", plan.Name, w))
	}
	if plan.Action == "" {
		return nil // it failed before there was anything to show
	}
	if _, err := fmt.Fprintf(a.out, "%s: %s\n\n", visible(plan.Name), visible(planned(plan))); err != nil {
		return err
	}
	refs := planRefs(plan)
	if err := refs.write(a.out); err != nil {
		return err
	}
	for i := range plan.Hierarchies {
		if err := a.writePlanned(&plan.Hierarchies[i]); err != nil {
			return err
		}
	}
	return a.writeDiffs(plan)
}

// planned says in a line what a reload would do.
func planned(plan *reload.PlanResult) string {
	live := "no generation of ours is live"
	if n := plan.Generation.Number; n > 0 {
		live = fmt.Sprintf("generation %d is live", n)
	}
	switch {
	case plan.Action == reload.NoAction:
		return live + ", and a reload would change nothing"
	case plan.Action == reload.Refresh && plan.Why != "":
		return live + ", and a reload would make its overlays anew: " + plan.Why
	case plan.Action == reload.Refresh:
		return live + ", and a reload would make its overlays anew over the same base, which can be written to"
	case plan.Why != "":
		return live + "; a reload would make a new one, although the extensions are the same: " + plan.Why
	case plan.Reordered:
		return live + "; a reload would make a new one: the extensions are in another order"
	}
	return live + "; a reload would make a new one"
}

// planRefs is the table of refs, with the versions that there are of each.
func planRefs(plan *reload.PlanResult) (t table) {
	t.add("EXTENSION", "VERSION", "STATE")
	for _, r := range plan.Refs {
		state := string(r.State)
		if r.State == reload.RefReplaced {
			state += ": was " + r.Now.Path
		}
		version := ""
		if r.Picked != nil {
			version = r.Picked.Version
		}
		t.add(r.Ref, version, state)
		if len(r.Candidates) < 2 && r.State == reload.RefSame {
			continue
		}
		for _, c := range r.Candidates {
			why := c.Why
			if why == "" {
				why = "is picked"
			}
			t.add("  "+c.Path, c.Version, why)
		}
	}
	return t
}

// writePlanned writes the files of one hierarchy.
func (a *app) writePlanned(h *reload.PlannedHierarchy) error {
	if h.Added+h.Changed+h.Removed+h.Shadowed == 0 {
		return nil
	}
	head := fmt.Sprintf("%s: %d added, %d changed, %d removed", h.Path, h.Added, h.Changed, h.Removed)
	if h.Shadowed > 0 {
		head += fmt.Sprintf(", %d in more than one extension", h.Shadowed)
	}
	switch h.Against {
	case reload.AgainstLive:
		head += " (against what the service sees)"
	case reload.AgainstBase:
		head += " (against the base)"
	}
	if _, err := fmt.Fprintf(a.out, "\n%s\n", visible(head)); err != nil {
		return err
	}
	var t table
	for i := range h.Files {
		t.add(plannedFile(&h.Files[i])...)
	}
	for _, s := range h.Shadows {
		by := s.By
		if s.Gone {
			by += " (a whiteout)"
		}
		t.add("  H", s.Path, by+" hides "+strings.Join(s.Hidden, ", "), "")
	}
	if h.More > 0 {
		t.add("  …", fmt.Sprintf("and %d more", h.More), "", "")
	}
	return t.writeBare(a.out)
}

// writeBare writes the table with nothing in its empty cells, nor behind the last.
func (t *table) writeBare(w io.Writer) error {
	var text strings.Builder
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		for i, cell := range row {
			row[i] = visible(cell)
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func plannedFile(f *reload.PlannedFile) []string {
	path, ends, notes := f.Path, f.From+" -> "+f.To, strings.Join(f.Differs, ", ")
	letter := map[reload.FileChange]string{reload.FileAdded: "A", reload.FileChanged: "M", reload.FileRemoved: "D"}[f.Change]
	switch {
	case f.Change == reload.FileAdded:
		ends = f.To
	case f.Change == reload.FileRemoved, f.From == f.To:
		ends = f.From
	}
	switch f.Type {
	case "directory":
		path = strings.TrimSuffix(path, "/") + "/"
	case "link":
		path += " -> " + f.Target
	}
	if f.Behind != "" {
		notes = strings.TrimPrefix(notes+", behind "+f.Behind, ", ")
	}
	return []string{"  " + letter, path, ends, notes}
}

// writeDiffs writes the texts. What a terminal would act on is escaped.
func (a *app) writeDiffs(plan *reload.PlanResult) error {
	for _, h := range plan.Hierarchies {
		for _, f := range h.Files {
			text := f.Diff
			if f.NoDiff != "" {
				text = fmt.Sprintf("--- %s: not shown: %s\n", f.Path, f.NoDiff)
			}
			if text == "" {
				continue
			}
			var out strings.Builder
			out.WriteByte('\n')
			for line := range strings.Lines(text) {
				body, end := strings.CutSuffix(line, "\n")
				for i, part := range strings.Split(body, "\t") {
					if i > 0 {
						out.WriteByte('\t')
					}
					out.WriteString(visible(part))
				}
				if end {
					out.WriteByte('\n')
				}
			}
			if _, err := fmt.Fprint(a.out, out.String()); err != nil {
				return err
			}
		}
	}
	return nil
}
