package portable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/units/lint"
)

// A Manager is what is needed of systemd: units/manager's, and what a test puts in its
// place to fail.
type Manager interface {
	DaemonReload(ctx context.Context) error
	Active(ctx context.Context, unit string) (bool, error)
	Instances(ctx context.Context, template string) ([]string, error) // that run
	FileState(ctx context.Context, unit string) (string, error)
	Ordering(ctx context.Context, unit string) (after, before []string, err error)
	Start(ctx context.Context, units ...string) error // jobs queued in this order, and waited for
	Stop(ctx context.Context, units ...string) error
	Restart(ctx context.Context, units ...string) error
	EnableFiles(ctx context.Context, units []string, runtime bool) error
	DisableFiles(ctx context.Context, units []string, runtime bool) error
	Clean(ctx context.Context, unit string) error
}

// A Host is what images are attached to.
type Host struct {
	Root    string  // that the files of systemd lie below; "" is "/"
	Manager Manager // nil where there is none to ask
	Facts   lint.Facts
	// AllowUntrusted lets images in that others than root can replace.
	AllowUntrusted bool
	// Verify, where it is set, says whether a service that was started is good; else
	// all is taken back.
	Verify func(ctx context.Context, unit string) error
	// Hook is for tests, see steps.Run.
	Hook func(point string) error
}

func (h Host) path(elements ...string) string {
	return filepath.Join(append([]string{"/", h.Root}, elements...)...)
}

// attachedDir is where the units are, systemd.unit(5).
func (h Host) attachedDir(runtime bool) string {
	if runtime {
		return h.path("/run/systemd/system.attached")
	}
	return h.path("/etc/systemd/system.attached")
}

// linkDir is where images are linked that lie elsewhere, so that their names do.
func (h Host) linkDir(runtime bool) string {
	if runtime {
		return h.path("/run/portables")
	}
	return h.path("/etc/portables")
}

// lock keeps other calls of ours away. The caller closes it.
func (h Host) lock() (*os.File, error) {
	name := h.path("/run/extexec/portable.lock")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("lock the portable services: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the portable services: %w", err)
	}
	for err = unix.EINTR; err == unix.EINTR; { //nolint:errorlint // a bare errno
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the portable services: %w", err), f.Close())
	}
	return f, nil
}

// ErrBusy says that another call is at work.
var ErrBusy = errors.New("another extexec portable is at work: wait for it")

// An attachment is units that are attached from the same images.
type attachment struct {
	Marker  Marker
	Runtime bool
	Units   []string // sorted; also those of which the drop-ins alone are left
	// Left are those of Units that have no unit file.
	Left []string
}

// attachments reads what is attached, the persistent ones first.
func (h Host) attachments() ([]*attachment, error) {
	var all []*attachment
	for _, runtime := range []bool{false, true} {
		found, err := h.attachedIn(runtime)
		if err != nil {
			return nil, fmt.Errorf("read what is attached: %w", err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func (h Host) attachedIn(runtime bool) ([]*attachment, error) {
	dir := h.attachedDir(runtime)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*attachment
	for _, e := range entries {
		name, isDir := strings.CutSuffix(e.Name(), ".d")
		if _, err := unitfile.ParseName(name); !isDir || err != nil {
			continue
		}
		text, err := readBounded(filepath.Join(dir, e.Name(), dropInName))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m, ok := parseMarker(string(text))
		if !ok {
			continue // somebody else's
		}
		at := slices.IndexFunc(all, func(a *attachment) bool { return a.Marker.exactly(m) })
		if at < 0 {
			at = len(all)
			all = append(all, &attachment{Marker: m, Runtime: runtime})
		}
		a := all[at]
		a.Units = append(a.Units, name)
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			a.Left = append(a.Left, name)
		}
	}
	return all, nil
}

// readBounded reads a small file.
func readBounded(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxUnitSize {
		return nil, fmt.Errorf("read %q: it is no regular file of %d bytes at most", name, maxUnitSize)
	}
	return os.ReadFile(name)
}

// ErrNotAttached says that nothing is attached from the images.
var ErrNotAttached = errors.New("it is not attached")

// attached finds what is attached from these images, as names or paths.
func (h Host) attached(images []string) (*attachment, error) {
	all, err := h.attachments()
	if err != nil {
		return nil, err
	}
	var found, base []*attachment
	for _, a := range all {
		switch {
		case a.Marker.exactly(images):
			return a, nil
		case a.Marker.means(images):
			found = append(found, a)
		case a.Marker[:1].means(images[:1]):
			base = append(base, a)
		}
	}
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("find what is attached of %q: %s and %s have these names: give the paths", images, found[0].Marker, found[1].Marker)
	case len(found) == 1:
		return found[0], nil
	case len(base) > 0 && len(base[0].Marker) > 1:
		return nil, fmt.Errorf("find what is attached of %q: %w so: it is with --extension %s", images, ErrNotAttached,
			strings.Join(base[0].Marker[1:], " --extension "))
	case len(base) > 0:
		return nil, fmt.Errorf("find what is attached of %q: %w so: it is without extensions", images, ErrNotAttached)
	}
	return nil, fmt.Errorf("find what is attached of %q: %w: see extexec portable list", images, ErrNotAttached)
}

// given are the images of a call as they are compared with markers: what is a path
// becomes an absolute one.
func given(base string, extensions []string) []string {
	images := append([]string{base}, extensions...)
	for i, p := range images {
		if strings.Contains(p, "/") {
			if abs, err := filepath.Abs(p); err == nil {
				images[i] = abs
			}
		}
	}
	return images
}
