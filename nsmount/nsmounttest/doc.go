// Package nsmounttest gives tests a private mount namespace and a small service
// to work on: a child process with a root, a mount namespace and, if wanted,
// readers of its own.
//
// A test binary that uses it calls [Main] from its TestMain:
//
//	func TestMain(m *testing.M) { nsmounttest.Main(m) }
//
// The whole binary then runs in a mount namespace of its own, and the run fails
// when mounts or file descriptors are left at its end.
//
// It is not for production code, and it needs root.
package nsmounttest
