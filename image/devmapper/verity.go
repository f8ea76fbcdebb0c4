package devmapper

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/internal/turn"
)

// Verity describes a device.
type Verity struct {
	Algorithm                    string
	DataBlockSize, HashBlockSize uint32 // in bytes
	DataBlocks                   uint64
	HashStart                    uint64 // the first block of the tree
	Root, Salt                   []byte
	// Signature is PKCS#7 over the root hash, for the kernel; nil: there is none.
	Signature []byte
}

// Device is a device that is open for reading. Who has it open, or has mounted it, keeps it.
type Device struct {
	*os.File
	// DMName is the name that the device mapper has for it, until it goes.
	DMName string
	// Signed says that the kernel has checked the signature, with a key of its own.
	Signed bool
	// Shared says that it was there already.
	Shared bool
	// Unsigned says why the kernel did not take the signature.
	Unsigned error
}

const (
	prefix = "extexec-verity-"
	// patience is how long a device is waited for that another process is about to make, or to remove. Where hundreds of
	// services start at once on a machine that is busy, that can be seconds.
	patience = 10 * time.Second
	// abandoned is how long one is half made for before it counts as left so by somebody who was killed, where nobody
	// else can be making it.
	abandoned = 200 * time.Millisecond
	// numbers bounds how many devices there are of one root hash, of which all but the last have seen changed blocks.
	numbers = 16
)

// signatureOption is the parameter of a table that names the key with the signature (Linux 5.4).
const signatureOption = "root_hash_sig_key_desc"

// loopMajor is the number of all loop devices (linux/major.h).
const loopMajor = 7

// name of the device of a root hash. 96 digits tell two of them apart, and there is room for no more than 127.
func name(root []byte, n int) string {
	s := prefix + hex.EncodeToString(root[:min(len(root), 48)])
	if n > 0 {
		s = fmt.Sprintf("%s-%d", s, n)
	}
	return s
}

// Open gives the device for v. backing makes the devices for data and hash tree, if they are needed; they may be closed
// as soon as Open has returned. signed demands that the kernel has checked the signature.
func Open(v Verity, signed bool, backing func() (data, hash *os.File, err error)) (*Device, error) {
	c, err := openControl()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for n := range numbers {
		d, err := c.share(v, name(v.Root, n), signed)
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, unix.ENXIO) && !errors.Is(err, errOther) && !errors.Is(err, errAgain):
			return nil, fmt.Errorf("open device %s: %w", name(v.Root, n), err)
		}
	}
	for n := range numbers {
		d, err := c.open(v, name(v.Root, n), signed, backing)
		if !errors.Is(err, errOther) {
			return d, err
		}
	}
	return nil, fmt.Errorf("open device %s: there are %d of it already, and none can be used: image files may be failing", name(v.Root, 0), numbers)
}

var (
	// errOther says that the device of that name is not to be shared.
	errOther = errors.New("another device has this name")
	// errAgain says that a device is being made or removed.
	errAgain = errors.New("the device comes and goes")
)

func (c *control) open(v Verity, name string, signed bool, backing func() (data, hash *os.File, err error)) (d *Device, err error) {
	begin := time.Now()
	// Whoever makes one has the lock, unless it has another /dev.
	alone := turn.Wait(c.f, patience)
	for seen := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		d, err = c.share(v, name, signed)
		if errors.Is(err, unix.ENXIO) {
			d, err = c.create(v, name, signed, backing)
		}
		switch {
		case err == nil, errors.Is(err, errOther):
			return d, err
		case !errors.Is(err, errAgain):
			return nil, fmt.Errorf("open device %s: %w", name, err)
		case time.Since(begin) > patience:
			return nil, fmt.Errorf("open device %s: %w for %s: try again", name, err, patience)
		case alone && time.Since(seen) > abandoned:
			// Nobody has it open, else it stays.
			if _, _, err := c.call(unix.DM_DEV_REMOVE, request{name: name}); err != nil && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EBUSY) {
				return nil, fmt.Errorf("remove device %s, which another process has begun and not finished: %w", name, err)
			}
			seen = time.Now()
		}
	}
}

