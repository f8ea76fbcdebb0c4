// Package layers looks at directories as layers of an overlay: what is in one
// ([Walk]), whether it has changed ([Fingerprint]), what a stack of them shows
// ([Show]), and what two stacks would show differently ([Differ]).
//
// A directory is given open, and may be an O_PATH descriptor. Nothing in it is
// opened but directories, and regular files whose contents are compared or asked for;
// symbolic links are read and never followed. What is
// mounted below it is no part of the layer, because a layer is a bind mount that
// is not recursive: such an entry is reported as covered and not entered. Needs
// Linux 5.8 to tell (statx with STATX_MNT_ID); before that, what is mounted is
// walked like the rest.
//
// Visitors are called on the calling goroutine, and paths are looked up there. The
// entries of a large directory are looked at by several threads: one step down from an
// open directory, which is the same in any mount namespace. A directory that changes while it
// is walked gives an answer that fits no single moment.
package layers
