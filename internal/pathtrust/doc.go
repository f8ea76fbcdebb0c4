// Package pathtrust says whether a path leads where root meant it to: whether any
// other user could have changed what stands there, or could change it between this
// look and the next.
//
// # Contract
//
// Every component of the path, and every component of every symlink on the way,
// must be owned by root and not writable by group or others. A sticky directory of
// root's, such as /tmp, may be writable as long as the path goes on from it: only
// the owner of an entry can rename or remove it there, and that entry must be
// root's again. An ACL that lets others write shows in the group bits, which hold
// its mask (acl(5)), so it is refused as well.
//
// Because nobody but root can change a path that passes, it may be looked up again
// by name afterwards.
//
// # Threads
//
// All lookups happen on the calling goroutine, in the mount namespace of its
// thread.
//
// # Not for
//
// What lies below a directory, which is for who put it there to answer; and paths
// in a tree that is mounted from an image.
package pathtrust
