package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/units/lint"
)

func newLint(a *app) *cobra.Command {
	var asJSON bool
	var systemd int
	c := &cobra.Command{
		Use:   "lint [flags] UNIT|FILE",
		Short: "Say what would go wrong with a unit at a start or a reload",
		Long: `Lint reads a unit with its drop-ins, looks at what its extensions lead to, and says
what would go wrong at a start or at a reload, with file, line and remedy: unknown
keys, missing sources, extensions that do not fit, settings that forbid the wrapper,
a policy that lets in more than it seems to, no ExecReload= of ours, timeouts.

It also says which way the unit has its extensions (wrapper, or adopt: systemd
applies them), and which it could have on this systemd.

An error makes a start or a reload fail, or not do its job; a warning may not be what
was meant; a note is good to know. The exit code is 1 where there is an error. As
root it opens the extensions, too; it changes nothing.`,
		Example: `  sudo extexec lint nginx
  extexec lint --json ./web.service | jq '.findings[].message'`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s wants one UNIT or FILE, and got %d arguments", c.Name(), len(args))
			}
			if strings.Contains(args[0], "/") {
				return nil
			}
			_, err := unitfile.ParseName(serviceName(args[0]))
			return err
		},
		RunE: func(c *cobra.Command, args []string) error {
			version, err := systemdVersion(c.Context(), systemd)
			if exitCode(err) == exitUsage {
				return err
			}
			if err != nil {
				a.log.Info("what depends on systemd's version is not judged, since none answers here: see --systemd-version")
			}
			report, err := lintUnit(args[0], version)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.writeJSON(lintJSON{Schema: 1, Report: report})
			} else {
				err = writeLint(a, report)
			}
			if err == nil && report.Failed() {
				err = &exitError{code: exitFailed}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	systemdFlag(c, &systemd)
	c.ValidArgsFunction = completeUnits
	return c
}

func systemdFlag(c *cobra.Command, to *int) {
	c.Flags().IntVar(to, "systemd-version", 0, "judge for systemd `N`, without asking the one that runs")
}

// lintJSON is what --json writes.
type lintJSON struct {
	Schema int `json:"schema"`
	lint.Report
}

// lintUnit gathers the facts and judges. A unit file that systemd would not read is
// one finding.
func lintUnit(name string, systemd int) (lint.Report, error) {
	u, err := loadUnit(name)
	var bad *unitfile.SyntaxError
	if errors.As(err, &bad) {
		return lint.Report{Unit: name, Way: lint.None, NoWrapper: []lint.Finding{}, NoAdopt: []lint.Finding{},
			Findings: []lint.Finding{{Severity: lint.Error, File: bad.File, Line: bad.Line, Text: bad.Msg, Remedy: "correct the line: systemd does not read the file either"}}}, nil
	}
	if err != nil {
		return lint.Report{}, orPath(err)
	}
	s, refs := lintSettings(u)
	return lint.Check(u, gather(u, s, refs, systemd)), nil
}

func writeLint(a *app, r lint.Report) error {
	var b strings.Builder
	count := map[lint.Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		b.WriteString(visible(f.String()) + "\n")
	}
	ways := map[lint.Way]string{lint.Wrapper: "it is wrapped", lint.Adopt: "systemd applies its extensions", lint.None: "nothing applies extensions"}
	fmt.Fprintf(&b, "%s: %d errors, %d warnings, %d notes; %s\n", visible(r.Unit), count[lint.Error], count[lint.Warning], count[lint.Note], ways[r.Way])
	for _, w := range []struct {
		way  lint.Way
		verb string
		no   []lint.Finding
	}{{lint.Wrapper, "wrap", r.NoWrapper}, {lint.Adopt, "adopt", r.NoAdopt}} {
		switch {
		case w.way == r.Way:
		case len(w.no) == 0:
			fmt.Fprintf(&b, "extexec %s: possible\n", w.verb)
		default:
			fmt.Fprintf(&b, "extexec %s: not possible\n", w.verb)
			for _, f := range w.no {
				f.Severity = "because"
				b.WriteString("  " + visible(f.String()) + "\n")
			}
		}
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}
