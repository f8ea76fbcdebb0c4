package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

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

// copyVerified copies a volume into memory, each block after it was checked, and sets its size to that of what was
// copied. Nobody can write to the copy: what is mounted is what was checked.
func (v *volume) copyVerified(ctx context.Context, f *os.File, name string, most int64) (_ *os.File, err error) {
	s, err := v.superblock()
	if err != nil {
		return nil, err
	}
	if err := roomFor(s.DataSize(), most); err != nil {
		return nil, err
	}
	memory, err := createMemory(filepath.Base(name), s.DataSize())
	if err != nil {
		return nil, err
	}
	err = verity.Copy(ctx, s, v.verity.root, v.verity.tree, io.NewSectionReader(f, v.offset, v.size), memory)
	if err != nil {
		err = fmt.Errorf("verify its %s by the root hash in %s and the hash tree in %s: %w", v, v.verity.rootFrom, v.verity.treeFrom, err)
	} else {
		err = seal(memory)
	}
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	v.size = s.DataSize()
	return memory, nil
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
