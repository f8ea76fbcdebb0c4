//go:build cgo

package foreign

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // for the nodes of /dev
	device "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
	"github.com/opencontainers/runc/libcontainer/specconv"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/integration/testclient"
)

// TestMain is also where the test binary, run again by libcontainer, becomes a container's first process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
	os.Exit(m.Run())
}

// TestReloadContainer starts a service with extensions in a container of libcontainer's, and reloads it from
// the host: another root, another pid namespace, another os-release.
func TestReloadContainer(t *testing.T) {
	rig.RequireRoot(t)
	// What the container and the host both see, under one path.
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	shared := filepath.Join(dir, "shared")
	extexec := makeRoot(t, root)
	state := filepath.Join(shared, "state")
	control := filepath.Join(shared, "control")
	ship(t, shared, 1)

	c := create(t, dir, root, shared)
	var output bytes.Buffer
	p := &libcontainer.Process{
		Args: []string{"/usr/bin/extexec", "run", "--name", "foreign", "--state-dir", state, "--extension-directory", shared + "/app.v",
			"--", "/usr/bin/testservice", "-control", control, "-read", "/etc/foreign.conf", "-read", "/usr/share/foreign"},
		Env: []string{"PATH=/usr/bin"}, Cwd: "/", Init: true, Stdout: &output, Stderr: &output,
	}
	if err := c.Run(p); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		end(t, p)
		if t.Failed() {
			t.Logf("output of the container:\n%s", output.String())
		}
	})
	pid, err := p.Pid()
	if err != nil {
		t.Fatal(err)
	}
	awaitRead(t, control, "version 1\n")
	host := mountTable(t, "self")
	for version := 2; version <= 4; version++ {
		ship(t, shared, version)
		if out, err := exec.Command(extexec, "reload", "--state-dir", state, "foreign").CombinedOutput(); err != nil {
			t.Fatalf("reload: %v\n%s", err, out)
		}
		awaitRead(t, control, fmt.Sprintf("version %d\n", version))
		r, err := testclient.Ask(control, "forget")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Files {
			if f.Failed > 0 {
				t.Errorf("%d of %d lookups of %s failed: %s", f.Failed, f.Lookups, f.Path, f.FirstError)
			}
		}
		if r.PID != 1 {
			t.Errorf("the service is process %d of the container, want 1", r.PID)
		}
		if n := strings.Count(mountTable(t, fmt.Sprint(pid)), " extexec:"); n != 2 {
			t.Errorf("%d overlays in the container, want those of /etc and /usr:\n%s", n, mountTable(t, fmt.Sprint(pid)))
		}
	}
	if now := mountTable(t, "self"); now != host {
		t.Errorf("the host's mounts changed:\n%s\nwere\n%s", now, host)
	}
}

// create makes the container: a root and a /dev of its own, since libcontainer sets up the device nodes of
// whatever /dev it finds.
func create(t *testing.T, dir, root, shared string) *libcontainer.Container {
	t.Helper()
	all := []string{"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"}
	var allow []*device.Rule
	for _, d := range specconv.AllowedDevices {
		allow = append(allow, &d.Rule)
	}
	c, err := libcontainer.Create(filepath.Join(dir, "containers"), fmt.Sprintf("extexec-%d", os.Getpid()), &configs.Config{
		Rootfs:       root,
		Hostname:     "foreign",
		Capabilities: &configs.Capabilities{Bounding: all, Effective: all, Permitted: all},
		Namespaces:   configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWPID}, {Type: configs.NEWUTS}, {Type: configs.NEWIPC}, {Type: configs.NEWNET}},
		Cgroups:      &cgroups.Cgroup{Path: fmt.Sprintf("/extexec-foreign-%d", os.Getpid()), Resources: &cgroups.Resources{Devices: allow}},
		Devices:      specconv.AllowedDevices,
		Mounts: []*configs.Mount{
			{Source: "proc", Destination: "/proc", Device: "proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
			{Source: "tmpfs", Destination: "/dev", Device: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_STRICTATIME, Data: "mode=755"},
			{Source: "devpts", Destination: "/dev/pts", Device: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620"},
			{Source: shared, Destination: shared, Device: "bind", Flags: unix.MS_BIND | unix.MS_REC},
		},
	})
	if err != nil {
		t.Fatalf("create container: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Destroy(); err != nil {
			t.Errorf("destroy container: %v", err)
		}
	})
	return c
}

// end stops the service.
func end(t *testing.T, p *libcontainer.Process) {
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Errorf("stop the container: %v", err)
	}
	var exit *exec.ExitError
	if _, err := p.Wait(); err != nil && !errors.As(err, &exit) {
		t.Errorf("wait for the container: %v", err)
	}
}

// makeRoot makes a root that has nothing but our programs, and an os-release that is not the host's. It returns
// the program that the host runs.
func makeRoot(t *testing.T, root string) (extexec string) {
	t.Helper()
	for _, d := range []string{"proc", "dev", "etc", "opt", "usr/share", "usr/lib"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "usr/lib/os-release"), "ID=foreign\nVERSION_ID=7\n")
	for _, pkg := range []string{"cmd/extexec", "integration/testservice"} {
		out := filepath.Join(root, "usr/bin", filepath.Base(pkg))
		cmd := exec.Command("go", "build", "-trimpath", "-o", out, "github.com/extexec/extexec/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", pkg, err, msg)
		}
	}
	return filepath.Join(root, "usr/bin/extexec")
}

// ship puts a version of the extension, which is for the container's system alone, into place.
func ship(t *testing.T, shared string, version int) {
	t.Helper()
	made := filepath.Join(shared, "incoming")
	text, release := fmt.Sprintf("version %d\n", version), "ID=foreign\nVERSION_ID=7\n"
	write(t, made+"/etc/foreign.conf", text)
	write(t, made+"/usr/share/foreign", text)
	write(t, made+"/etc/extension-release.d/extension-release.app", release)
	write(t, made+"/usr/lib/extension-release.d/extension-release.app", release)
	if err := os.MkdirAll(shared+"/app.v", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(made, fmt.Sprintf("%s/app.v/app_%d", shared, version)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// awaitRead waits until the service reads the text in all its files.
func awaitRead(t *testing.T, control, text string) {
	t.Helper()
	last := "nothing"
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		r, err := testclient.Ask(control, "report")
		if err != nil {
			last = err.Error()
			continue
		}
		seen := 0
		for _, f := range r.Files {
			last = fmt.Sprintf("%s: %q %s", f.Path, f.Last, f.FirstError)
			if f.Last == text {
				seen++
			}
		}
		if seen == len(r.Files) {
			return
		}
	}
	t.Fatalf("the service does not read %q, but %s", text, last)
}

func mountTable(t *testing.T, pid string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
