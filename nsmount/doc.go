// Package nsmount is the kernel's side of extexec: mount namespaces, detached
// mounts, overlays, and how they are attached. It is the only package of the
// project that makes mount or namespace calls (held by a test), with one
// exception that says so: the raw child in package service.
//
// # Contract
//
// A [Tree] is a mount that is attached nowhere. Everything slow or likely to
// fail is done on trees; attaching one is a single system call. Attributes
// are set before a tree is attached, never afterwards. A tree owns its file
// descriptor, which keeps it alive: [Tree.Close] dissolves what was never
// attached.
//
// A [Namespace] owns one locked operating system thread that sits in a mount
// namespace and serves any goroutine through [Namespace.Do]. [Scratch] is a
// namespace of ours in which trees are put together.
//
// # Threads
//
// A mount namespace belongs to a thread, not to a process. setns(2) with
// CLONE_NEWNS wants a thread that shares its root and working directory with
// no other, so every thread here calls unshare(CLONE_FS) first. Such a thread
// is never unlocked: the Go runtime ends it together with its goroutine
// (runtime.LockOSThread). The exception is the thread on which the process
// started; it would be parked for ever, and /proc/self would show the wrong
// namespace. Programs that use this package therefore lock the main goroutine
// to it in an init function:
//
//	func init() { runtime.LockOSThread() }
//
// A function passed to [Namespace.Do] must not start goroutines that look up
// paths: they run in the process's first namespace. File descriptors belong to
// the whole process, so trees and open files cross freely between the threads;
// an O_PATH descriptor however stays tied to the namespace it was opened in,
// and only a tree may be attached elsewhere.
//
// # Kernels
//
// Linux 5.12 (mount_setattr) is the least; tested are 6.1, 6.12, 6.18 and 7.2.
// MOVE_MOUNT_BENEATH came with 6.5, lowerdir+ with 6.7. What a kernel lacks is
// found by trying ([Probe]), never from its version.
//
// # Not for
//
// What a hierarchy is, what belongs to extexec and what to systemd, and in
// which order things happen: that is nsmount/hierarchy.
package nsmount
