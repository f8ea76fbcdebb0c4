// Package status compares what is live with what is recorded and with what lies on
// disk, and says so in one value, [Status], which is also the JSON that "extexec
// status --json" writes.
//
// # Contract
//
// It only looks: nothing is entered, mounted or changed, and a lock is
// only tried, for a moment, to tell whether a reload is at work. What is live is
// read from the mount table of a process in the service's namespace; nothing is
// looked up by path there. What cannot be found out (for example without
// privileges) is "unknown", and a note says why; it is an error only where there is
// no record that can be read.
//
// The three views are taken one after another, so a reload in between shows.
//
// # Threads
//
// Everything is looked up on the calling goroutine, which is in the host view.
//
// # Not for
//
// Deciding anything: a reload makes its own survey.
package status
