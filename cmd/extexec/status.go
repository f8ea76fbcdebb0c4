package main

import (
	"fmt"
	"strings"

	"github.com/extexec/extexec/reload/status"
	"github.com/spf13/cobra"
)

func newStatus(a *app) *cobra.Command {
	var dir stateDir
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [flags] NAME",
		Short: "Show what is live for a service, against the record and the disk",
		Long: `Status shows which extensions a service has, whether its hierarchies are as they
were recorded, and what a reload would find on disk. It changes nothing.

    LIVE      the overlay on top, as GENERATION.SERIAL
    LAYERS    extensions in it
    CARRIED   mounts below the hierarchy (BindPaths=, InaccessiblePaths=, the
              host's) that were there at the last start or reload, and are kept
    COVERED   overlays beneath that could not be detached; a restart frees them
    ON DISK   what a reload would find: the same, or another version`,
		Example: `  extexec status web.service
  extexec status --json web | jq .hierarchies`,
		Args: oneName,
		RunE: func(_ *cobra.Command, args []string) error {
			dirs, err := dir.dirs()
			if err != nil {
				return err
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
	if err := head.write(a.out); err != nil {
		return err
	}
	for _, t := range []table{hierarchyTable(s), extensionTable(s), refusedTable(s)} {
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
	t.add("HIERARCHY", "STATE", "LIVE", "LAYERS", "CARRIED", "COVERED")
	for _, h := range s.Hierarchies {
		live := h.Top
		if h.Live != nil {
			live = fmt.Sprintf("%d.%d", h.Live.Generation, h.Live.Serial)
		}
		path := h.Path
		if h.Point != "" && h.Point != h.Path {
			path += " -> " + h.Point
		}
		t.add(path, string(h.State), live, number(h.Layers), number(len(h.Carried)), number(h.Covered))
	}
	return t
}

func extensionTable(s *status.Status) (t table) {
	t.add("EXTENSION", "CLASS", "ON DISK", "PATH")
	for _, e := range s.Extensions {
		name, class, path := e.Ref, "", ""
		if e.Recorded != nil {
			name, class, path = nameAndVersion(e.Recorded), strings.Join(e.Recorded.Class, ", "), e.Recorded.Path
		}
		disk := string(e.Disk)
		if e.Found != nil && e.Disk != status.Same {
			disk += ": " + e.Found.Path
		}
		t.add(name, class, disk, path)
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
