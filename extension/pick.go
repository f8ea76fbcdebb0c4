package extension

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/extension/layers"
	"github.com/extexec/extexec/extension/release"
	"github.com/extexec/extexec/extension/vdir"
	"github.com/extexec/extexec/extension/vpick"
	"github.com/extexec/extexec/unitfile/settings"
)

// Candidate is a version that a ref could mean; see [vpick.Candidate].
type Candidate struct {
	vpick.Candidate

	// Identity is empty for a candidate that was passed over for its name or
	// its type, or that comes after the one that was picked.
	Identity string
}

// Picked is the extension that a ref means now. It holds nothing open.
type Picked struct {
	Ref  settings.Ref
	Kind settings.Kind // that of the ref

	Path string // where it is, in the namespace that it was picked in; may end in a symbolic link
	Name string // what its release file is named after
	// Version and Arch are what its file name says; both can be empty.
	Version, Arch string

	// Identity is what makes two extensions the same: "dir:" and the
	// fingerprint of a directory, "verity:" and the root hash that an image has
	// to have, "file:" and what statx(2) tells of one without, but for the time of
	// the last change: a rename is no change.
	Identity string

	// Changed is when the file of an image was last changed in any way, for one whose
	// identity does not say it: it may have been written over and given its old time of
	// modification. A rename is a change, too.
	Changed string

	// Unread is why nobody knows whether an image has a root hash: something could not be
	// read. Its identity is that of one without, then.
	Unread error

	// Entry is the entry of a versioned directory that it is; nil for one that is
	// in none.
	Entry *vdir.Version

	Candidates []Candidate // the best first; the one with an empty Why is this
	Warnings   []string    // what was passed over although it should not be there

	file inode // what Open must find again
}

// PickOptions change how [Pick] chooses.
type PickOptions struct {
	// Refused says whether an identity is to be passed over, and why: it failed
	// a check.
	Refused func(identity string) (why string, refused bool)

	// Held says whether a version, which can be empty, is to be passed over, and
	// why: a rollback left it.
	Held func(version, identity string) (why string, held bool)

	// NoTriesLeft passes over what has no tries left also where there is nothing
	// else.
	NoTriesLeft bool

	// Live are paths of what runs. The last try of it may have been taken when it
	// was started, which is no reason to leave it.
	Live []string

	// Given says that the path was given as it is, and stands in no setting: an error
	// then tells nobody to change one.
	Given bool

	// Arch is the architecture to pick for, in systemd's words; empty: that of
	// this program.
	Arch string
}

// Pick finds out what a ref means. Where the ref may be missing ("-") and is,
// both results are nil. An error is an [*Error].
func Pick(ref settings.Ref, o PickOptions) (*Picked, error) {
	if ref.Path == "/" {
		return nil, &Error{Ref: ref.String(), Step: stepPick, Err: errors.New("the root directory is no extension: name a directory that has only the extension's files")}
	}
	p := &picker{ref: ref, options: o, seen: map[string]pinned{}}
	options := vpick.Options{Native: o.Arch, PassOver: p.passOver}
	if len(o.Live) > 0 {
		options.Proven = p.lives
	}
	result, err := vpick.Pick(ref.Path, options, filter(ref.Kind))
	if err != nil && ref.Optional && p.missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Ref: ref.String(), Step: stepPick, Err: p.explain(err)}
	}
	c := result.Picked()
	picked := &Picked{
		Ref: ref, Kind: ref.Kind, Path: c.Path, Name: filepath.Base(c.Path), Version: c.Version, Arch: c.Arch,
		Identity: p.seen[c.Path].identity, Changed: p.seen[c.Path].changed,
		Unread:   p.seen[c.Path].unread,
		Warnings: append(p.warnings, result.Warnings...), file: p.seen[c.Path].inode,
	}
	if ref.Kind == settings.Image {
		picked.Name = release.ImageName(picked.Name)
	}
	picked.enter(ref)
	for _, c := range result.Candidates {
		picked.Candidates = append(picked.Candidates, Candidate{Candidate: c, Identity: p.seen[c.Path].identity})
	}
	return picked, nil
}

