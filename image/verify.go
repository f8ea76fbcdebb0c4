package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/policy"
)

// This file is where verification belongs: between dissect, which finds the volumes, and mount. Until there is any,
// it refuses whatever was meant to be verified, so that nothing is mounted unverified by accident.

// ErrVerity is the refusal of an image that has verity data.
var ErrVerity = errors.New("verity is not supported yet by this version, so it is refused rather than mounted unverified; " +
	"use an image without it, or a directory")

// checkPolicy refuses a policy that demands anything: that the image be protected, or that its partitions be so or so.
func checkPolicy(p policy.Policy) error {
	if p.Open() {
		return nil
	}
	return fmt.Errorf("%w: %q allows only what this version cannot check yet; "+
		"set ExtensionImagePolicy=* to take images as they are, or use a directory", policy.ErrDenied, p)
}

// checkAttributes refuses an image whose extended attributes carry a root hash.
func checkAttributes(f *os.File) error {
	for _, name := range []string{"user.verity.roothash", "user.verity.usrhash"} {
		_, err := unix.Fgetxattr(int(f.Fd()), name, nil)
		switch {
		case err == nil:
			return fmt.Errorf("it has the attribute %s: %w", name, ErrVerity)
		case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP):
		default:
			return fmt.Errorf("read attribute %s: %w", name, err)
		}
	}
	return nil
}

// checkVolumes refuses partitions with verity data, whichever partition they belong to.
func checkVolumes(partitions []gpt.Partition) error {
	for _, p := range partitions {
		switch p.Kind.Designator {
		case "root-verity", "usr-verity", "root-verity-sig", "usr-verity-sig":
			return fmt.Errorf("partition %d is %s: %w", p.Number, p.Kind.Designator, ErrVerity)
		}
	}
	return nil
}

// CheckSidecars refuses the image at path if files with verity data for it lie beside it: where systemd looks for
// them, by the name of the image without ".raw". The error is ErrVerity, or why it could not be found out.
func CheckSidecars(path string) error {
	stem := strings.TrimSuffix(path, ".raw")
	for _, suffix := range []string{".verity", ".roothash", ".roothash.p7s", ".usrhash", ".usrhash.p7s"} {
		switch _, err := os.Lstat(stem + suffix); {
		case err == nil:
			return fmt.Errorf("open image %q: %q lies beside it: %w", path, stem+suffix, ErrVerity)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("open image %q: look for verity data beside it: %w", path, err)
		}
	}
	return nil
}
