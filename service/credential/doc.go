// Package credential says who a process is: it reads that from /proc/PID/status
// ([Read], [ParseStatus]), derives it from User=, Group=,
// SupplementaryGroups= and DynamicUser= of a unit as systemd does ([Resolve]),
// and becomes it ([Prepare], [Change.Apply]).
//
// # Where names are looked up
//
// [Resolve] reads /etc/passwd and /etc/group itself, because the C library that
// would do so is not linked, and then asks systemd over varlink. It looks
// paths up on the calling goroutine and starts none, so that it can run on a
// thread that is in the host's mount namespace. It must: below an overlay, an
// extension could say who root is. Group memberships that only another source
// of nsswitch.conf knows are found for users that this source alone knows, not
// for those of /etc/passwd.
//
// # Threads
//
// [Change.Apply] changes the calling thread alone and is meant for the one that
// calls execve next, locked by runtime.LockOSThread. Go's own
// syscall.Setuid and its like stop every thread of the process and change them
// all; but execve ends the other threads anyway, and the ambient set and
// PR_SET_KEEPCAPS belong to one thread, so the two would not fit together. After
// it the threads of the process differ: nothing but execve may follow.
//
// What it is not for: seccomp filters, security labels, PAM and securebits.
package credential