// share opens a device that is there. ENXIO: there is none.
func (c *control) share(v Verity, name string, signed bool) (*Device, error) {
	h, _, err := c.call(unix.DM_DEV_STATUS, request{name: name})
	if err != nil {
		return nil, err
	}
	if h.Flags&unix.DM_ACTIVE_PRESENT_FLAG == 0 || h.Flags&unix.DM_SUSPEND_FLAG != 0 {
		return nil, errAgain
	}
	f, err := openNode(h.Dev)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
		return nil, errAgain
	}
	if err != nil {
		return nil, err
	}
	// It is ours for as long as f is open. Is it still that one, and the right one?
	d := &Device{File: f, DMName: name, Shared: true}
	if d.Signed, err = c.matches(v, name, h.Dev); err == nil && signed && !d.Signed {
		err = errOther
	}
	if err == nil {
		// Whoever has made it may have been killed before it could say so.
		_, _, err = c.call(unix.DM_DEV_REMOVE, request{name: name, flags: unix.DM_DEFERRED_REMOVE})
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// matches holds a device against what is wanted, and says whether the kernel has checked its signature.
func (c *control) matches(v Verity, name string, dev uint64) (signed bool, err error) {
	h, data, err := c.call(unix.DM_TABLE_STATUS, request{name: name, flags: unix.DM_STATUS_TABLE_FLAG})
	table, ok := onlyTarget(h, data)
	if err != nil || h.Dev != dev {
		return false, errAgain
	}
	if !ok || h.Flags&unix.DM_READONLY_FLAG == 0 {
		return false, errOther
	}
	if signed, ok = v.describes(table, name); !ok {
		return false, errOther
	}
	h, data, err = c.call(unix.DM_TABLE_STATUS, request{name: name})
	if status, ok := onlyTarget(h, data); err != nil || !ok || !strings.HasPrefix(status.text, "V") {
		return false, errOther
	}
	return signed, nil
}

// describes says whether a table is one that load would make, and whether that is the one with the signature. Nothing
// else will do: one parameter more can mean that changed blocks are passed on, that they bring the machine down, or
// that they are looked at once only.
func (v Verity) describes(t found, name string) (signed, ok bool) {
	words := strings.SplitN(t.text, " ", 4)
	// Which loop devices they are depends on the machine.
	if len(words) != 4 || words[0] != "1" || !isLoop(words[1]) || !isLoop(words[2]) || t.start != 0 || t.sectors != v.sectors() {
		return false, false
	}
	rest, ok := strings.CutPrefix(words[3], v.parameters())
	switch strings.TrimSuffix(rest, " ") {
	case "":
		return false, ok
	case signing(name):
		return true, ok
	}
	return false, false
}

// isLoop says whether a device, as a table has it, is a loop device: ours are.
func isLoop(device string) bool { return strings.HasPrefix(device, fmt.Sprintf("%d:", loopMajor)) }

// sectors is the length of the device, in sectors of 512 bytes.
func (v Verity) sectors() uint64 { return v.DataBlocks * uint64(v.DataBlockSize) / 512 }

// signing is what has the kernel look for the signature of that name.
func signing(name string) string { return " 2 " + signatureOption + " " + name }

// parameters are those of a table behind the names of the devices.
func (v Verity) parameters() string {
	salt := "-"
	if len(v.Salt) > 0 {
		salt = hex.EncodeToString(v.Salt)
	}
	return fmt.Sprintf("%d %d %d %d %s %x %s", v.DataBlockSize, v.HashBlockSize, v.DataBlocks, v.HashStart, v.Algorithm, v.Root, salt)
}

// create makes the device.
func (c *control) create(v Verity, name string, signed bool, backing func() (data, hash *os.File, err error)) (_ *Device, err error) {
	data, hash, err := backing()
	if err != nil {
		return nil, err
	}
	defer data.Close()
	defer hash.Close()
	h, _, err := c.call(unix.DM_DEV_CREATE, request{name: name, uuid: strings.ToUpper(prefix) + name[len(prefix):]})
	if errors.Is(err, unix.EBUSY) {
		return nil, errAgain
	}
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	d := &Device{DMName: name}
	if d.Signed, d.Unsigned, err = c.load(v, name, signed, data, hash); err == nil {
		d.File, err = c.start(name, h.Dev)
	}
	// In use, it goes when its last user does; else at once.
	_, _, rerr := c.call(unix.DM_DEV_REMOVE, request{name: name, flags: unix.DM_DEFERRED_REMOVE})
	if err := cmp.Or(err, rerr); err != nil {
		if d.File != nil {
			err = errors.Join(err, d.Close())
		}
		return nil, err
	}
	return d, nil
}

// load gives the device its table, with the signature if the kernel takes it.
func (c *control) load(v Verity, name string, signed bool, data, hash *os.File) (ok bool, unsigned, err error) {
	params := make([]string, 0, 4)
	for _, f := range []*os.File{data, hash} {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return false, nil, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
		}
		params = append(params, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	}
	table := "1 " + strings.Join(params, " ") + " " + v.parameters()
	if v.Signature != nil {
		if unsigned = c.loadSigned(name, v.sectors(), table, v.Signature); unsigned == nil {
			return true, nil, nil
		}
	}
	if signed {
		return false, unsigned, cmp.Or(unsigned, errors.New("there is no signature"))
	}
	_, _, err = c.call(unix.DM_TABLE_LOAD, loading(name, v.sectors(), table))
	if err != nil {
		err = fmt.Errorf("load table %q: %w", table, err)
	}
	return false, unsigned, err
}

func loading(name string, sectors uint64, table string) request {
	return request{name: name, flags: unix.DM_READONLY_FLAG, targets: 1, data: target(sectors, table)}
}

// loadSigned has the kernel check the signature, which it looks for in the keyrings of the thread.
func (c *control) loadSigned(name string, sectors uint64, table string, signature []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	id, err := unix.AddKey("user", name, signature, unix.KEY_SPEC_THREAD_KEYRING)
	if err != nil {
		return fmt.Errorf("hand the signature to the kernel: %w", err)
	}
	_, _, err = c.call(unix.DM_TABLE_LOAD, loading(name, sectors, table+signing(name)))
	if _, uerr := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); err == nil {
		err = uerr
	}
	if err != nil {
		return fmt.Errorf("the kernel does not take the signature: %w", err)
	}
	return nil
}

