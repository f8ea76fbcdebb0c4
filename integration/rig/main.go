package rig

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// current is the run of this test process. It is the one variable of this package: tests reach their rig
// through testing.TB, which has no place for it.
var current struct {
	once sync.Once
	run  *run
	err  error
}

// Main runs a package's tests; TestMain calls it with m and gives its result to os.Exit. It is also where
// the test binary, run again by itself, becomes the first process of a container. After the tests it stops
// the containers, and fails the run when something was left behind.
func Main(m *testing.M) int {
	if os.Args[0] == stage1Name {
		fmt.Fprintln(os.Stderr, "rig:", stage1(os.Args[1]))
		return 125
	}
	if Available() == nil {
		// Before m.Run, so that a cold cache does not eat into the tests' time limit.
		if err := prepareRoots(append(Suites(), TrixieServices)); err != nil {
			fmt.Fprintln(os.Stderr, "rig:", err)
			return 1
		}
	}
	code := m.Run()
	if current.run == nil {
		return code
	}
	if err := current.run.close(); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		code = max(code, 1)
	}
	return code
}

// theRun starts this process's run when a test first needs it.
func theRun() (*run, error) {
	current.once.Do(func() { current.run, current.err = newRun() })
	return current.run, current.err
}