// enter notes which entry it is of the versioned directory that a ref means.
func (p *Picked) enter(ref settings.Ref) {
	if suffix, versioned := vpick.SuffixOf(ref.Path, filter(ref.Kind)); versioned {
		p.Entry = vdir.At(p.Path, suffix, p.file.dev, p.file.ino)
	}
}

// PickAgain finds what was picked for a ref earlier, at the path that it had then,
// or under a name with other tries. Where there is nothing, the error wraps
// [fs.ErrNotExist]; where all that is there is another thing, it is [ErrOther].
func PickAgain(ref settings.Ref, path, identity string) (*Picked, error) {
	paths := []string{path}
	if suffix, versioned := vpick.SuffixOf(ref.Path, filter(ref.Kind)); versioned {
		// A directory that cannot be read has nothing more to offer.
		more, _ := vdir.Paths(path, suffix)
		paths = append(paths, more...)
	}
	var first error
	for _, path := range paths {
		at := ref
		at.Path, at.Optional = path, false
		p, err := Pick(at, PickOptions{})
		if err == nil && p.Identity != identity {
			err = &Error{Ref: ref.String(), Step: stepPick, Err: ErrOther}
		}
		if err == nil {
			p.Ref = ref
			p.enter(ref)
			return p, nil
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) {
			first = err
		}
	}
	return nil, first
}

// ErrOther says that what was picked earlier is another thing by now.
var ErrOther = errors.New("it is another thing by now")

func filter(k settings.Kind) vpick.Filter {
	if k == settings.Image {
		return vpick.Raw()
	}
	return vpick.Dir()
}

type picker struct {
	ref      settings.Ref
	options  PickOptions
	seen     map[string]pinned // by path
	asked    bool              // there was a candidate of the right kind
	spent    bool              // one was passed over for its tries
	warnings []string
}

// pinned is what was found of a candidate.
type pinned struct {
	identity, changed string
	inode             inode
	unread            error
}

// inode tells one file from another while both exist.
type inode struct{ dev, ino uint64 }

// lives says whether a candidate whose last try was taken is what runs.
func (p *picker) lives(c *vpick.Candidate) bool {
	if c.TriesLeft > 0 || c.TriesDone == 0 {
		return false
	}
	suffix, _ := vpick.SuffixOf(p.ref.Path, filter(p.ref.Kind))
	is := vdir.At(c.Path, suffix, 0, 0).Is
	return slices.ContainsFunc(p.options.Live, is)
}

// passOver works out the identity of a candidate that would be picked.
func (p *picker) passOver(c *vpick.Candidate, f *os.File) (why string, err error) {
	p.asked = true
	if p.options.NoTriesLeft && c.TriesLeft == 0 {
		p.spent = true
		return "has no tries left", nil
	}
	found, err := identify(f, c.Path, p.ref.Kind)
	if vpick.Shortage(err) {
		return "", fmt.Errorf("look at %q: %w", c.Path, err)
	}
	if err != nil {
		why := "cannot be read: " + err.Error()
		p.warnings = append(p.warnings, fmt.Sprintf("%q is passed over: it %s", c.Path, why))
		return why, nil
	}
	p.seen[c.Path] = found
	if p.options.Refused != nil {
		if why, refused := p.options.Refused(found.identity); refused {
			return cmp.Or(why, "was refused before"), nil
		}
	}
	if p.options.Held != nil {
		if why, held := p.options.Held(c.Version, found.identity); held {
			return cmp.Or(why, "is held"), nil
		}
	}
	return "", nil
}

// identify gives the identity of an open file, which may be an O_PATH
// descriptor; path is where it is.
func identify(f *os.File, path string, k settings.Kind) (pinned, error) {
	if k == settings.Directory {
		_, found, err := pin(f)
		if err != nil {
			return found, err
		}
		fingerprint, err := layers.Fingerprint(f)
		found.identity = "dir:" + fingerprint
		return found, err
	}
	// Whether it has the root hash that it claims is seen when it is opened, which
	// never happens without: a false claim leaves what is there.
	root, unread := rootHash(f, path)
	if vpick.Shortage(unread) {
		return pinned{}, unread
	}
	found, err := identifyImage(f, root)
	found.unread = unread
	return found, err
}

