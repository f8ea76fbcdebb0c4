// Package lookup opens paths that must stay inside a directory, openat2(2).
//
// Where a seccomp filter says that there is no openat2, it goes from component to
// component itself. systemd's RestrictSUIDSGID= is such a filter, and DynamicUser=
// implies it: a filter cannot look at the flags of openat2, so the call is denied
// whole. By hand the answers are the same, but not atomic: a rename that happens
// meanwhile can make a look-up with ".." leave the directory. So nothing hostile may
// write to the tree then, which holds for a service that is only being started.
// What reads in a running service has no filter on it.
//
// It is not for creating files.
package lookup
