// Package vm runs programs, test binaries above all, as root of a virtual machine
// with another kernel than this machine's.
//
//	vm.Run(ctx, vm.Config{Kernel: k, Files: ..., Tasks: ...}, tell)
//
// boots the kernel on a small disk of Debian's tools, runs the tasks one after
// another and powers off; what they print, and how they end, is told as it
// happens. [TestBinaries] is for compiled Go tests: each test in the guest becomes
// a subtest here.
//
// # Machines
//
// The machine is QEMU's, in software: no /dev/kvm is needed, nor any right but to
// read the cache. It has no network. Its first process is integration/vm/guest, its
// root an ext4 file system with mkfs of all kinds, veritysetup, openssl and keyctl,
// of which every machine has a copy of its own that is gone with it. Files of the
// host are in /payload. Kernel modules are loaded in the initramfs; their
// parameters can be given on the kernel's command line. A task's standard input is
// empty, its working directory "/", TMPDIR is on the disk, and "/" is shared, as
// systemd leaves it.
//
// With Config.Systemd the root is Debian forky's, systemd is process 1, and the tasks
// run in a service when it has booted; integration/vm/withsystemd has tests for that.
//
// A machine dies with the process that started it, with its context, and with a
// panic of its kernel; the console is in the error then.
//
// # Cache
//
// Kernels, QEMU and the root disk come from Debian with mmdebstrap, once a month,
// and are kept beside the rig's roots ([rig.Cached]): [Prepare]. QEMU is that of
// Debian 13, wherever this runs: the 7.2 of Debian 12 makes guests panic now and then.
//
// # Not for
//
// Tests under systemd that a container can have: those of integration/rig are much
// faster.
package vm
