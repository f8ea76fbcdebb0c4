package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/portable"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/status"
	"github.com/extexec/extexec/service"
	"github.com/extexec/extexec/unitfile/settings"
	"github.com/extexec/extexec/units"
	"github.com/extexec/extexec/units/lint"
	"github.com/extexec/extexec/units/manager"
)

// A portableVerb is what the verbs below "extexec portable" share.
type portableVerb struct {
	app            *app
	request        portable.Request
	allowUntrusted bool
	asJSON         bool
	cat            bool // of inspect
}

func newPortable(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "portable COMMAND",
		Short: "Attach portable services, with extensions that are reloaded",
		Long: `Portable attaches the units of an image to the host, as portablectl(1) does, and needs no
systemd-portabled. What one of the two has attached, the other lists and detaches.

An image is a directory or a raw image with an os-release and units. Its services have it as
their root. Extensions lie over that: sysexts, confexts, with units or without. One that is
given as a ".v/" directory stays one, so "systemctl reload" exchanges it for a newer version.

Attach, detach and reattach change all units of an image, or none.`,
		Example: `  sudo extexec portable attach --dry-run --extension /srv/conf/web.v /srv/images/web_1.raw
  sudo extexec portable attach --now --extension /srv/conf/web.v /srv/images/web_1.raw
  sudo extexec portable detach --now --extension web web`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &exitError{code: exitUsage, err: errors.New("portable wants a command: attach, reattach, detach, inspect, list or is-attached: see extexec portable --help")}
		},
	}
	for _, make := range []func(*app) *cobra.Command{newPortableAttach, newPortableReattach, newPortableDetach, newPortableInspect, newPortableList, newPortableIsAttached} {
		c.AddCommand(a.finish(make(a)))
	}
	return c
}

func newPortableAttach(a *app) *cobra.Command {
	v := &portableVerb{app: a}
	c := v.changing(&cobra.Command{
		Use:   "attach [flags] IMAGE [PREFIX...]",
		Short: "Attach the units of an image",
		Long: `Attach puts those units of an image into /etc/systemd/system.attached, or with --runtime
/run/systemd/system.attached, that begin with a PREFIX: by default the image's name up to a
"_". A service gets the image as its root, the extensions, a profile that confines it, and an
ExecReload= line with which a reload exchanges the extensions; its own ExecReload= lines are
kept as ReloadCommand=.

What this systemd does not apply at a start is refused here: images before 248, directories
before 251, confexts before 254, ".v/" before 256. On 258 and 259 a service is attached and
has no reload of ours.`,
		Example: `  sudo extexec portable attach /srv/images/web_1.raw
  sudo extexec portable attach --runtime --now --profile trusted --extension /srv/conf/web.v /srv/images/web web`,
	}, "start", "enable", portable.Host.Attach)
	v.attachFlags(c)
	return c
}

func newPortableReattach(a *app) *cobra.Command {
	v := &portableVerb{app: a}
	c := v.changing(&cobra.Command{
		Use:   "reattach [flags] IMAGE [PREFIX...]",
		Short: "Attach another version of an image in the place of what is attached",
		Long: `Reattach is attach, and what is attached of the same image goes, in one step: which that is
the names of image and extensions say, without directory and version. With --now the services
that run are restarted, new ones started, and those that are gone stopped. When one does not
start, or its ReloadVerify= fails, the old units are back, and restarted, and the exit code is 4.`,
		Example: `  sudo extexec portable reattach --now /srv/images/web_2.raw`,
	}, "restart, start or stop", "enable or disable", portable.Host.Reattach)
	v.attachFlags(c)
	return c
}

func newPortableDetach(a *app) *cobra.Command {
	v := &portableVerb{app: a}
	c := v.changing(&cobra.Command{
		Use:   "detach [flags] IMAGE",
		Short: "Take away what is attached of an image",
		Long: `Detach removes the units that were attached from IMAGE and the extensions given, and the
links to them and copies of them that attach made. The images stay, and need not be there. Names
do, as list shows them. A unit that runs is refused, unless --now stops it.`,
		Example: `  sudo extexec portable detach --now --extension /srv/conf/web.v /srv/images/web_1.raw
  sudo extexec portable detach --now --clean --extension web web`,
	}, "stop", "disable", portable.Host.Detach)
	c.Flags().BoolVar(&v.request.Clean, "clean", false, "remove what the units have in /var/lib, /var/cache, /var/log, /etc and /run by StateDirectory= and the like, too")
	return c
}

