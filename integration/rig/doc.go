// Package rig boots Debian's own systemd, as process 1 of a container, for tests that drive the built
// program under it. It needs root, a cgroup2 mount and, the first time in a month, a Debian mirror.
//
//	func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
//
//	func TestHello(t *testing.T) {
//		rig.Each(t, func(t *testing.T, c *rig.Container) { // bookworm (252), trixie (257), forky (262)
//			c.WriteUnit("hello.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=echo hello\n")
//			c.Systemctl("start", "hello.service")
//			if !strings.Contains(c.Journal("hello.service"), "hello") {
//				t.Error("no greeting")
//			}
//		})
//	}
//
// [Each] and [Shared] give a container that all tests of the process share; [Boot] gives one that a test has
// for itself, which takes a second or two. Without root the tests are skipped; with EXTEXEC_REQUIRE_RIG=1
// they fail instead. Every container has the program of this tree at /usr/bin/extexec and the test service
// (integration/testservice) at /usr/bin/testservice.
//
// # Containers
//
// A container is a plain directory, a fresh copy of a root that mmdebstrap made, in namespaces and a cgroup
// of its own. Roots are kept in $XDG_CACHE_HOME/extexec-rig, under a name that changes with the recipe and
// with the month. systemd-nspawn is not used: in it, portable services and loop devices do not work as on a
// machine. Resource limits (MemoryMax= and such) are enforced only where the host has its controllers on
// cgroup2. The container's network is a loopback interface of its own.
//
// # Leftovers
//
// After the tests, [Main] compares each shared container with what it was after its boot, and fails the run
// if there are more mounts, units, processes, loop devices or files; the same goes for [Boot] at the end of
// its test. A container dies with the test process, however that ends; its cgroup and its files are removed
// by the next run.
//
// # Threads
//
// A process enters the container by being started on a thread that is in the container's namespaces. The
// package keeps the main goroutine on the process's first thread, so that no such thread is ever the one
// that /proc/self shows. [Container.Inside] runs a function on such a thread.
//
// This package is not for production code, and not for tests of a single system call: those make their
// private mount namespace beside the code.
package rig
