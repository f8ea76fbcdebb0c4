package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/devmapper"
	"github.com/extexec/extexec/image/verity"
)

var errNoVerity = errors.New("it has no hash tree and no root hash, in it or beside it")

// copySector is the sector size of a loop device on a verified copy, in bytes: every file system takes it, and
// verity's blocks are multiples of it.
const copySector = 512

// memfdName bounds the name of a memory file, in bytes (249, memfd_create(2)).
const memfdName = 200

// verified says how all that is mounted was verified, and why a signature does not count.
func (x *examined) verified(backing string) (string, error) {
	for _, v := range x.volumes {
		if v.verity == nil {
			return "", nil
		}
	}
	// A volume that is alone, or a usr partition below a root that is not there.
	v := x.volumes[0]
	switch {
	case v.signer != "":
		return fmt.Sprintf("verified (%s), signed: %s", backing, v.signer), nil
	case v.byKernel:
		return fmt.Sprintf("verified (%s), signed: by a key of the kernel", backing), nil
	case v.untrusted != nil:
		return fmt.Sprintf("verified (%s), signature not trusted", backing), v.untrusted
	case v.verity.sig != nil:
		return fmt.Sprintf("verified (%s), signature not looked at", backing), nil
	}
	return fmt.Sprintf("verified (%s), not signed", backing), nil
}

// superblock reads how the hash tree is made.
func (v *volume) superblock() (*verity.Superblock, error) {
	d := v.verity
	s, err := verity.Read(d.tree, d.treeSize)
	if err != nil {
		return nil, fmt.Errorf("hash tree in %s: %w", d.treeFrom, err)
	}
	if s.DataSize() > v.size {
		return nil, fmt.Errorf("hash tree in %s: it is for %d bytes of data, and its %s has %d: it is that of another image, or one was cut off",
			d.treeFrom, s.DataSize(), v, v.size)
	}
	return s, nil
}

// kernelDevice has the kernel verify the volume when it is read. devmapper.ErrNone: it cannot.
func (v *volume) kernelDevice(f *os.File, s *verity.Superblock, o Options) (*os.File, error) {
	// The kernel takes data blocks of a page at most.
	if o.NoDeviceMapper || int(s.DataBlockSize) > os.Getpagesize() {
		return nil, devmapper.ErrNone
	}
	d := v.verity
	// What the kernel does not look at. Of what it reads later it checks the digests, too.
	if err := verity.CheckEnd(s, d.root, d.tree); err != nil {
		return nil, v.refused(err)
	}
	want := devmapper.Verity{
		Algorithm: s.Algorithm, DataBlockSize: s.DataBlockSize, HashBlockSize: s.HashBlockSize, DataBlocks: s.DataBlocks,
		HashStart: 1, Root: d.root, Salt: s.Salt, Signature: d.sig,
	}
	dev, err := devmapper.Open(want, v.needsKernel != nil, func() (data, hash *os.File, err error) {
		if data, err = attachLoop(f, v.offset, v.size, copySector); err != nil {
			return nil, nil, err
		}
		if hash, err = attachLoop(d.treeFile, d.treeOff, d.treeSize, copySector); err != nil {
			return nil, nil, errors.Join(err, data.Close())
		}
		return data, hash, nil
	})
	switch {
	case err == nil:
		v.byKernel, v.verifier = dev.Signed, dev.DMName
		return dev.File, nil
	case v.needsKernel != nil:
		return nil, fmt.Errorf("%w; %w", v.needsKernel, err)
	case errors.Is(err, devmapper.ErrNone):
		return nil, err
	}
	return nil, v.refused(err)
}

func (v *volume) refused(err error) error {
	return fmt.Errorf("verify its %s by the root hash in %s and the hash tree in %s: %w", v, v.verity.rootFrom, v.verity.treeFrom, err)
}

// copyDevice copies a volume into memory, each block after it was checked, and makes a device of that. Nobody can
// write to the copy: what is mounted is what was checked.
func (v *volume) copyDevice(ctx context.Context, f *os.File, s *verity.Superblock, name string, most int64) (_ *os.File, err error) {
	if err := roomFor(s.DataSize(), most); err != nil {
		return nil, err
	}
	memory, err := createMemory(filepath.Base(name), s.DataSize())
	if err != nil {
		return nil, err
	}
	defer memory.Close() // The loop device has it.
	if err := verity.Copy(ctx, s, v.verity.root, v.verity.tree, io.NewSectionReader(f, v.offset, v.size), memory); err != nil {
		return nil, v.refused(err)
	}
	if err := seal(memory); err != nil {
		return nil, err
	}
	return attachLoop(memory, 0, s.DataSize(), copySector)
}

// Corrupted says whether the kernel has seen a changed block in the image that is mounted from a device, see Info.
func Corrupted(device string) bool {
	bad, err := devmapper.Corrupted(device)
	return err == nil && bad
}

// createMemory makes a file in memory that cannot be executed.
func createMemory(name string, size int64) (*os.File, error) {
	name = name[:min(len(name), memfdName)]
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), name)
	if err := memory.Truncate(size); err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	return memory, nil
}

// seal takes from everybody, us included, the means to change a file in memory.
func seal(memory *os.File) error {
	const all = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	_, err := unix.FcntlInt(memory.Fd(), unix.F_ADD_SEALS, all)
	return os.NewSyscallError("seal memory", err)
}
