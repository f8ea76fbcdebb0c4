package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/extexec/extexec/internal/buildinfo"
	"github.com/extexec/extexec/internal/journald"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// An app is one call of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	log      *slog.Logger
	shown    stickyWriter // out, for what cobra shows
	failed   error        // of the verb; an error of cobra's is one of usage
}

// The groups of verbs in the help.
const (
	groupService = "service"
	groupUnit    = "unit"
	groupVersion = "version"
	groupImage   = "image"
)

var groups = []*cobra.Group{
	{ID: groupService, Title: "A service and its extensions:"},
	{ID: groupUnit, Title: "Units:"},
	{ID: groupVersion, Title: "Versions on disk:"},
	{ID: groupImage, Title: "Images:"},
}

// verbs are all the verbs, in the order of the help. A verb is made only when it
// is asked for: a reload is to start as quickly as a process can.
var verbs = []struct {
	name, group string
	make        func(*app) *cobra.Command
}{
	{"run", groupService, newRun},
	{"reload", groupService, newReload},
	{"plan", groupService, newPlan},
	{"status", groupService, newStatus},
	{"list", groupService, newList},
	{"history", groupService, newHistory},
	{"rollback", groupService, newRollback},
	{"unhold", groupService, newUnhold},
	{"repair", groupService, newRepair},
	{"exec", groupService, newExec},
	{"wrap", groupUnit, newWrap},
	{"adopt", groupUnit, newAdopt},
	{"lint", groupUnit, newLint},
	{"watch", groupUnit, newWatch},
	{"portable", groupUnit, newPortable},
	{"install", groupVersion, newInstall},
	{"pick", groupVersion, newPick},
	{"build", groupImage, newBuild},
	{"compose", groupImage, newCompose},
	{"inspect", groupImage, newInspect},
	{"version", "", newVersion},
}

// The help is in our order: what belongs together stands together.
func init() { cobra.EnableCommandSorting = false }

// execute runs the program with these arguments and returns its exit code.
func execute(args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut, shown: stickyWriter{to: out}}
	a.log = slog.New(a.handler())
	root := a.root(args)
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil && a.shown.err == nil {
		a.log.Error(onOneLine(suggestOnOneLine(err.Error()), args) + "\nsee: " + helpOf(root, args))
		return exitUsage
	}
	if a.failed == nil {
		a.failed = a.shown.err
	}
	code := exitCode(a.failed)
	// A command that was executed speaks for itself.
	if text := message(a.failed, args); text != "" {
		a.logFailure(text, a.failed)
	}
	return code
}

// suggestOnOneLine has what cobra suggests, each on a line of its own, on that of the
// error.
func suggestOnOneLine(text string) string {
	text, names, _ := strings.Cut(strings.TrimSpace(text), "\n\nDid you mean this?\n")
	if names == "" {
		return text
	}
	return text + ": did you mean " + strings.Join(strings.Fields(names), " or ") + "?"
}

// handler writes as the journal wants it where standard error is the journal.
func (a *app) handler() *journald.Handler {
	f, ok := a.err.(*os.File)
	if !ok {
		return journald.NewHandler(a.err, journald.Options{})
	}
	return journald.NewHandler(f, journald.Options{
		Prefix: journald.IsStream(f, os.Getenv("JOURNAL_STREAM")), Socket: journald.Socket,
	})
}

// root makes the command line. Where the first argument is a verb, only that one
// is made, and none of what cobra adds.
func (a *app) root(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "extexec",
		Short:         "Execute extension images for one service, and exchange them while it runs",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.in)
	root.SetOut(&a.shown)
	root.SetErr(a.err)
	for _, v := range verbs {
		if len(args) > 0 && args[0] == v.name {
			root.CompletionOptions.DisableDefaultCmd = true
			root.AddCommand(a.finish(v.make(a)))
			return root
		}
	}
	root.Version = buildinfo.Read().String()
	root.AddGroup(groups...)
	for _, v := range verbs {
		c := a.finish(v.make(a))
		c.GroupID = v.group
		root.AddCommand(c)
	}
	refuseUnknown(root, args)
	return root
}

// refuseUnknown has what cobra adds refuse what it does not know: it would show a help
// and call that a success.
func refuseUnknown(root *cobra.Command, args []string) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				_, _, err := root.Find(args)
				return err
			}
		case "completion":
			c.RunE = func(*cobra.Command, []string) error {
				return errors.New("completion wants a shell: bash, fish, powershell or zsh")
			}
		}
	}
}

// A stickyWriter keeps the first error: cobra drops that of writing a help.
type stickyWriter struct {
	to  io.Writer
	err error
}

func (w *stickyWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// finish makes the verb's own error something else than an error of usage.
func (a *app) finish(c *cobra.Command) *cobra.Command {
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if a.failed = nothingEmpty(c, args); a.failed == nil {
			a.failed = run(c, args)
		}
		return nil
	}
	c.DisableFlagsInUseLine = true
	return c
}

// nothingEmpty refuses flags and arguments without a value: a variable in a script that
// was never set would else mean that nothing was asked for. A command that is to be
// executed has what arguments it likes, and pick what systemd-vpick takes.
func nothingEmpty(c *cobra.Command, args []string) error {
	if c.Name() == "pick" {
		return nil
	}
	empty := ""
	c.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if slices.Contains(values, "") && f.Name != "argv0" {
			empty = "--" + f.Name
		}
	})
	if n := c.ArgsLenAtDash(); n >= 0 {
		args = args[:n]
	}
	if empty == "" && slices.Contains(args, "") && c.Name() != "run" {
		empty = "an argument"
	}
	if empty == "" {
		return nil
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("%s: %s is empty: give it a value, or leave it out", c.Name(), empty)}
}

// helpOf is the command that shows the help that is wanted after a mistake.
func helpOf(root *cobra.Command, args []string) string {
	if c, _, err := root.Find(args); err == nil {
		return c.CommandPath() + " --help"
	}
	return root.Name() + " --help"
}

const rootHelp = `extexec lays extension images (sysext, confext) over a service's own view of
/usr, /opt and /etc, and exchanges them for newer ones while the service runs:
no lookup ever misses a file, and nothing is restarted.

Exit codes:
    0   done, or nothing to do
    1   refused or failed, nothing changed
    2   usage: also what is empty, or cannot be a NAME
    3   a check failed, nothing changed
    4   taken back: the old state is live
    5   the undo failed too: "extexec status" says what is left
    6   plan --exit-code: there are changes
   75   another reload holds the lock
  200, 203, 217, 226   run, exec: as systemd has them (working directory, command, user,
      namespace); afterwards those of the command`
