// Package crash kills the built program, or makes its system calls fail, at every call
// in turn, and looks at what is left: what the service sees, what the next reload comes
// to, mounts, loop devices, files, locks and processes.
//
// A plain go test strikes a sample, evenly spread. -all strikes every call: make crash.
package crash
