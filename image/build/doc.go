// Package build makes an image of a directory: a bare erofs or squashfs, or a disk image with a GUID partition table
// that holds an erofs, its dm-verity hash tree and, with a key, a signature of the root hash.
//
// # Contract
//
// The file system is made by mkfs.erofs or mksquashfs; table, hash tree and signature are made here. Types, labels,
// attributes and UUIDs of the partitions are those that "systemd-repart --make-ddi=" gives, from the same seed the
// same ones: of data and hash partition the root hash, of the rest HMACs of the seed.
//
// The same directory, options and programs give the same bytes. No time stamp in the image is later than
// Options.Time, which the programs get as SOURCE_DATE_EPOCH.
//
// The image is written beside its place, synced and renamed there: there is a whole image or what was there before.
//
// # Threads
//
// Paths are looked up by the calling goroutine and by child processes: not for a thread in another mount namespace.
//
// # Not for
//
// Whether the directory is an extension: that is package extension/compose. The directory is taken as it is.
package build
