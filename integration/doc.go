// Package integration tests the built program under a real systemd, from outside: see package rig for how
// the systems are booted, and README.md for how to write and run a test.
package integration
