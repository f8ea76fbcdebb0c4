package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/extexec/extexec/extension/architecture"
	"github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/image/build"
	"github.com/extexec/extexec/image/gpt"
)

// An imageOutput is an image that a verb makes.
type imageOutput struct {
	output, format, compression, arch, seed string
	key, certificate                        string
	allRoot, asJSON                         bool
}

func (o *imageOutput) imageFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "", "make this `FILE`, NAME.raw")
	f.StringVar(&o.format, "format", string(build.DDI), "make a `FORMAT`: ddi, erofs or squashfs")
	f.StringVar(&o.compression, "compression", "", "compress with this `ALGORITHM`, or ALGORITHM:LEVEL, or none; else as the program does")
	f.StringVar(&o.arch, "arch", "", "it is for this `ARCHITECTURE`, in systemd's words; else for that of its release file, or of this machine")
	f.StringVar(&o.seed, "seed", "", "derive all UUIDs from this `UUID`, as systemd-repart does")
	f.StringVar(&o.key, "key", "", "sign the root hash with the private key in this `FILE` (PEM)")
	f.StringVar(&o.certificate, "certificate", "", "the certificate of the key is in this `FILE` (PEM)")
	f.BoolVar(&o.allRoot, "all-root", false, "make all files root's")
	f.BoolVar(&o.asJSON, "json", false, "write JSON")
	complete(c, "format", "ddi", "erofs", "squashfs")
	complete(c, "arch", gpt.Architectures()...)
}

// complete gives a flag its words.
func complete(c *cobra.Command, flag string, words ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was not defined the line before
	}
}

// interruptible ends the context where the process is told to end, so that nothing is left of what was begun.
func interruptible(c *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
}

// usage finds what is wrong with the flags alone.
func (o *imageOutput) usage() error {
	base := filepath.Base(o.output)
	switch {
	case o.output == "":
		return errors.New("say where the image goes: -o NAME.raw")
	case !strings.HasSuffix(base, ".raw") || !release.ValidName(o.name()):
		return fmt.Errorf("-o %q: an image is called NAME.raw", o.output)
	case !slices.Contains(build.Formats(), build.Format(o.format)):
		return fmt.Errorf("--format=%q is neither ddi, erofs nor squashfs", o.format)
	case (o.key == "") != (o.certificate == ""):
		return errors.New("--key and --certificate go together")
	case o.key != "" && o.format != string(build.DDI):
		return errors.New("only --format=ddi has a place for a signature")
	case o.arch != "" && o.arch != "_any" && !architecture.Known(o.arch):
		return fmt.Errorf("--arch=%q is no architecture that systemd knows: x86-64, arm64, ..., or _any", o.arch)
	}
	if _, err := build.ParseSeed(o.seed); err != nil && o.seed != "" {
		return fmt.Errorf("--seed: %w: uuidgen makes one", err)
	}
	return nil
}

// name is what the extension in the image is called.
func (o *imageOutput) name() string { return release.ImageName(filepath.Base(o.output)) }

// open opens the directory that the image is made of. The image must not lie in it.
func (o *imageOutput) open(source string) (*os.File, error) {
	place, err := filepath.EvalSymlinks(filepath.Dir(o.output))
	if err != nil {
		return nil, err
	}
	inside, err := filepath.EvalSymlinks(source)
	if err != nil {
		return nil, err
	}
	if place, err = filepath.Abs(place); err != nil {
		return nil, err
	}
	if inside, err = filepath.Abs(inside); err != nil {
		return nil, err
	}
	if rel, err := filepath.Rel(inside, place); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return nil, fmt.Errorf("it would lie in %q, of which it is made: give another place", source)
	}
	return openDirectory(source)
}

