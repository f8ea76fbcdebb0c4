package main

import (
	"os"
	"runtime"
)

// The thread that the process started on must not be taken by a goroutine that
// changes its namespace: see package nsmount.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
