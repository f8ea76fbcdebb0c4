package nsmount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxLayers is the kernel's limit of lower layers in one overlay, the base
// included (OVL_MAX_STACK of fs/overlayfs/ovl_entry.h).
const MaxLayers = 500

// Overlay describes a read-only overlay.
type Overlay struct {
	Source string     // what the mount table shows as its source, at most 255 bytes
	Layers []*os.File // bottom to top, O_PATH directories
	Base   *os.File   // beneath all layers
	Attr   Attr
}

// overlayOptions are fixed. A layer is foreign data: its trusted.overlay.*
// attributes must lead nowhere, so neither redirects nor metadata-only copies
// are followed. index and xino would only tie the layers to each other.
var overlayOptions = []Option{
	{Key: "redirect_dir", Value: "nofollow"},
	{Key: "metacopy", Value: "off"},
	{Key: "index", Value: "off"},
	{Key: "xino", Value: "off"},
}

// MountOverlay mounts the overlay attached nowhere. The layers are given to the
// kernel as /proc/self/fd paths, so they must stay open until it returns; what
// the overlay needs of them it clones. Needs lowerdir+ (Linux 6.7), else
// [ErrNotSupported]: then [Scratch.MountOverlay] is the way.
func MountOverlay(o Overlay) (*Tree, error) {
	t, err := mountOverlay(o)
	if errors.Is(err, unix.EINVAL) && legacyContext("overlay") {
		return nil, noLowerdir(o.Source)
	}
	return t, err
}

func mountOverlay(o Overlay) (*Tree, error) {
	if n := len(o.Layers) + 1; n > MaxLayers {
		return nil, &OpError{Op: "fsconfig lowerdir+", FSType: "overlay", Target: o.Source,
			Err: fmt.Errorf("%d layers with the base, the kernel takes %d: use fewer extensions", n, MaxLayers)}
	}
	ctx, err := openContext("overlay", o.Source)
	if err != nil {
		return nil, err
	}
	defer ctx.close()
	if err := ctx.setString("source", o.Source); err != nil {
		return nil, err
	}
	for _, opt := range overlayOptions {
		if err := ctx.setString(opt.Key, opt.Value); err != nil {
			return nil, err
		}
	}
	for i := len(o.Layers) - 1; i >= 0; i-- {
		if err := ctx.lower(o.Layers[i]); err != nil {
			return nil, err
		}
	}
	if err := ctx.lower(o.Base); err != nil {
		return nil, err
	}
	if err := ctx.setFlag("ro"); err != nil {
		return nil, err
	}
	return ctx.mount(o.Attr)
}

// lower adds the next layer from the top. The kernel answers an unknown
// parameter with EINVAL and says so in the context.
func (c *fsContext) lower(dir *os.File) error {
	err := c.setString("lowerdir+", fdPath(dir))
	if errors.Is(err, unix.EINVAL) && strings.Contains(err.Error(), "Unknown parameter") {
		return noLowerdir(c.target)
	}
	return err
}

func noLowerdir(target string) error {
	return &OpError{Op: "fsconfig lowerdir+", FSType: "overlay", Target: target, Err: fmt.Errorf("%w (needs Linux 6.7)", ErrNotSupported)}
}

// legacyContext tells whether the file system is still mounted by the text that
// mount(2) takes, overlay before Linux 6.5. Then fsconfig(2) only collects that text,
// whatever the words are, and fails when all of it is looked at (legacy_parse_param of
// fs/fs_context.c).
func legacyContext(fsType string) bool {
	ctx, err := openContext(fsType, "")
	if err != nil {
		return false
	}
	defer ctx.close()
	return ctx.setFlag("extexec-no-such-option") == nil
}
