// Package extension turns a ref, one entry of ExtensionImages= or
// ExtensionDirectories=, into an extension, in two steps:
//
//   - [Pick] finds out which version a ref means now, and what its identity is.
//     Nothing is mounted. Of a directory no content is read, of an image what says
//     its root hash and whether it has one. So it is what a reload does first, and
//     all that it does when nothing has changed.
//   - [Open] makes a tree of what was picked, finds the release file in it and
//     matches it against the service root. The tree is attached nowhere.
//
// Both look paths up on the calling goroutine, in the mount namespace of its thread, and
// run no program: a caller that wants the host's view calls them on a
// thread that has it.
//
// An [Opened] owns its tree. Its layers are what [Opened.Layer] gives for a
// hierarchy: by class, a sysext gives /usr, /opt and other directories outside
// /etc, a confext gives /etc.
//
// As systemd does for a unit, it lets a sysext carry an os-release file, which
// then hides the service root's. It does not judge the path that a source is
// reached by, and not which of two refs that lead to one identity stays.
package extension
