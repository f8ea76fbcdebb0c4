package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/internal/lookup"
)

func newInspect(a *app) *cobra.Command {
	n := &inspector{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect [flags] IMAGE|DIR",
		Short: "Say what an extension image or directory is, and what is in it",
		Long:  inspectHelp,
		Example: `  sudo extexec inspect web_1.raw
  sudo extexec inspect --files --image-policy root=signed web_1.raw
  extexec inspect --json web/ | jq -r '.releases[].fields.ID'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("inspect wants one IMAGE or DIR, and got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c)
			defer stop()
			shown, err := n.inspect(ctx, args[0])
			if shown == nil {
				return err
			}
			if asJSON {
				return errors.Join(err, a.writeJSON(shown))
			}
			return errors.Join(err, a.writeInspected(shown))
		},
	}
	n.policy.flag(c)
	c.Flags().BoolVar(&n.files, "files", false, "list all files")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

const inspectHelp = `Inspect says of an image: its partitions and file systems, hash tree and root hash, who
has signed it and whether that is trusted here, and whether --image-policy (else what
units have) lets it in. Of what is in it, and of a directory: which class it is, its
release files, and the setuid and setgid files and file capabilities that it would
bring.

What is in an image is shown as root only, because it has to be mounted for that:
read-only, verified where it has a hash tree, attached nowhere. What the policy does not
let in is not mounted. No data is read without that: a changed block is found when it is
mounted.

Where something cannot be looked at, inspect says why and goes on. The exit code is 1
where the file is no image.`

// An inspector is one call of inspect.
type inspector struct {
	policy imagePolicy
	files  bool
}

// inspected is the JSON of inspect.
type inspected struct {
	Schema     int              `json:"schema"`
	Path       string           `json:"path"`
	Format     string           `json:"format"`         // "gpt", "bare" or "directory"; "" for what is no image
	Size       int64            `json:"size,omitempty"` // of the file, in bytes
	DiskID     string           `json:"diskId,omitempty"`
	Backup     bool             `json:"backupTable,omitempty"` // the first partition table is damaged
	Partitions []partitionShown `json:"partitions,omitempty"`
	Volumes    []volumeShown    `json:"volumes,omitempty"`
	Policy     *verdictShown    `json:"policy,omitempty"`
	Contents   *contentsShown   `json:"contents,omitempty"`
	// Unseen says why there are no contents.
	Unseen string `json:"unseen,omitempty"`
}

// volumeShown is a file system in an image.
type volumeShown struct {
	Designator string       `json:"designator"`
	FileSystem string       `json:"fileSystem"`
	Offset     int64        `json:"offset"`
	Size       int64        `json:"size"`
	Verity     *verityShown `json:"verity,omitempty"`
}

type verityShown struct {
	RootHash      string `json:"rootHash"`
	RootHashFrom  string `json:"rootHashFrom"`
	HashTree      string `json:"hashTree"` // where it is, in words
	UUID          string `json:"uuid,omitempty"`
	Algorithm     string `json:"algorithm,omitempty"`
	DataBlockSize uint32 `json:"dataBlockSize,omitempty"`
	HashBlockSize uint32 `json:"hashBlockSize,omitempty"`
	DataBlocks    uint64 `json:"dataBlocks,omitempty"`
	Salt          string `json:"salt,omitempty"`
	Signature     string `json:"signature,omitempty"` // where it is, in words
	Signer        string `json:"signer,omitempty"`    // the trusted certificate
	Problem       string `json:"problem,omitempty"`
}

type verdictShown struct {
	Policy  string `json:"policy"`
	Taken   bool   `json:"taken"`
	Refused string `json:"refused,omitempty"` // why
	// Unsigned says that it lets in images that nobody has signed, too.
	Unsigned bool `json:"unsigned"`
}

// contentsShown is what is in an image or a directory.
type contentsShown struct {
	Verified   string           `json:"verified,omitempty"` // how, in words
	Releases   []releaseShown   `json:"releases"`
	Problem    string           `json:"problem,omitempty"` // why it is no extension
	Count      int              `json:"count"`             // of files and directories
	Privileged []privilegedFile `json:"privileged"`
	Files      []fileShown      `json:"files,omitempty"`
}

// privilegedFile gives whoever executes it more than he has.
type privilegedFile struct {
	Path         string `json:"path"`
	Mode         string `json:"mode"`
	UID          uint32 `json:"uid"`
	GID          uint32 `json:"gid"`
	Capabilities string `json:"capabilities,omitempty"` // as getcap has them
}

type fileShown struct {
	Path   string    `json:"path"`
	Mode   string    `json:"mode"` // as ls shows it
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Size   uint64    `json:"size"`
	Mtime  time.Time `json:"mtime"`
	Target string    `json:"target,omitempty"`
}

func (n *inspector) inspect(ctx context.Context, path string) (*inspected, error) {
	p, err := n.policy.parse()
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	shown := &inspected{Schema: 1, Path: path}
	st, err := os.Stat(path)
	if err != nil {
		return nil, notThere("inspect", path, err)
	}
	if st.IsDir() {
		dir, err := openDirectory(path)
		if err != nil {
			return nil, notThere("inspect", path, err)
		}
		defer dir.Close()
		shown.Format = "directory"
		shown.Contents, err = n.contents(dir, filepath.Base(abs), nil)
		return shown, err
	}
	report, err := inspectImage(path, p)
	if err != nil {
		return nil, err
	}
	shown.report(report, p)
	switch {
	case report.Refused != nil && !report.Denied():
		return shown, fmt.Errorf("inspect %q: %w", path, report.Refused)
	case report.Refused != nil:
		shown.Unseen = "the policy does not let it in"
	case os.Geteuid() != 0:
		shown.Unseen = "only root can mount it"
	default:
		err = n.mounted(ctx, shown, p, release.ImageName(filepath.Base(abs)))
	}
	return shown, err
}

func inspectImage(path string, p policy.Policy) (*image.Report, error) {
	f, err := openImageFile(path)
	if err != nil {
		return nil, notThere("inspect", path, err)
	}
	defer f.Close()
	return image.Inspect(f, path, image.Options{Policy: p})
}

// mounted looks at what is in an image.
func (n *inspector) mounted(ctx context.Context, shown *inspected, p policy.Policy, name string) (err error) {
	i, err := openImage(ctx, shown.Path, p)
	if err != nil {
		shown.Unseen = err.Error()
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	if shown.Contents, err = n.contents(i.Tree.File(), name, i.Dir); err == nil {
		shown.Contents.Verified = i.Info.Verified
	}
	return err
}

// report takes over what is known without mounting.
func (s *inspected) report(r *image.Report, p policy.Policy) {
	s.Format, s.Size = r.Format, r.Size
	const unsigned = policy.Unprotected | policy.Verity
	s.Policy = &verdictShown{Policy: p.String(), Taken: r.Refused == nil, Unsigned: (p.Allowed(policy.Root)|p.Allowed(policy.Usr))&unsigned != 0}
	if r.Refused != nil {
		s.Policy.Refused = r.Refused.Error()
	}
	if r.Table != nil {
		s.DiskID, s.Backup, s.Partitions = r.Table.ID.String(), r.Table.Backup, showPartitions(r.Table)
	}
	for _, v := range r.Volumes {
		s.Volumes = append(s.Volumes, volumeShown{
			Designator: v.Designator, FileSystem: v.FSType, Offset: v.Offset, Size: v.Size, Verity: showVerity(v.Verity),
		})
	}
}

func showVerity(r *image.VerityReport) *verityShown {
	if r == nil {
		return nil
	}
	v := &verityShown{
		RootHash: hex.EncodeToString(r.RootHash), RootHashFrom: r.RootFrom, HashTree: r.TreeFrom, Signature: r.SignedIn, Signer: r.Signer,
	}
	if r.Problem != nil {
		v.Problem = r.Problem.Error()
	}
	if s := r.Superblock; s != nil {
		v.UUID, v.Algorithm, v.Salt = gpt.FromBytes(s.UUID).String(), s.Algorithm, hex.EncodeToString(s.Salt)
		v.DataBlockSize, v.HashBlockSize, v.DataBlocks = s.DataBlockSize, s.HashBlockSize, s.DataBlocks
	}
	return v
}

// contents looks at a tree. open opens a directory of an image, which may have a usr partition of its own.
func (n *inspector) contents(tree *os.File, name string, open func(string) (*os.File, error)) (*contentsShown, error) {
	c := &contentsShown{Releases: []releaseShown{}, Privileged: []privilegedFile{}}
	releases, err := release.FindAll(tree, name, false)
	if err != nil {
		c.Problem = err.Error()
	}
	c.Releases = showReleases(releases)
	covered, err := n.walk(c, tree, "/")
	if err != nil || !covered || open == nil {
		return c, err
	}
	usr, err := open("/usr")
	if err != nil {
		return c, err
	}
	defer usr.Close()
	_, err = n.walk(c, usr, "/usr/")
	return c, err
}

// walk looks at everything in a directory, and says whether something is mounted on its usr.
func (n *inspector) walk(c *contentsShown, dir *os.File, prefix string) (covered bool, err error) {
	err = layers.Walk(dir, func(e *layers.Entry) error {
		c.Count++
		path := prefix + e.Path()
		if e.Covered {
			covered = covered || path == "/usr"
			return nil // it is no part of the layer
		}
		if n.files {
			c.Files = append(c.Files, fileShown{
				Path: path, Mode: mode(e.Mode), UID: e.UID, GID: e.GID, Size: e.Size, Mtime: e.Mtime.UTC(), Target: e.Target,
			})
		}
		p, err := privileged(dir, e)
		if p != nil {
			p.Path = path
			c.Privileged = append(c.Privileged, *p)
		}
		return err
	})
	return covered, err
}

// privileged says whether a file gives rights away; nil where it does not.
func privileged(tree *os.File, e *layers.Entry) (*privilegedFile, error) {
	if e.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	f, err := lookup.Open(tree, e.Path(), unix.O_PATH|unix.O_NOFOLLOW, lookup.Beneath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	value := make([]byte, 64)
	size, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), "security.capability", value)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return nil, fmt.Errorf("read capabilities of %q: %w", e.Path(), err)
	}
	if err != nil {
		size = 0
	}
	if e.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 && size == 0 {
		return nil, nil
	}
	return &privilegedFile{Mode: mode(e.Mode), UID: e.UID, GID: e.GID, Capabilities: fileCapabilities(value[:size])}, nil
}

// mode is a mode as ls shows it.
func mode(m uint32) string {
	kinds := map[uint32]byte{unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's'}
	text := []byte("-rwxrwxrwx")
	if k, ok := kinds[m&unix.S_IFMT]; ok {
		text[0] = k
	}
	for i := range 9 {
		if m&(1<<(8-i)) == 0 {
			text[i+1] = '-'
		}
	}
	for _, s := range []struct {
		bit uint32
		at  int
		set byte
	}{{unix.S_ISUID, 3, 's'}, {unix.S_ISGID, 6, 's'}, {unix.S_ISVTX, 9, 't'}} {
		if m&s.bit == 0 {
			continue
		}
		if text[s.at] == '-' {
			s.set -= 'a' - 'A'
		}
		text[s.at] = s.set
	}
	return string(text)
}

func (a *app) writeInspected(s *inspected) error {
	var t table
	t.add("Path:", s.Path)
	size := ""
	if s.Size > 0 {
		size = fmt.Sprintf(", %d bytes", s.Size)
	}
	t.add("Format:", formats[s.Format]+size)
	for _, v := range s.Volumes {
		t.add("File system:", v.FileSystem+" ("+v.Designator+")")
		addVerity(&t, v.Verity)
	}
	if s.Policy != nil {
		verdict := "lets it in"
		if !s.Policy.Taken {
			verdict = "does not let it in: " + s.Policy.Refused
		}
		t.add("Policy:", policyWords(s.Policy.Policy)+" "+verdict)
		if s.Policy.Unsigned {
			t.add("", "(it lets in what nobody has signed, too)")
		}
	}
	if s.Contents != nil {
		addContents(&t, s.Contents)
	} else if s.Unseen != "" {
		t.add("Contents:", "not looked at: "+s.Unseen)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	for _, t := range []*table{partitionTable(s.Partitions), privilegedTable(s.Contents), fileTable(s.Contents)} {
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
	return nil
}

// policyWords names a policy: that of units is long.
func policyWords(p string) string {
	if p == policy.Default().String() {
		return "that of units, which asks for nothing,"
	}
	return fmt.Sprintf("%q", p)
}

// formats are the words for people.
var formats = map[string]string{"gpt": "disk image (GPT)", "bare": "bare file system", "directory": "directory", "": "unknown"}

func addVerity(t *table, v *verityShown) {
	if v == nil {
		t.add("Verity:", "none")
		return
	}
	t.add("Root hash:", v.RootHash+" (in "+v.RootHashFrom+")")
	t.add("Hash tree:", fmt.Sprintf("%s, %s, %d blocks of %d bytes", v.HashTree, v.Algorithm, v.DataBlocks, v.DataBlockSize))
	switch {
	case v.Signer != "":
		t.add("Signed:", "yes, trusted by "+v.Signer)
	case v.Signature != "":
		t.add("Signed:", "not by anybody trusted: "+v.Problem)
	default:
		t.add("Signed:", "no")
	}
}

func addContents(t *table, c *contentsShown) {
	if c.Verified != "" {
		t.add("Verified:", c.Verified)
	}
	for _, r := range c.Releases {
		t.add("Class:", r.Class+", "+demands(r.Fields))
		t.add("Release file:", r.File)
	}
	if c.Problem != "" {
		t.add("Class:", "none: "+c.Problem)
	}
	t.add("Files:", fmt.Sprintf("%d, of which %d give rights away", c.Count, len(c.Privileged)))
}

func partitionTable(all []partitionShown) *table {
	t := &table{}
	t.add("PARTITION", "DESIGNATOR", "ARCHITECTURE", "LABEL", "UUID", "OFFSET", "SIZE", "FLAGS")
	for _, p := range all {
		var flags []string
		for _, f := range []struct {
			name string
			set  bool
		}{{"read-only", p.ReadOnly}, {"growfs", p.GrowFS}, {"no-auto", p.NoAuto}} {
			if f.set {
				flags = append(flags, f.name)
			}
		}
		designator := p.Designator
		if designator == "" {
			designator = p.Type
		}
		t.add(fmt.Sprint(p.Number), designator, p.Architecture, p.Label, p.UUID, fmt.Sprint(p.Offset), fmt.Sprint(p.Size), strings.Join(flags, ","))
	}
	return t
}

func privilegedTable(c *contentsShown) *table {
	t := &table{}
	t.add("GIVES RIGHTS AWAY", "MODE", "OWNER", "CAPABILITIES")
	if c == nil {
		return t
	}
	for _, p := range c.Privileged {
		t.add(p.Path, p.Mode, fmt.Sprintf("%d:%d", p.UID, p.GID), p.Capabilities)
	}
	return t
}

func fileTable(c *contentsShown) *table {
	t := &table{}
	t.add("MODE", "OWNER", "SIZE", "MODIFIED", "PATH")
	if c == nil {
		return t
	}
	for _, f := range c.Files {
		path := f.Path
		if f.Target != "" {
			path += " -> " + f.Target
		}
		t.add(f.Mode, fmt.Sprintf("%d:%d", f.UID, f.GID), fmt.Sprint(f.Size), when(f.Mtime), path)
	}
	return t
}
