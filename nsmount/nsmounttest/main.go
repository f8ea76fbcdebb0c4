package nsmounttest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	envStage = "NSMOUNTTEST_STAGE"
	stageRun = "run"
	stageSvc = "service"
)

// Main runs the tests in a private mount namespace and ends the process. Without
// root it lets each test skip (or fail, where EXTEXEC_REQUIRE_RIG=1) by itself:
// see [Root].
func Main(m *testing.M) {
	switch os.Getenv(envStage) {
	case stageSvc:
		serve()
		os.Exit(0)
	case stageRun:
		os.Exit(run(m))
	}
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envStage+"="+stageRun)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Unshareflags makes "/" private as well (syscall/exec_linux.go).
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the starting thread
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "nsmounttest:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// Root skips a test that needs root where there is none; with
// EXTEXEC_REQUIRE_RIG=1 that is a failure.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func run(m *testing.M) int {
	mounts, fds := Mounts(), OpenFiles()
	code := m.Run()
	runtime.GC()
	if left := added(mounts, Mounts()); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "nsmounttest: mounts left behind:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	if left := added(fds, OpenFiles()); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "nsmounttest: descriptors left behind:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	return code
}

// Mount mounts where the calling process is, as mount(2).
func Mount(source, target, fsType string, flags uintptr) error {
	if err := unix.Mount(source, target, fsType, flags, ""); err != nil {
		return fmt.Errorf("mount %q on %q: %w", source, target, err)
	}
	return nil
}

// Tmpfs mounts a tmpfs with options, as tmpfs(5) has them, until the test ends.
func Tmpfs(t testing.TB, target, options string) { mountWith(t, target, "tmpfs", options) }

// Overlay is Tmpfs for an overlay.
func Overlay(t testing.TB, target, options string) { mountWith(t, target, "overlay", options) }

func mountWith(t testing.TB, target, fsType, options string) {
	t.Helper()
	if err := unix.Mount(fsType, target, fsType, 0, options); err != nil {
		t.Fatalf("mount %s on %s: %v", fsType, target, err)
	}
	Unmount(t, target)
}

// Resize gives a tmpfs other limits.
func Resize(t testing.TB, target, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", target, "", unix.MS_REMOUNT, options); err != nil {
		t.Fatalf("give the tmpfs on %s %q: %v", target, options, err)
	}
}

// Unmount undoes Mount when the test ends.
func Unmount(t testing.TB, target string) {
	t.Helper()
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %q: %v", target, err)
		}
	})
}

// Mounts lists the mount table, without the ids.
func Mounts() []string {
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		panic(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		lines = append(lines, strings.Join(strings.Fields(line)[2:], " "))
	}
	return lines
}

// OpenFiles lists what the process's descriptors are, but for the runtime's own
// event descriptors.
func OpenFiles() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	var files []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "anon_inode:[pidfd]") && os.Getenv("NSMOUNTTEST_PIDFD") == "" {
			continue
		}
		files = append(files, to)
	}
	sort.Strings(files)
	return files
}

// added lists what after has more often than before.
func added(before, after []string) []string {
	count := map[string]int{}
	for _, b := range before {
		count[b]++
	}
	var more []string
	for _, a := range after {
		if count[a]--; count[a] < 0 {
			more = append(more, a)
		}
	}
	return more
}
