package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/extexec/extexec/reload/status"
	"github.com/spf13/cobra"
)

func newStatus(a *app) *cobra.Command {
	var dir stateDir
	var asJSON, asMetrics bool
	c := &cobra.Command{
		Use:   "status [flags] NAME | status --metrics [NAME...]",
		Short: "Show what is live for a service, against the record and the disk",
		Long: `Status shows which extensions a service has, whether its hierarchies are as they
were recorded, and what a reload would find on disk. It changes nothing.

    LIVE          the overlay on top, as GENERATION.SERIAL
    LAYERS        extensions in it
    COVERED       overlays beneath that could not be detached; a restart frees them
    VERIFIED      how the contents of an image were verified
    ON DISK       what a reload would find: the same, or another version
    NOT PICKED    newer versions on disk, and why they are passed over
    CARRIED       mounts below a hierarchy (BindPaths=, InaccessiblePaths=, the
                  host's) that were there at the last start or reload, and are
                  kept; LINK is lost where later mounts of the host below it do
                  not appear
    REFUSED       what failed a check, and is not picked again
    HELD          what a rollback left, and is not picked again: see "extexec unhold"
    NAMESPACE     other mount namespaces of the unit's processes, and what they see

With --metrics it writes the text format of Prometheus instead, for the textfile
collector of node_exporter: of each NAME, or of all that have a record.`,
		Example: `  extexec status web.service
  extexec status --json web | jq .hierarchies
  extexec status --metrics`,
		Args: func(c *cobra.Command, args []string) error {
			if asMetrics {
				return nil
			}
			return oneName(c, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			dirs, err := dir.dirs()
			if err != nil {
				return err
			}
			if asMetrics {
				return a.statusMetrics(dirs, args)
			}
			u, _, err := recorded(dirs, args[0])
			if err != nil {
				return err
			}
			s, err := status.Read(u)
			if err != nil {
				return err
			}
			if asJSON {
				return a.writeJSON(s)
			}
			return writeStatus(a, s)
		},
	}
	dir.flag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&asMetrics, "metrics", false, "write metrics for Prometheus")
	c.MarkFlagsMutuallyExclusive("json", "metrics")
	c.ValidArgsFunction = completeNames(&dir)
	return c
}