// changing adds what the verbs have that change something.
func (v *portableVerb) changing(c *cobra.Command, now, enable string, do func(portable.Host, context.Context, portable.Request) (*portable.Result, error)) *cobra.Command {
	r, f := &v.request, c.Flags()
	v.flags(c)
	f.BoolVar(&r.Now, "now", false, now+" the units, too")
	f.BoolVar(&r.Enable, "enable", false, enable+" the units, too")
	f.BoolVar(&r.NoReload, "no-reload", false, "leave it to somebody else to have systemd read its units again")
	f.BoolVar(&r.Force, "force", false, "go on over units that are there, or that run; let an extension image in whose release file has another name")
	f.BoolVar(&r.DryRun, "dry-run", false, "show what would be changed, and change nothing")
	c.RunE = func(c *cobra.Command, args []string) error {
		if r.NoReload && (r.Now || r.Enable || r.Clean) {
			return &exitError{code: exitUsage, err: errors.New("--no-reload does not go with --now, --enable and --clean: systemd would not know the units")}
		}
		if !slices.Contains([]string{"", "auto", "copy", "symlink", "mixed"}, r.Copy) {
			return &exitError{code: exitUsage, err: fmt.Errorf("--copy=%s: it is auto, copy, symlink or mixed", r.Copy)}
		}
		if _, err := os.Stat(units.Program); err != nil && len(r.Extensions) > 0 && !r.DryRun && c.Name() != "detach" {
			return fmt.Errorf("%s %q: the units will call %s: %w: install extexec there first", c.Name(), args[0], units.Program, err)
		}
		return v.with(c, args, func(ctx context.Context, h portable.Host) error {
			result, err := do(h, ctx, *r)
			if err != nil {
				return portableError(err)
			}
			err = v.show(result)
			if err != nil && !r.DryRun {
				v.app.log.Warn(fmt.Sprintf("%s %q: it is done, but not shown: %v", c.Name(), r.Base, err))
				return nil
			}
			return err
		})
	}
	return c
}

// flags are those of every verb that names an image.
func (v *portableVerb) flags(c *cobra.Command) {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 || len(args) > 1 && !strings.Contains(c.Use, "PREFIX") {
			return fmt.Errorf("%s wants one IMAGE, and got %d arguments", c.Name(), len(args))
		}
		return nil
	}
	f := c.Flags()
	f.StringArrayVar(&v.request.Extensions, "extension", nil, "the extension at `PATH`, a directory, an image or a \".v/\", or of that name; in order, directories lie above images")
	f.BoolVar(&v.asJSON, "json", false, "write JSON")
	c.ValidArgsFunction = completeImages
	if err := c.RegisterFlagCompletionFunc("extension", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)); err != nil {
		panic(err) // the flag was defined the line before
	}
}

// attachFlags are those of attach and reattach.
func (v *portableVerb) attachFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&v.request.Runtime, "runtime", false, "attach until the next boot")
	f.StringVarP(&v.request.Profile, "profile", "p", "default", "confine services as profile `NAME` says; \"none\" is none")
	f.StringVar(&v.request.Copy, "copy", "auto", "`HOW` units, profile and images get there: copy and symlink are for units of a directory and the profile; auto copies units, and links profile and images; mixed copies the images, too, and the units use the copies")
	f.BoolVar(&v.allowUntrusted, "allow-untrusted-path", false, "take images that others than root can replace")
	if err := c.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return portable.Host{}.Profiles(), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // the flag was defined above
	}
}

// completeImages completes the image: by the names that list has, or a path.
func completeImages(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := portable.Host{}.List(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
	}
	return names, cobra.ShellCompDirectiveDefault
}

// with runs f on the host, with systemd where one answers.
func (v *portableVerb) with(c *cobra.Command, args []string, f func(context.Context, portable.Host) error) error {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(args) > 0 {
		v.request.Base, v.request.Prefixes = args[0], args[1:]
	}
	h := portable.Host{AllowUntrusted: v.allowUntrusted, Facts: lint.Facts{Specifiers: settings.HostFacts(os.DirFS("/"))}, Verify: v.verify}
	m, err := manager.Connect(ctx)
	switch {
	case errors.Is(err, manager.ErrNoManager):
		// In an image that is being built there is none: no service can run then.
		if v.changes(c) && !v.request.NoReload && !v.request.DryRun {
			if os.Geteuid() != 0 {
				return err // says so
			}
			return fmt.Errorf("%s %q: %w: give --no-reload where it does not run", c.Name(), v.request.Base, manager.ErrNoManager)
		}
	case err != nil:
		return err
	default:
		defer m.Close()
		h.Manager = m
		if h.Facts.Systemd, err = m.Version(ctx); err != nil {
			return err
		}
	}
	return f(ctx, h)
}

