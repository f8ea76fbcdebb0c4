package reload

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// notInChroot refuses a root that is not the mount namespace's: whoever enters the
// namespace comes to that one, so a reload would exchange what the service does not
// see.
func notInChroot(ctx context.Context, ns *os.File, live *nsmount.Namespace) error {
	there, err := nsmount.Enter(ns)
	if err != nil {
		return err
	}
	defer there.Close()
	var roots [2]nsmount.Location
	for i, n := range []*nsmount.Namespace{live, there} {
		roots[i], err = nsmount.Do(ctx, n, func() (nsmount.Location, error) {
			root, err := nsmount.OpenInRoot("/", unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return nsmount.Location{}, err
			}
			defer root.Close()
			return nsmount.Locate(root)
		})
		if err != nil {
			return err
		}
	}
	if roots[0] != roots[1] {
		return errors.New("this is a chroot, in which a reload would not find what a start lays over it: start outside, or change the root by pivot_root(8)")
	}
	return nil
}
