// Package image makes a read-only tree of an image file: what it is (packages probe and gpt), whether it may be used
// (package policy), and mounted attached nowhere (package nsmount).
//
// # Contract
//
// Open takes a bare file system (squashfs, erofs, ext4, btrfs, xfs) or a disk image with a GUID partition table and a
// root or usr partition. Whatever the image or the unit says, its mounts are read-only, nodev and nosuid, no journal
// is replayed, and the file behind is open for reading only. Loop devices are read-only and go away by themselves
// when the last mount of them does; erofs is mounted from the file itself where the kernel can (Linux 6.12, on most
// file systems), without one.
//
// An image with a hash tree is verified, whatever the policy: by the kernel (package devmapper), or else all of it is
// read once, and what had the right digests is mounted from memory that nobody can write to (verify.go). Root hash, signature and hash tree are found in it and
// beside it (verity.go), and the policy is held against that before anything is read (judge.go). What claims a
// protection that cannot be checked is refused.
//
// # Threads
//
// Paths (/dev/loopN, files beside the image, certificates) are looked up on the calling thread, so the functions may run
// on a thread that sits in another mount namespace. They start no goroutine that looks up a path there.
//
// # Not for
//
// What an extension is, which version is taken, and whether it fits the host: that is package extension. Directories
// need no image; see nsmount.CloneDir.
package image
