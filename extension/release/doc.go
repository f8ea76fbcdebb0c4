// Package release finds, reads and judges the file that makes a tree an
// extension, /usr/lib/extension-release.d/extension-release.NAME (sysext) or
// /etc/extension-release.d/extension-release.NAME (confext), as systemd does it
// for a unit, and reads the os-release file that it is judged against.
//
// A tree is given as an open directory. Look-ups are those of openat2(2)
// with RESOLVE_IN_ROOT (package internal/lookup): a symbolic link is followed inside the tree, and never out of
// it. Nothing but a regular file is ever opened for reading, so that a fifo or a
// device in a foreign tree neither blocks nor acts, and no more than [MaxSize]
// bytes are read. All of it happens on the calling goroutine.
//
// As systemd does for a unit, and unlike systemd-sysext, it does not refuse an
// extension that carries an os-release file of its own.
//
// Unlike systemd it does not look at $SYSTEMD_OS_RELEASE, and it can match an
// extension with ID=_any where the service root has no os-release file.
package release
