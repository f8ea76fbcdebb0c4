package main

import (
	"os"
	"runtime"
	"time"
)

// The thread that the process started on must not be taken by a goroutine that
// changes its namespace: see package nsmount.
func init() { runtime.LockOSThread() }

func main() {
	// The Go runtime opens two descriptors when it first polls or waits, and ends the
	// process where it cannot, in the middle of whatever that is at: so it gets them
	// first.
	time.AfterFunc(time.Hour, func() {}).Stop()
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