// verify runs ReloadVerify= of a service that was started.
func (v *portableVerb) verify(ctx context.Context, unit string) error {
	u, err := loadUnit(unit)
	if err != nil {
		return err
	}
	s, err := settings.FromUnit(u, settings.HostFacts(os.DirFS("/")))
	if err != nil || len(s.ReloadVerify) == 0 {
		return err
	}
	p, err := service.Main(ctx, unit, bus{})
	if err != nil {
		return err
	}
	defer p.Close()
	if err := inPlace(ctx, p); err != nil {
		return err
	}
	warnings, err := reload.Verify(ctx, p, s)
	for _, w := range warnings {
		v.app.log.Warn(unit + ": " + w)
	}
	return err
}

// inPlace waits until a process is in the namespace of its service: of Type=simple it is
// taken for started before.
func inPlace(ctx context.Context, p *service.Process) error {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := apart(p)
		if err == nil || errors.Is(err, service.ErrGone) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// portableError gives an error of package portable its exit code.
func portableError(err error) error {
	var back *portable.TakenBackError
	switch {
	case errors.As(err, &back):
		return &exitError{code: exitTakenBack, err: err}
	case errors.Is(err, portable.ErrBusy):
		return &exitError{code: exitLocked, err: err}
	}
	return err
}

func (v *portableVerb) changes(c *cobra.Command) bool { return c.Flags().Lookup("dry-run") != nil }

// show writes what was changed, or would be.
func (v *portableVerb) show(r *portable.Result) error {
	for _, n := range r.Notes {
		v.app.log.Info(n)
	}
	if v.asJSON {
		return v.app.writeJSON(map[string]any{"schema": status.Schema, "dry_run": v.request.DryRun, "units": r.Units, "changes": r.Changes})
	}
	if v.request.DryRun {
		v.app.log.Info("would change:")
	}
	var t table
	for _, c := range r.Changes {
		source := ""
		if c.Type == "copy" || c.Type == "symlink" {
			source = c.Source
		}
		t.add(c.Type, c.Path, source)
	}
	var text bytes.Buffer // one write: all of it, or nothing
	if err := t.write(&text); err != nil {
		return err
	}
	_, err := v.app.out.Write(text.Bytes())
	return err
}

func newPortableInspect(a *app) *cobra.Command {
	v := &portableVerb{app: a}
	c := &cobra.Command{
		Use:   "inspect [flags] IMAGE [PREFIX...]",
		Short: "Show what an image and its extensions are, and the units that attach would take",
		Long: `Inspect opens image and extensions as attach does, and refuses what that would. A PREFIX
selects units; "-" are all.`,
		Example: `  sudo extexec portable inspect /srv/images/web_1.raw -
  sudo extexec portable inspect --cat --extension /srv/conf/web.v /srv/images/web_1.raw`,
	}
	v.flags(c)
	c.Flags().BoolVar(&v.cat, "cat", false, "show the text of release files and units")
	c.Flags().BoolVar(&v.request.Force, "force", false, "let an extension image in whose release file has another name")
	c.Flags().BoolVar(&v.allowUntrusted, "allow-untrusted-path", false, "take images that others than root can replace")
	c.RunE = func(c *cobra.Command, args []string) error {
		return v.with(c, args, func(ctx context.Context, h portable.Host) error {
			in, err := h.Inspect(ctx, v.request)
			if err != nil {
				return err
			}
			if v.asJSON {
				return a.writeJSON(map[string]any{"schema": status.Schema, "image": in})
			}
			return v.inspection(in)
		})
	}
	return c
}

func (v *portableVerb) inspection(in *portable.Inspection) error {
	var t table
	t.add("IMAGE", "CLASS", "NAME", "VERSION", "PATH")
	for n, r := range append([]portable.Release{in.Base}, in.Extensions...) {
		class := strings.Join(r.Classes, " ")
		if n == 0 {
			class = "base"
		}
		name, version := r.Fields["PRETTY_NAME"], r.Fields["IMAGE_VERSION"]
		if name == "" {
			name = r.Fields["ID"]
		}
		if version == "" {
			version = r.Fields["VERSION_ID"]
		}
		t.add(r.Picked[strings.LastIndexByte(r.Picked, '/')+1:], class, name, version, r.Path)
	}
	if err := t.write(v.app.out); err != nil {
		return err
	}
	if len(in.Prefixes) > 0 {
		fmt.Fprintf(v.app.out, "\nPrefixes: %s\n", visible(strings.Join(in.Prefixes, " ")))
	}
	t = table{}
	t.add("UNIT", "FROM")
	for _, u := range in.Units {
		t.add(u.Name, u.Image)
	}
	fmt.Fprintln(v.app.out)
	if err := t.write(v.app.out); err != nil || !v.cat {
		return err
	}
	for _, r := range append([]portable.Release{in.Base}, in.Extensions...) {
		fmt.Fprintf(v.app.out, "\n-- %s\n", visible(r.Path))
		for _, k := range slices.Sorted(maps.Keys(r.Fields)) {
			fmt.Fprintf(v.app.out, "%s=%s\n", visible(k), visible(r.Fields[k]))
		}
	}
	for _, u := range in.Units {
		fmt.Fprintf(v.app.out, "\n-- %s\n", visible(u.Name))
		for line := range strings.Lines(u.Text) {
			fmt.Fprintln(v.app.out, visible(strings.TrimSuffix(line, "\n")))
		}
	}
	return nil
}

func newPortableList(a *app) *cobra.Command {
	v := &portableVerb{app: a}
	c := &cobra.Command{
		Use:   "list [flags]",
		Short: "List what is attached, and the images that could be",
		Long: `List shows what was attached, by extexec or portablectl, with its extensions, and the images
in /etc/portables, /run/portables, /usr/local/lib/portables, /usr/lib/portables and
/var/lib/portables that are not.

    STATE     detached, attached, enabled or running; with -runtime until the next boot
    MISSING   images that are not there any more, and links to what is not`,
		Example: `  extexec portable list
  extexec portable list --json | jq -r '.images[] | select(.missing != []).path'`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&v.asJSON, "json", false, "write JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		return v.with(c, args, func(ctx context.Context, h portable.Host) error {
			list, err := h.List(ctx)
			if err != nil {
				return err
			}
			if v.asJSON {
				return a.writeJSON(map[string]any{"schema": status.Schema, "images": list})
			}
			var t table
			t.add("NAME", "STATE", "UNITS", "PATH", "EXTENSIONS")
			for _, e := range list {
				state := string(e.State)
				if len(e.Missing) > 0 {
					state += ", image missing"
				}
				t.add(e.Name, state, strings.Join(e.Units, " "), e.Path, strings.Join(e.Extensions, " "))
			}
			return errors.Join(t.write(a.out), a.writeMissing(list))
		})
	}
	return c
}