func writeStatus(a *app, s *status.Status) error {
	var head table
	title := s.Name
	if s.Unit != "" && s.Unit != s.Name {
		title += " (" + s.Unit + ")"
	}
	head.add("Name:", title)
	head.add("State:", stateOf(s))
	head.add("Generation:", generationOf(s))
	if n := len(s.OldMaps); n > 0 {
		head.add("Mapped:", fmt.Sprintf("processes with files of an exchanged tree, their program say: %d", n))
	}
	if g := s.LastAttempt; g != nil {
		head.add("Last attempt:", fmt.Sprintf("%s %s, by %s: %s", g.Outcome, when(g.Time), g.Trigger, g.Why))
	}
	if err := head.write(a.out); err != nil {
		return err
	}
	for _, t := range []table{
		hierarchyTable(s), extensionTable(s), passedOverTable(s), carriedTable(s), refusedTable(s), heldTable(s), namespaceTable(s),
	} {
		if len(t.rows) < 2 {
			continue
		}
		if _, err := fmt.Fprintln(a.out); err != nil {
			return err
		}
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	for _, n := range s.Notes {
		a.log.Warn(n)
	}
	return nil
}

func stateOf(s *status.Status) string {
	text := string(s.State)
	if s.PID != 0 {
		text += fmt.Sprintf(", main process %d", s.PID)
	}
	if n := len(s.PIDs); n > 1 || n == 1 && s.PID == 0 {
		text += fmt.Sprintf(", %d in its mount namespace", n)
	}
	return text
}

func generationOf(s *status.Status) string {
	if s.Generation.Number == 0 {
		return "none committed"
	}
	text := fmt.Sprintf("%d, since %s", s.Generation.Number, when(s.Generation.Time))
	if s.Generation.Trigger != "" {
		text += ", by " + s.Generation.Trigger
	}
	switch {
	case s.Reloading != 0:
		text += fmt.Sprintf("; process %d is reloading", s.Reloading)
	case s.Interrupted:
		text += fmt.Sprintf("; %d was interrupted", s.Pending.Number)
	}
	return text
}

func hierarchyTable(s *status.Status) (t table) {
	t.add("HIERARCHY", "STATE", "LIVE", "LAYERS", "COVERED")
	for _, h := range s.Hierarchies {
		live := h.Top
		if h.Live != nil {
			live = fmt.Sprintf("%d.%d", h.Live.Generation, h.Live.Serial)
		}
		path := h.Path
		if h.Point != "" && h.Point != h.Path {
			path += " -> " + h.Point
		}
		t.add(path, string(h.State), live, number(h.Layers), number(h.Covered))
	}
	return t
}

func extensionTable(s *status.Status) (t table) {
	t.add("EXTENSION", "CLASS", "VERIFIED", "ON DISK", "PATH")
	for _, e := range s.Extensions {
		name, class, verified, path := e.Ref, "", "", ""
		if e.Recorded != nil {
			name, class, path = nameAndVersion(e.Recorded), strings.Join(e.Recorded.Class, ", "), e.Recorded.Path
			verified = e.Recorded.Verified
		}
		disk := string(e.Disk)
		if e.Found != nil && e.Disk != status.Same {
			disk += ": " + e.Found.Path
		}
		t.add(name, class, verified, disk, path)
	}
	return t
}

func refusedTable(s *status.Status) (t table) {
	t.add("REFUSED", "SINCE", "WHY")
	for _, r := range s.Refused {
		t.add(r.Path, when(r.Time), r.Why)
	}
	return t
}

func passedOverTable(s *status.Status) (t table) {
	t.add("NOT PICKED", "WHY")
	for _, e := range s.Extensions {
		for _, p := range e.PassedOver {
			t.add(p.Path, p.Why)
		}
		if e.Found == nil && e.Why != "" {
			t.add(e.Ref, e.Why)
		}
	}
	return t
}

func carriedTable(s *status.Status) (t table) {
	t.add("CARRIED", "OF", "LINK")
	for _, h := range s.Hierarchies {
		for _, c := range h.Carried {
			link := ""
			if c.LinkLost {
				link = "lost"
			}
			t.add(path.Join(h.Path, c.Path), c.Origin, link)
		}
	}
	return t
}

func heldTable(s *status.Status) (t table) {
	t.add("HELD", "VERSION", "SINCE", "WHY")
	for _, h := range s.Holds {
		versions := h.Version
		if h.Version != "" {
			versions = "up to " + h.Version
		}
		if h.Above != "" {
			versions = "after " + h.Above + ", " + versions
		}
		t.add(h.Ref, versions, when(h.Time), h.Why)
	}
	return t
}

func namespaceTable(s *status.Status) (t table) {
	t.add("NAMESPACE", "PROCESSES", "HIERARCHY", "STATE", "LIVE", "COVERED")
	for _, n := range s.Namespaces {
		for _, h := range n.Hierarchies {
			live := h.Top
			if h.Live != nil {
				live = fmt.Sprintf("%d.%d", h.Live.Generation, h.Live.Serial)
			}
			t.add(fmt.Sprint(n.MountNS), someOf(n.PIDs), h.Path, string(h.State), live, number(h.Covered))
		}
		for _, m := range n.OldMounts {
			t.add(fmt.Sprint(n.MountNS), someOf(n.PIDs), m, "a part of an older generation", "", "")
		}
	}
	return t
}

// someOf are the first few of many numbers, and how many there are.
func someOf(pids []int) string {
	const some = 4
	text := strings.Trim(fmt.Sprint(pids[:min(some, len(pids))]), "[]")
	if len(pids) > some {
		text += fmt.Sprintf(" ... (%d)", len(pids))
	}
	return text
}