// start makes the table the one that counts, and opens the device.
func (c *control) start(name string, dev uint64) (*os.File, error) {
	if _, _, err := c.call(unix.DM_DEV_SUSPEND, request{name: name}); err != nil { // without the flag it resumes
		return nil, fmt.Errorf("resume: %w", err)
	}
	return openNode(dev)
}

// openNode opens the node that devtmpfs has made.
func openNode(dev uint64) (*os.File, error) {
	path := fmt.Sprintf("/dev/dm-%d", unix.Minor(dev))
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrPermission) { // a device policy that has forgotten block-device-mapper
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != dev {
		return nil, errors.Join(fmt.Errorf("%q is not the device %d:%d", path, unix.Major(dev), unix.Minor(dev)), err, f.Close())
	}
	return f, nil
}

// Corrupted says whether the device of that name has seen a changed block. One that is not there has not.
func Corrupted(name string) (bool, error) {
	c, err := openControl()
	if err != nil {
		return false, err
	}
	defer c.Close()
	h, data, err := c.call(unix.DM_TABLE_STATUS, request{name: name})
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	t, ok := onlyTarget(h, data)
	return ok && strings.HasPrefix(t.text, "C"), err
}

// Available says whether Open could work: nil, or ErrNone with the reason.
func Available() error {
	c, err := openControl()
	if err != nil {
		return err
	}
	return c.Close()
}
