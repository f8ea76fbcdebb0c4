package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension/compose"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/policy"
)

func newCompose(a *app) *cobra.Command {
	m := &composer{}
	c := &cobra.Command{
		Use:   "compose [flags] IMAGE|DIR... -o NAME.raw",
		Short: "Make one extension image of several",
		Long:  composeHelp,
		Example: `  sudo extexec compose base.raw site.raw -o web_1.raw
  sudo extexec compose --format squashfs base.raw overrides/ -o web_1.raw
  sudo extexec compose --json base.raw site.raw -o web_1.raw | jq '.conflicts[].path'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("compose wants the extensions that the image is made of, the lowest first")
			}
			return m.usage()
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c)
			defer stop()
			made, err := m.compose(ctx, args)
			if err != nil {
				return fmt.Errorf("compose %q: %w", m.output, err)
			}
			return m.report(a, made)
		},
	}
	m.imageFlags(c)
	m.policy.flag(c)
	return c
}

const composeHelp = `Compose makes one image that shows what a stack of extensions shows, the last one on
top: each file as the highest extension has it, with its owner, mode, times, extended
attributes and hard links. What an extension hides of others is hidden; what it hides
of the system beneath (whiteouts, opaque directories) the image hides, too.

Its release file demands what all of them demand; where one release file cannot say
that, it is an error that names the two and the field. Their own release files are left
out. A path that one hides from another is listed.

Images are opened read-only, and as --image-policy has it. It takes root to read them,
and to keep owners and attributes.`

// A composer is one call of compose.
type composer struct {
	imageOutput

	policy imagePolicy
}

// composed is the JSON of compose.
type composed struct {
	*imageMade
	Parts     []string        `json:"parts"` // the lowest first
	Conflicts []conflictShown `json:"conflicts"`
}

type conflictShown struct {
	Path   string   `json:"path"`
	Shown  string   `json:"shown"`
	Hidden []string `json:"hidden"`
}

func (m *composer) compose(ctx context.Context, paths []string) (made *composed, err error) {
	p, err := m.policy.parse()
	if err != nil {
		return nil, err
	}
	var parts []compose.Part
	for _, path := range paths {
		part, closePart, err := openPart(ctx, path, p)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, closePart()) }()
		parts = append(parts, part)
	}
	staged, remove, err := m.stage()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	c, err := compose.Compose(ctx, staged, m.name(), parts)
	if err != nil {
		return nil, err
	}
	image, err := m.make(ctx, staged, "root", c.Releases)
	if err != nil {
		return nil, err
	}
	made = &composed{imageMade: image, Parts: paths, Conflicts: []conflictShown{}}
	for _, c := range c.Conflicts {
		made.Conflicts = append(made.Conflicts, conflictShown{Path: c.Path, Shown: c.By, Hidden: c.Hidden})
	}
	return made, nil
}

// openPart opens an extension, whatever system it is for.
func openPart(ctx context.Context, path string, p policy.Policy) (compose.Part, func() error, error) {
	none := func() error { return nil }
	abs, err := filepath.Abs(path)
	if err != nil {
		return compose.Part{}, none, err
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		dir, err := openDirectory(path)
		if err != nil {
			return compose.Part{}, none, err
		}
		releases, err := release.FindAll(dir, filepath.Base(abs), false)
		if err != nil {
			return compose.Part{}, none, errors.Join(err, dir.Close())
		}
		return compose.DirectoryPart(path, dir, releases), dir.Close, nil
	}
	i, err := openImage(ctx, path, p)
	if err != nil {
		return compose.Part{}, none, err
	}
	releases, err := release.FindAll(i.Tree.File(), release.ImageName(filepath.Base(abs)), false)
	if err != nil {
		return compose.Part{}, none, errors.Join(err, i.Close())
	}
	return compose.Part{Name: path, Releases: releases, Dir: i.Dir}, i.Close, nil
}

// openImage mounts an image read-only, attached nowhere.
func openImage(ctx context.Context, path string, p policy.Policy) (*image.Image, error) {
	f, err := openImageFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return image.Open(ctx, f, path, image.Options{Policy: p, CopyMax: math.MaxInt64})
}

func openImageFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0) // it may be a fifo
}

// notThere is the error of a verb whose image or directory cannot be had. That of the
// call has the path once more, as it stands.
func notThere(verb, path string, err error) error {
	var call *fs.PathError
	if errors.As(err, &call) {
		err = call.Err
	}
	remedy := ""
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		remedy = ": name an image or a directory that is there"
	case errors.Is(err, fs.ErrPermission):
		remedy = ": try it as root"
	}
	return fmt.Errorf("%s %q: %w%s", verb, path, err, remedy)
}

// imagePolicy is the flag that says which images are taken.
type imagePolicy string

func (p *imagePolicy) flag(c *cobra.Command) {
	c.Flags().StringVar((*string)(p), "image-policy", "", "take images as this `POLICY` has it, systemd.image-policy(7); else as units do")
}

func (p imagePolicy) parse() (policy.Policy, error) {
	if p == "" {
		return policy.Default(), nil
	}
	parsed, err := policy.Parse(string(p))
	if err != nil {
		err = &exitError{code: exitUsage, err: err}
	}
	return parsed, err
}

func (m *composer) report(a *app, made *composed) error {
	if m.asJSON {
		return a.writeJSON(made)
	}
	if err := a.writeMade(made.imageMade); err != nil || len(made.Conflicts) == 0 {
		return err
	}
	t := &table{}
	t.add("PATH", "SHOWN", "HIDDEN")
	for _, c := range made.Conflicts {
		t.add(c.Path, c.Shown, strings.Join(c.Hidden, ", "))
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	return t.write(a.out)
}