func pin(f *os.File) (st unix.Statx_t, found pinned, err error) {
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return st, found, os.NewSyscallError("statx", err)
	}
	return st, pinned{inode: inode{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}}, nil
}

// identifyImage gives the identity of an image, by its root hash if it has one.
func identifyImage(f *os.File, root []byte) (pinned, error) {
	st, found, err := pin(f)
	if err != nil {
		return found, err
	}
	// An image with verity data is the same wherever it lies.
	if root != nil {
		found.identity = fmt.Sprintf("verity:%x", root)
		return found, nil
	}
	found.identity = "file:" + fileIdentity(&st)
	found.changed = changeTime(&st)
	return found, nil
}

// fileIdentity tells a file from all others, also after a boot.
//
// Not the time of the last change: a rename, such as that of a counter of tries, is one.
// When it was made tells it from a later file that got its number, and from one of another
// file system. Where that has no such time (squashfs, erofs), or only full seconds, as
// what builds a file system image writes them, its device does, for as long as it has that
// number: at another boot, or attached again, it can have another.
func fileIdentity(st *unix.Statx_t) string {
	device := ""
	if st.Mask&unix.STATX_BTIME == 0 || st.Btime.Nsec == 0 {
		device = fmt.Sprintf("%d:%d,", st.Dev_major, st.Dev_minor)
	}
	return device + fmt.Sprintf("%d,%d,%d.%09d,%d.%09d", st.Ino, st.Size, st.Mtime.Sec, st.Mtime.Nsec, st.Btime.Sec, st.Btime.Nsec)
}

func changeTime(st *unix.Statx_t) string { return fmt.Sprintf("%d.%09d", st.Ctime.Sec, st.Ctime.Nsec) }

// Renamed is what Changed is once the extension has been renamed to path; "" where that
// cannot be told, or means nothing.
func (p *Picked) Renamed(path string) (changed string) {
	var st unix.Statx_t
	if p.Changed == "" || unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &st) != nil {
		return ""
	}
	if (inode{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}) != p.file {
		return ""
	}
	return changeTime(&st)
}

// missing says whether a failed pick means that there is nothing: no source, or
// no version of this kind for this machine (the two settings may share one ".v").
// A version that may not be used, and a path that is of the other kind, are
// another matter.
func (p *picker) missing(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	versioned, _ := vpick.Uses(p.ref.Path)
	return errors.Is(err, vpick.ErrNoMatch) && versioned && !p.asked
}

// explain adds to an error what to do about it. The path need not be said again:
// it is in the ref.
func (p *picker) explain(err error) error {
	var pick *vpick.Error
	if errors.As(err, &pick) {
		err = pick.Err
	}
	key, other := "ExtensionDirectories=", settings.Directory
	if p.ref.Kind == settings.Directory {
		key, other = "ExtensionImages=", settings.Image
	}
	optional := p.ref
	optional.Optional = true

	switch {
	case errors.Is(err, vpick.ErrNoMatch):
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("%w: a link in this path leads back to itself: mend it, or name another path", err)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: a file stands in the way of this path: remove it, or name another path", err)
	}
	switch {
	case p.options.Given && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: check the path", err)
	case p.options.Given && errors.Is(err, vpick.ErrNoMatch) && p.missing(err):
		return fmt.Errorf("%w: install a version there", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: install it, or write %q if it may be missing", err, optional)
	case !errors.Is(err, vpick.ErrNoMatch):
		return err
	case p.spent:
		return fmt.Errorf("%w: install another version, or take the counter off the name of one that is good", err)
	case p.fits(other):
		return fmt.Errorf("%w: %s takes it", err, key)
	case p.missing(err):
		return fmt.Errorf("%w: install a version there, or write %q if there may be none", err, optional)
	}
	return err
}

// fits says whether the path would do as a ref of another kind.
func (p *picker) fits(k settings.Kind) bool {
	_, err := vpick.Pick(p.ref.Path, vpick.Options{Native: p.options.Arch}, filter(k))
	return err == nil
}
