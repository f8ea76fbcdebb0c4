package credential

import (
	"fmt"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/capabilities"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// The calls below take 32-bit ids only where a word has 64 bits; elsewhere they
// are the old ones with 16-bit ids. This line does not compile there.
const _ = uint(^uintptr(0)>>63) - 1

// A BecomeError says which of the calls that make a thread another user's was
// refused. systemd would end with status 217 (216 for the groups).
type BecomeError struct {
	Call string // "setgroups", "setresgid", "setresuid", "capset", "ambient"
	User string
	Err  error
}

func (e *BecomeError) Error() string {
	return fmt.Sprintf("become user %q: %s: %v: the unit's CapabilityBoundingSet= and SystemCallFilter= must leave CAP_SETUID, CAP_SETGID and @setuid", e.User, e.Call, e.Err)
}

func (e *BecomeError) Unwrap() error { return e.Err }

// A Change is everything that it takes to become a user, prepared.
type Change struct {
	user    User
	ambient CapSet
	caps    *capabilities.Caps // nil where no capability has to be kept

	noNewPrivs bool
}

// DropsPrivileges says that CAP_SYS_ADMIN is lost on the way.
func (c *Change) DropsPrivileges() bool {
	return c.user.SetUID && c.user.UID != 0 && !c.ambient.Has(unix.CAP_SYS_ADMIN)
}

// SetNoNewPrivs makes Apply set no_new_privs, prctl(2), which it leaves as it is
// otherwise.
func (c *Change) SetNoNewPrivs() { c.noNewPrivs = true }

// Prepare looks at the calling thread's capabilities and prepares to become u.
// It must run where /proc is whole, which below ProcSubset=pid only the host's
// view is: /proc/sys/kernel/cap_last_cap is read.
func Prepare(u User) (*Change, error) {
	c := &Change{user: u}
	if !u.SetUID || u.UID == 0 {
		return c, nil // root keeps what it has
	}
	ambient, err := ambientSet()
	if err != nil {
		return nil, fmt.Errorf("read ambient capabilities: %w", err)
	}
	if ambient == 0 {
		return c, nil // setresuid alone drops what a user must not have
	}
	inheritable, err := inheritableSet()
	if err != nil {
		return nil, fmt.Errorf("read inheritable capabilities: %w", err)
	}
	// Permitted and effective go down to the ambient set. execve would do so
	// for a plain program; but one with file capabilities and no_new_privs
	// keeps what was permitted before.
	c.ambient = ambient
	c.caps, err = capabilities.New(&configs.Capabilities{
		Permitted:   ambient.Names(),
		Effective:   ambient.Names(),
		Inheritable: inheritable.Names(),
		Ambient:     ambient.Names(),
	})
	if err != nil {
		return nil, fmt.Errorf("prepare capabilities: %w", err)
	}
	return c, nil
}

// Apply makes the calling thread the user's: groups, then ids, then the ambient
// set, which setresuid drops (capabilities(7)), put back. Bounding set and
// inheritable set stay as they are. The goroutine must be locked to the thread, and
// execve must be what it does next; where Apply fails, the process can only say so
// and exit. See the package's word on threads.
func (c *Change) Apply() error {
	u := c.user
	if c.noNewPrivs {
		if err := raw(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
			return c.failed("set no_new_privs", err)
		}
	}
	if u.SetGroups {
		if err := setgroups(u.Groups); err != nil {
			return c.failed("setgroups", err)
		}
	}
	if u.SetGID {
		if err := raw(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID)); err != nil {
			return c.failed("setresgid", err)
		}
	}
	if !u.SetUID {
		return nil
	}
	if c.caps != nil {
		// execve clears this again.
		if err := raw(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
			return c.failed("keep capabilities", err)
		}
	}
	if err := raw(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), uintptr(u.UID)); err != nil {
		return c.failed("setresuid", err)
	}
	return c.restoreAmbient()
}

func (c *Change) restoreAmbient() error {
	if c.caps == nil {
		return nil
	}
	if err := c.caps.ApplyCaps(); err != nil {
		return c.failed("capset", err)
	}
	// ApplyCaps only logs a capability that it could not raise.
	have, err := ambientSet()
	if err != nil {
		return c.failed("ambient", err)
	}
	if have != c.ambient {
		return c.failed("ambient", fmt.Errorf("have %q, want %q", have, c.ambient))
	}
	return nil
}

func (c *Change) failed(call string, err error) error {
	name := c.user.Name
	if name == "" {
		name = fmt.Sprint(c.user.UID)
	}
	return &BecomeError{Call: call, User: name, Err: err}
}

func setgroups(groups []uint32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 {
		return errno
	}
	return nil
}

// ambientSet asks for one capability after the other, prctl(2), as there is no
// call for the set and /proc may be hidden.
func ambientSet() (CapSet, error) {
	var set CapSet
	for n := range 64 {
		is, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(n), 0, 0, 0)
		if errno == unix.EINVAL && n > 0 {
			break // beyond the kernel's last one
		}
		if errno != 0 {
			return 0, errno
		}
		set |= CapSet(is) << n
	}
	return set, nil
}

func inheritableSet() (CapSet, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return CapSet(data[0].Inheritable) | CapSet(data[1].Inheritable)<<32, nil
}

func raw(call, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}
