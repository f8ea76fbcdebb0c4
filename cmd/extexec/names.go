package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/extexec/extexec/reload/state"
	"github.com/spf13/cobra"
)

// A stateDir is the flag that says where records and memories are.
type stateDir string

func (d *stateDir) flag(c *cobra.Command) {
	c.Flags().StringVar((*string)(d), "state-dir", "", "keep records and memory below `DIR`, not below /run and /var/lib")
	if err := c.MarkFlagDirname("state-dir"); err != nil {
		panic(err) // the flag was defined the line before
	}
}

// dirs returns where the flag, or its absence, says that they are.
func (d stateDir) dirs() (state.Dirs, error) {
	if d == "" {
		return state.DefaultDirs(), nil
	}
	abs, err := filepath.Abs(string(d))
	if err != nil {
		return state.Dirs{}, fmt.Errorf("find state directory %q: %w", string(d), err)
	}
	return state.In(abs), nil
}

// lockWait is the flag that says how long others who hold the lock are waited for.
func lockWait(c *cobra.Command, wait *time.Duration, whom string) {
	*wait = 30 * time.Second
	c.Flags().Var((*waiting)(wait), "lock-wait", "wait for "+whom+" for `TIME` at most")
}

// A waiting is a time to wait as a flag: not less than none.
type waiting time.Duration

func (w *waiting) String() string { return time.Duration(*w).String() }

// Type names the type, as that of every time does.
func (w *waiting) Type() string { return "duration" }

func (w *waiting) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	if d < 0 {
		return errors.New("that is less than nothing: give 0 not to wait")
	}
	*w = waiting(d)
	return nil
}

// recorded returns the record of a name. As systemctl has it, ".service" may be left
// out where that leaves no doubt.
func recorded(dirs state.Dirs, name string) (*state.Unit, *state.Record, error) {
	candidates := []string{name}
	if !strings.HasSuffix(name, ".service") {
		candidates = append(candidates, name+".service")
	}
	for _, n := range candidates {
		u, err := dirs.Unit(n)
		if err != nil {
			return nil, nil, err
		}
		r, err := u.Load()
		if err == nil {
			return u, r, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("find %q: it has no record in %q: look at what runs: %s", name, dirs.Record, dirs.Hint("list"))
}

// oneName is the rule for verbs that take one NAME.
func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s wants one NAME, of a unit or as --name gave it, and got %d arguments", c.Name(), len(args))
	}
	return nil
}

// completeNames completes the first argument with the names that have a record.
func completeNames(d *stateDir) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		dirs, err := d.dirs()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names, err := dirs.Names()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeAllNames completes every argument with the names that have a record.
func completeAllNames(d *stateDir) cobra.CompletionFunc {
	first := completeNames(d)
	return func(c *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return first(c, nil, toComplete)
	}
}

// completeOf completes a name, and then what list finds of it, in its order.
func completeOf(d *stateDir, list func(*state.Unit) ([]cobra.Completion, error)) cobra.CompletionFunc {
	names := completeNames(d)
	return func(c *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) != 1 {
			return names(c, args, toComplete)
		}
		dirs, err := d.dirs()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		u, err := remembered(dirs, args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		found, err := list(u)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
