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
// Nothing is verified yet. An image that has verity data, and a policy that asks for any protection, are refused: see
// verify.go, which is where verification will be, between finding a volume and mounting it.
//
// # Threads
//
// Paths (/dev/loopN, and what CheckSidecars is given) are looked up on the calling thread, so the functions may run
// on a thread that sits in another mount namespace. They start no goroutine that looks up a path there.
//
// # Not for
//
// What an extension is, which version is taken, and whether it fits the host: that is package extension. Directories
// need no image; see nsmount.CloneDir.
package image
