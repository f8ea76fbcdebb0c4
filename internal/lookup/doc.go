// Package lookup opens paths that must stay inside a directory, openat2(2).
//
// Where a seccomp filter says that there is no openat2, it goes from component to
// component itself. systemd's RestrictSUIDSGID= is such a filter, and DynamicUser=
// implies it: a filter cannot look at the flags of openat2, so the call is denied
// whole. The same is done where the kernel has given up (EAGAIN) too often. By hand the
// answers are the same: the directories on the way are kept open, and ".." goes back
// to the one before, so that a rename cannot lead out.
//
// It is not for creating files.
package lookup
