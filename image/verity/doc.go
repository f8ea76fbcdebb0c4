// Package verity reads, writes and checks dm-verity hash trees, as veritysetup(8) and the kernel know them
// (Documentation/admin-guide/device-mapper/verity.rst, hash type 1). Standard library only.
//
// # Contract
//
// A hash area is a superblock, padded to one hash block, and the tree after it, the top level first. [Format] makes
// one, [Copy] reads data and checks every block of it before it passes it on, [CheckEnd] checks only that the tree
// ends where the superblock says.
//
// Every block, of data and of the tree, is read once, into memory of ours, and what is used is what was checked: it
// does not matter who writes to the image meanwhile.
//
// A superblock is not covered by the root hash. What it says counts all the same: another salt, algorithm or size
// gives another root hash, and another number of blocks is found by the unused part of the tree, which must be zeros
// (the kernel does not look at that). Only its UUID can be anything, and nothing follows from it.
//
// # Threads
//
// Format and Copy use as many goroutines as there are processors. They look up no path.
//
// # Not for
//
// Whether a root hash is to be trusted, where hash areas are found, forward error correction, hash trees without a
// superblock, and the first version of the format (Chrome OS).
package verity
