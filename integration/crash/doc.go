// Package crash kills the built program, or makes its system calls fail, at every call
// in turn, and looks at what is left: what the service sees, what the next reload comes
// to, mounts, loop devices, files, locks and processes.
//
// It has a tracer of its own (ptrace(2), amd64). strace counts the calls that it
// injects into for each thread, and which thread serves a goroutine differs from run
// to run: with it, nobody could say which calls were struck, and which never. Here
// they are counted over all threads and children of the program, and a reload makes
// them in the same order every time, but for a few of the Go runtime's.
//
// A plain go test strikes a sample, evenly spread. -all strikes every call: make crash.
package crash
