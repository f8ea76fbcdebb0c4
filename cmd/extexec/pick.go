package main

import (
	"fmt"
	"strings"

	"github.com/extexec/extexec/extension/vpick"
	"github.com/spf13/cobra"
)

func newPick(a *app) *cobra.Command {
	var v vpick.Command
	var types []string
	c := &cobra.Command{
		Use:   "pick [flags] PATH...",
		Short: "Pick the newest version from .v/ directories, as systemd-vpick does",
		Long: `Pick resolves paths through versioned directories ("NAME.v/", see systemd.v(7))
as a reload does, and prints what it comes to. Flags and output are those of
systemd-vpick(1).`,
		Example: `  extexec pick --suffix .raw /var/lib/extensions/tools.raw.v/
  extexec pick -p version --type dir /srv/conf/web.v`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			v.Types = types
			return v.Run(a.out, paths)
		},
	}
	f := c.Flags()
	f.StringVarP(&v.Basename, "basename", "B", "", "look for names that begin with `NAME`")
	f.StringVarP(&v.Version, "version", "V", "", "take this `VERSION` and no other")
	f.StringVarP(&v.Architecture, "architecture", "A", "", "take this `ARCH`: a word such as x86-64, native, secondary, uname or auto")
	f.StringVarP(&v.Suffix, "suffix", "S", "", "look for names that end in `SUFFIX`")
	f.StringArrayVarP(&types, "type", "t", nil, "take this `TYPE` of file: reg, dir, sock, fifo, blk, chr or lnk; more than once for several")
	f.StringVarP(&v.Print, "print", "p", "", "print `WHAT`: path, filename, version, type, arch, tries or all")
	f.Var((*yesNo)(&v.Resolve), "resolve", "resolve symlinks in what was picked: `yes` or no")
	return c
}

// A yesNo is a flag that is written as systemd writes booleans.
type yesNo bool

func (b *yesNo) Set(s string) error {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		*b = true
	case "0", "no", "n", "false", "f", "off":
		*b = false
	default:
		return fmt.Errorf("%q is neither yes nor no", s)
	}
	return nil
}

func (b *yesNo) String() string {
	if *b {
		return "yes"
	}
	return "no"
}

func (b *yesNo) Type() string { return "bool" }
