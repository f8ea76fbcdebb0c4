package main

import (
	"fmt"

	"github.com/extexec/extexec/internal/buildinfo"
	"github.com/spf13/cobra"
)

func newVersion(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version [--json]",
		Short: "Say which build this is",
		Example: `  extexec version
  extexec version --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info := buildinfo.Read()
			if asJSON {
				return a.writeJSON(info)
			}
			_, err := fmt.Fprintf(a.out, "extexec version %s\n", info)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}
