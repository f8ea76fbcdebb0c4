// Package withsystemd has tests that want what a container does not have: systemd with
// a device mapper, udev and an LSM of its own. They run in machines of package vm that
// have systemd as process 1, by TestSystemd and TestSELinux there; elsewhere this
// package has no test.
package withsystemd
