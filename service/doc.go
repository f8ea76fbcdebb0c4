// Package service is one running service: find it, hold it by its pidfd, tell
// its namespaces, and run a command in its place.
//
// A [Process] is safe against reuse of its process id: what it reads is read
// through a directory of /proc that was opened while the pidfd said that the
// process lives. It can be used by several goroutines at once. A process that
// has ended makes every question an error that wraps [ErrGone].
//
// # Threads
//
// [Open] and everything else that looks below /proc and /sys/fs/cgroup does so
// on the calling goroutine. [Run] starts its child from a thread of its own,
// which has the process's own namespaces and credentials whatever the caller's
// thread has become: put it into another place with [Place], not by where it is
// called from.
//
// # Namespaces
//
// A namespace belongs to a thread, and the kernel lets only a process with one
// thread into a user namespace. Therefore Run does not use os/exec: rawchild.go
// makes a child with raw system calls, which joins and becomes what the service
// is before it executes the command. It is the one file outside nsmount that
// calls setns(2).
//
// What it is not for: mounts (package nsmount) and the service manager (package
// units/manager, which is handed in as a [MainPIDer] where it is needed).
package service
