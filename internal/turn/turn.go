// Package turn has those who want the same thing at once take turns.
//
// It is a lock (flock(2)) on a file that all of them have open for their own purposes,
// such as the control file of a kernel's driver, and it goes with the file, also with a
// process that is killed. It is advice: who does not ask for it is not kept from anything,
// nor is one who sees another file of that name, so nothing may depend on it that a retry
// would not mend.
package turn

import (
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pause is the longest one between two looks; several who wait get out of step.
const pause = 5 * time.Millisecond

// Wait waits until it is our turn, for so long at most, and says whether it is. It is
// until the file is closed.
func Wait(f *os.File, most time.Duration) (ours bool) {
	for begin := time.Now(); ; time.Sleep(rand.N(pause)) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Since(begin) >= most {
			return err == nil
		}
	}
}
