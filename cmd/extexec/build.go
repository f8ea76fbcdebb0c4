package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension/compose"
	"github.com/extexec/extexec/extension/release"
)

func newBuild(a *app) *cobra.Command {
	b := &builder{}
	c := &cobra.Command{
		Use:   "build [flags] DIR -o NAME.raw",
		Short: "Make an extension image of a directory",
		Long:  buildHelp,
		Example: `  extexec build web/ -o web_1.raw
  extexec build web/ -o web_1.raw --id debian --version-id 13
  extexec build web/ -o web_1.raw --format ddi --key web.key --certificate web.crt
  SOURCE_DATE_EPOCH=1700000000 extexec build --json --format squashfs web/ -o web_1.raw | jq -r .size`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("build wants one DIR, and got %d arguments", len(args))
			}
			return b.usage(c)
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c)
			defer stop()
			made, err := b.build(ctx, args[0])
			if err != nil {
				return fmt.Errorf("build %q: %w", b.output, err)
			}
			return b.report(a, made)
		},
		ValidArgsFunction: func(_ *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	b.imageFlags(c)
	f := c.Flags()
	f.StringVar(&b.partition, "partition", "root", "of a DDI: make the directory its `root` partition, or its /usr its usr partition")
	f.StringVar(&b.class, "class", "", "it is a `sysext` or a confext; found out from what it has, where this is left out")
	f.StringVar(&b.id, "id", "", "write a release file that asks for this `ID`, or _any; the directory has none then")
	f.StringVar(&b.versionID, "version-id", "", "with --id: that asks for this `VERSION_ID`")
	f.StringVar(&b.level, "level", "", "with --id: that asks for this `LEVEL`, as SYSEXT_LEVEL= or CONFEXT_LEVEL=")
	complete(c, "partition", "root", "usr")
	complete(c, "class", "sysext", "confext")
	return c
}

const buildHelp = `Build makes an image of a directory that has /usr or /opt (a sysext), /etc (a confext),
or both, and nothing else. The directory must have its release file, with a name that
fits that of the image; or --id has one written into the image.

    --format ddi       a disk image as "systemd-repart --make-ddi=" makes it: erofs, its
                       dm-verity hash tree, and with --key a signature of the root hash
    --format erofs     the file system alone; needs no loop device from Linux 6.12
    --format squashfs  the file system alone

The file system is made by mkfs.erofs (package erofs-utils) or mksquashfs (package
squashfs-tools). The same directory gives the same bytes with the same version of these:
UUIDs are derived from --seed, or from the release file, and no time in the image is
later than SOURCE_DATE_EPOCH, or than the newest file.

The image appears under its name when it is complete and on disk, and replaces what was
there. docs/images.md has more.`

// A builder is what build and compose share: an image to be made.
type builder struct {
	imageOutput

	partition, class, id, versionID, level string
}

// usage finds what no directory could make right.
func (b *builder) usage(c *cobra.Command) error {
	if err := b.imageOutput.usage(); err != nil {
		return err
	}
	for _, name := range []string{"version-id", "level"} {
		if c.Flags().Changed(name) && b.id == "" {
			return fmt.Errorf("--%s goes with --id: without it the release file of the directory counts", name)
		}
	}
	if !slices.Contains([]string{"root", "usr"}, b.partition) {
		return fmt.Errorf("--partition=%q is neither root nor usr", b.partition)
	}
	if b.partition == "usr" && b.format != "ddi" {
		return errors.New("--partition=usr is for --format=ddi")
	}
	_, err := classNamed(b.class)
	return err
}

// classNamed gives the class of a word; none for an empty one.
func classNamed(word string) ([]release.Class, error) {
	if word == "" {
		return nil, nil
	}
	for _, c := range release.Classes() {
		if c.String() == word {
			return []release.Class{c}, nil
		}
	}
	return nil, fmt.Errorf("--class=%q is neither sysext nor confext", word)
}

// build makes the image.
func (b *builder) build(ctx context.Context, source string) (made *imageMade, err error) {
	dir, err := b.open(source)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	only, err := classNamed(b.class)
	if err != nil {
		return nil, err
	}
	var releases []release.Release
	if b.id == "" {
		releases, err = compose.Check(dir, b.name(), only...)
		if errors.Is(err, release.ErrNoFile) {
			err = fmt.Errorf("%w, or give --id", err)
		}
	} else {
		releases, err = b.releases(dir, only)
	}
	if err != nil {
		return nil, err
	}
	if b.id != "" {
		staged, remove, err := b.stage()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, remove()) }()
		part := compose.DirectoryPart(b.name(), dir, releases)
		c, err := compose.Compose(ctx, staged, b.name(), []compose.Part{part})
		if err != nil {
			return nil, err
		}
		source, releases = staged, c.Releases
	}
	if b.partition == "usr" {
		if len(releases) != 1 || releases[0].Class != release.Sysext {
			return nil, errors.New("a usr partition is for a sysext that has /usr alone")
		}
		if _, err := os.Lstat(filepath.Join(source, "opt")); err == nil {
			return nil, errors.New(`it has "opt", and a usr partition has only /usr: use --partition=root`)
		}
		source = filepath.Join(source, "usr")
	}
	return b.make(ctx, source, b.partition, releases)
}

// releases are the release files to be written.
func (b *builder) releases(dir *os.File, classes []release.Class) ([]release.Release, error) {
	for _, class := range release.Classes() {
		if r, err := release.Find(dir, class, b.name(), true); err == nil {
			return nil, fmt.Errorf("it has a release file, %s: remove it, or leave --id out", r.File)
		}
	}
	if len(classes) == 0 {
		var err error
		if classes, err = compose.ClassesOf(dir); err != nil {
			return nil, err
		}
	}
	if len(classes) == 0 {
		return nil, errors.New("it is no extension: it has no /usr, /opt or /etc")
	}
	if err := compose.Contents(dir, classes...); err != nil {
		return nil, err
	}
	var all []release.Release
	for _, class := range classes {
		fields := map[string]string{"ID": b.id}
		for key, value := range map[string]string{"VERSION_ID": b.versionID, class.LevelField(): b.level, "ARCHITECTURE": b.arch} {
			if value != "" {
				fields[key] = value
			}
		}
		if err := compose.CheckFields(fields); err != nil {
			return nil, err
		}
		all = append(all, release.Release{Class: class, File: release.FileOf(class, b.name()), Fields: fields})
	}
	return all, nil
}
