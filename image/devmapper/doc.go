// Package devmapper has the kernel check a file system by its hash tree while it is read: dm-verity devices, by the
// ioctls of /dev/mapper/control (linux/dm-ioctl.h).
//
// # Contract
//
// [Open] gives a device with a given root hash: one that is there already, or a new one. It is named after the root
// hash, so that all who use one image share it, its loop devices, and its pages. A device goes away by itself when the
// last who has it open closes it, mounts included; its loop devices then do, too. Until Open returns nobody else takes
// it away: it is held open, and only then marked for removal.
//
// A device that has seen a changed block is not shared any more: who opens the image anew may have a good copy of it. Nor
// is one of that name whose table is not, word for word, the one that Open would load.
//
// A signature is handed to the kernel where that takes it. Where it does not know the key, the device is made without:
// whether that is enough is for the caller to say.
//
// # Threads
//
// Device nodes are looked up on the calling thread. Open locks the goroutine to its thread while the kernel looks for
// the signature in the keyring of that thread.
//
// # Not for
//
// Other targets than verity. Whether a signature is to be trusted in user space. Kernels without a device mapper:
// [ErrNone].
package devmapper