func openDirectory(path string) (*os.File, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// stage makes an empty directory in which files can be put together. Not in /tmp, which is often in memory. It lies in
// one that is closed to others: its own mode becomes that of the image's root, and setuid files and devices are in it.
func (o *imageOutput) stage() (dir string, remove func() error, err error) {
	at := os.Getenv("TMPDIR")
	if at == "" {
		at = filepath.Dir(o.output)
	}
	private, err := os.MkdirTemp(at, ".extexec-stage-")
	if err != nil {
		return "", nil, err
	}
	remove = func() error { return os.RemoveAll(private) }
	dir = filepath.Join(private, "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return dir, remove, nil
}

// imageMade is the JSON of build and compose.
type imageMade struct {
	Schema       int              `json:"schema"`
	Path         string           `json:"path"`
	Format       build.Format     `json:"format"`
	Size         int64            `json:"size"` // in bytes
	Releases     []releaseShown   `json:"releases"`
	Seed         string           `json:"seed"`
	Time         time.Time        `json:"time"` // no time in the image is later
	Architecture string           `json:"architecture,omitempty"`
	RootHash     string           `json:"rootHash,omitempty"`
	Signed       bool             `json:"signed"`
	Partitions   []partitionShown `json:"partitions,omitempty"`
}

// releaseShown is a release file in JSON.
type releaseShown struct {
	Class  string            `json:"class"`
	File   string            `json:"file"`
	Fields map[string]string `json:"fields"`
}

// partitionShown is a partition in JSON.
type partitionShown struct {
	Number       int    `json:"number"`
	Designator   string `json:"designator"` // "" for a type that is not known
	Architecture string `json:"architecture,omitempty"`
	Label        string `json:"label"`
	Type         string `json:"type"`
	UUID         string `json:"uuid"`
	Offset       int64  `json:"offset"` // in bytes
	Size         int64  `json:"size"`   // in bytes
	ReadOnly     bool   `json:"readOnly"`
	GrowFS       bool   `json:"growFs"`
	NoAuto       bool   `json:"noAuto"`
}

func showReleases(all []release.Release) []releaseShown {
	shown := []releaseShown{}
	for _, r := range all {
		shown = append(shown, releaseShown{Class: r.Class.String(), File: r.File, Fields: r.Fields})
	}
	return shown
}

func showPartitions(t *gpt.Table) []partitionShown {
	var shown []partitionShown
	for _, p := range t.Partitions {
		shown = append(shown, partitionShown{
			Number: p.Number, Designator: p.Kind.Designator, Architecture: p.Kind.Arch, Label: p.Label, Type: p.Type.String(), UUID: p.ID.String(),
			Offset: p.Offset, Size: p.Size, ReadOnly: p.Attrs.ReadOnly(), GrowFS: p.Attrs.GrowFS(), NoAuto: p.Attrs.NoAuto(),
		})
	}
	return shown
}

// make makes the image of a directory that was looked at.
func (o *imageOutput) make(ctx context.Context, source, designator string, releases []release.Release) (*imageMade, error) {
	options := build.Options{Format: build.Format(o.format), Compression: o.compression, AllRoot: o.allRoot, Designator: designator}
	var err error
	if options.Arch, err = o.architecture(releases); err != nil {
		return nil, err
	}
	if options.Signer, err = o.signer(); err != nil {
		return nil, err
	}
	if options.Time, err = lastTime(source); err != nil {
		return nil, err
	}
	if options.Seed, err = o.seedOf(releases); err != nil {
		return nil, err
	}
	r, err := build.Build(ctx, source, o.output, options)
	if err != nil {
		return nil, err
	}
	made := &imageMade{
		Schema: 1, Path: o.output, Format: options.Format, Size: r.Size, Releases: showReleases(releases), Seed: options.Seed.String(),
		Time: options.Time.UTC(), Signed: options.Signer != nil,
	}
	if options.Format == build.DDI {
		made.Architecture, made.RootHash, made.Partitions = options.Arch, hex.EncodeToString(r.RootHash), showPartitions(r.Table)
	}
	return made, nil
}

// architecture is that of the partition types.
func (o *imageOutput) architecture(releases []release.Release) (string, error) {
	for _, r := range releases {
		switch a := r.Fields["ARCHITECTURE"]; {
		case a == "" || a == "_any":
		case o.arch != "" && o.arch != a:
			return "", fmt.Errorf("%s has ARCHITECTURE=%q, and --arch is %q", r.File, a, o.arch)
		default:
			return a, nil
		}
	}
	if o.arch == "" || o.arch == "_any" {
		return architecture.Native(), nil
	}
	return o.arch, nil
}

func (o *imageOutput) signer() (*build.Signer, error) {
	if o.key == "" {
		return nil, nil
	}
	key, err := os.ReadFile(o.key)
	if err != nil {
		return nil, err
	}
	certificate, err := os.ReadFile(o.certificate)
	if err != nil {
		return nil, err
	}
	s, err := build.NewSigner(key, certificate)
	if err != nil {
		return nil, fmt.Errorf("sign with %q and %q: %w", o.key, o.certificate, err)
	}
	return s, nil
}

func (o *imageOutput) seedOf(releases []release.Release) (build.Seed, error) {
	if o.seed != "" {
		return build.ParseSeed(o.seed)
	}
	var parts []string
	for _, r := range releases {
		text, err := release.Format(r.Fields)
		if err != nil {
			return build.Seed{}, err
		}
		parts = append(parts, r.File, string(text))
	}
	return build.SeedOf(parts...), nil
}

// lastTime is SOURCE_DATE_EPOCH (reproducible-builds.org), else the time of the newest file.
func lastTime(source string) (time.Time, error) {
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || n > math.MaxUint32 {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q is no number of seconds since 1970", s)
		}
		return time.Unix(n, 0), nil
	}
	dir, err := openDirectory(source)
	if err != nil {
		return time.Time{}, err
	}
	defer dir.Close()
	newest := time.Unix(0, 0)
	err = layers.Walk(dir, func(e *layers.Entry) error {
		if e.Mtime.After(newest) {
			newest = e.Mtime
		}
		return nil
	})
	// A whole second, and not before it.
	return newest.Add(time.Second - 1).Truncate(time.Second), err
}

// report says what was made.
func (o *imageOutput) report(a *app, made *imageMade) error {
	if o.asJSON {
		return a.writeJSON(made)
	}
	return a.writeMade(made)
}

func (a *app) writeMade(made *imageMade) error {
	var t table
	t.add("Image:", made.Path)
	t.add("Format:", fmt.Sprintf("%s, %d bytes", made.Format, made.Size))
	for _, r := range made.Releases {
		t.add("Release:", r.Class+", "+demands(r.Fields))
	}
	if made.RootHash != "" {
		signed := "not signed"
		if made.Signed {
			signed = "signed"
		}
		t.add("Root hash:", made.RootHash+", "+signed)
	}
	return t.write(a.out)
}

// demands are the fields of a release file that are matched, in a line.
func demands(fields map[string]string) string {
	var words []string
	for _, key := range []string{"ID", "VERSION_ID", "SYSEXT_LEVEL", "CONFEXT_LEVEL", "ARCHITECTURE", "SYSEXT_SCOPE", "CONFEXT_SCOPE"} {
		if v, ok := fields[key]; ok {
			words = append(words, key+"="+v)
		}
	}
	return strings.Join(words, " ")
}