// writeMissing names what is not there of what is attached.
func (a *app) writeMissing(list []portable.Entry) error {
	t := table{rows: [][]string{{"MISSING", "OF"}}}
	for _, e := range list {
		for _, p := range slices.Concat(e.Missing, e.Dangling) {
			t.add(p, e.Name)
		}
	}
	if len(t.rows) == 1 {
		return nil
	}
	fmt.Fprintln(a.out)
	return t.write(a.out)
}

func newPortableIsAttached(a *app) *cobra.Command {
	v := &portableVerb{app: a}
	c := &cobra.Command{
		Use:   "is-attached [flags] IMAGE",
		Short: "Say whether an image is attached",
		Long: `Is-attached writes the state, as list has it, of what is attached from IMAGE and the
extensions given, and ends with exit code 1 where that is nothing.`,
		Example: `  extexec portable is-attached --extension web web`,
	}
	v.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return v.with(c, args, func(ctx context.Context, h portable.Host) error {
			s, err := h.IsAttached(ctx, v.request.Base, v.request.Extensions)
			if err != nil {
				return err
			}
			if v.asJSON {
				err = a.writeJSON(map[string]any{"schema": status.Schema, "state": s})
			} else {
				_, err = fmt.Fprintln(a.out, s)
			}
			if err == nil && s == portable.Detached {
				return &exitError{code: exitFailed}
			}
			return err
		})
	}
	return c
}
