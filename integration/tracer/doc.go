// Package tracer runs a program and strikes one of its system calls, by ptrace(2): with a
// signal, or with an error that can come of that call.
//
// strace counts the calls that it injects into for each thread, and which thread serves
// a goroutine differs from run to run: with it, nobody could say which calls were
// struck, and which never. Here they are counted over all threads and children of the
// program, and a program of ours makes them in the same order every time, but for a few
// of the Go runtime's. For amd64 alone.
package tracer
