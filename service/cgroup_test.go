package service

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestUnitOfCgroup(t *testing.T) {
	for _, test := range []struct{ cgroup, root, unit, path string }{
		{"/system.slice/web.service", "", "web.service", "/system.slice/web.service"},
		{"/system.slice/system-web.slice/web@7.service", "", "web@7.service", "/system.slice/system-web.slice/web@7.service"},
		{"/a.slice/a-b.slice/a-b-c.slice/web.service/sub/x.service", "", "web.service", "/a.slice/a-b.slice/a-b-c.slice/web.service"},
		{"/web.service", "", "web.service", "/web.service"},
		{"/system.slice/web.service/.control", "", "web.service", "/system.slice/web.service"},
		{"/system.slice/_cgroup.service", "", "cgroup.service", "/system.slice/_cgroup.service"},
		{`/system.slice/web\x2dapi.service`, "", `web\x2dapi.service`, `/system.slice/web\x2dapi.service`},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", "", "user@1000.service", "/user.slice/user-1000.slice/user@1000.service"},
		{"/user.slice/user-1000.slice/session-3.scope", "", "session-3.scope", "/user.slice/user-1000.slice/session-3.scope"},
		{"/init.scope", "", "init.scope", "/init.scope"},
		{"/docker/4f/system.slice/web.service", "/docker/4f", "web.service", "/docker/4f/system.slice/web.service"},
		{"/docker/4f/system.slice/web.service", "", "", ""},
		{"/docker/4fe/system.slice/web.service", "/docker/4f", "", ""},
		{"/", "", "", ""},
		{"/system.slice", "", "", ""},
		{"/../x.slice/web.service", "", "", ""},
		{"/system.slice//web.service", "", "", ""},
		{"/system.slice/web", "", "", ""},
		{"/system.slice/web@.service", "", "", ""},
		{"/system.slice/@x.service", "", "", ""},
		{"/system.slice/.service", "", "", ""},
		{"/system.slice/we b.service", "", "", ""},
		{"/system.slice/web.unit", "", "", ""},
		{"/" + strings.Repeat("x", 250) + ".service", "", "", ""},
	} {
		unit, path := unitOfCgroup(test.cgroup, test.root)
		if unit != test.unit || path != test.path {
			t.Errorf("unit of %q: %q at %q, want %q at %q", test.cgroup, unit, path, test.unit, test.path)
		}
	}
}

func TestUnitHierarchy(t *testing.T) {
	const v1 = "9:name=systemd:/system.slice/one.service\n4:memory:/process_api/x\n1:cpu,cpuacct:/\n"
	for _, test := range []struct{ name, text, controllers, path string }{
		{"unified", "0::/system.slice/two.service\n", "", "/system.slice/two.service"},
		{"hybrid", v1 + "0::/system.slice/one.service\n", "", "/system.slice/one.service"},
		{"legacy with version 2 unused", v1 + "0::/\n", "name=systemd", "/system.slice/one.service"},
		{"legacy with version 2 unused, other order", "0::/\n" + v1, "name=systemd", "/system.slice/one.service"},
		{"legacy", v1, "name=systemd", "/system.slice/one.service"},
		{"no manager at all", "9:name=systemd:/\n0::/\n", "", "/"},
		{"colons in the path", "0::/system.slice/a:b.service\n", "", "/system.slice/a:b.service"},
		{"broken", "0:/x\nnone\n0::x\n4:memory:/\n", "", ""},
	} {
		got, err := unitHierarchy(parseCgroups([]byte(test.text)))
		if got.path != test.path || got.controllers != test.controllers || (err == nil) != (test.path != "") {
			t.Errorf("%s: %+v, %v, want %q of %q", test.name, got, err, test.path, test.controllers)
		}
	}
}

// TestManagerRoot: a manager that cannot be looked at is an error, and not one whose
// cgroup is the root.
func TestManagerRoot(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, test := range []struct {
		name, file, root string
		fails            bool
	}{
		{"a host", write("host", "0::/init.scope\n"), "", false},
		{"a container without a cgroup namespace", write("container", "0::/docker/4f/init.scope\n"), "/docker/4f", false},
		{"another init", write("init", "0::/\n"), "", false},
		{"hidden", filepath.Join(dir, "none"), "", false},
		{"an error of reading", dir, "", true},
		{"no cgroups", write("empty", ""), "", true},
	} {
		root, err := managerRoot(test.file)
		if root != test.root || (err != nil) != test.fails {
			t.Errorf("%s: %q, error %v; want %q, an error: %v", test.name, root, err, test.root, test.fails)
		}
		if err != nil && passing(err) {
			t.Errorf("%s: %v passes for the end of a process", test.name, err)
		}
	}
}

// cgroup makes a cgroup below our own and removes it at the end.
func cgroup(t *testing.T, controllers, name string) (line cgroupLine, dir string) {
	t.Helper()
	needRoot(t)
	line.controllers = controllers
	mount, err := line.mountPoint()
	if err != nil {
		// Where systemd uses one hierarchy alone there is no other to test.
		if controllers == "" && os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range parseCgroups(own) {
		if l.controllers == controllers {
			line.path = filepath.Join(l.path, name)
		}
	}
	dir = filepath.Join(mount, line.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	top := strings.TrimSuffix(dir, "/"+name)
	t.Cleanup(func() {
		for d := dir; d != top; d = filepath.Dir(d) {
			if err := os.Remove(d); err != nil {
				t.Error(err)
			}
		}
	})
	return line, dir
}

func TestUnitProcesses(t *testing.T) {
	_, dir := cgroup(t, "", "extexectest.slice/extexectest-web.service/sub")
	inner := start(t, nil, "sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, dir)
	outer := start(t, nil, "sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, filepath.Dir(dir))
	if unit, err := inner.Unit(); err != nil || unit != "extexectest-web.service" {
		t.Errorf("unit %q, %v", unit, err)
	}
	pids, err := inner.UnitProcesses()
	if err != nil {
		t.Fatal(err)
	}
	want := []int{inner.PID(), outer.PID()}
	slices.Sort(pids)
	slices.Sort(want)
	if !cmp.Equal(pids, want) {
		t.Errorf("processes of the unit: %d, want %d", pids, want)
	}
	inner.end()
	outer.end()
}

func TestCgroupMountPointIsOne(t *testing.T) {
	dir, err := cgroupLine{}.mountPoint()
	if err != nil {
		t.Skip(err) // no version 2 on this machine: nothing to look at
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || int64(st.Type) != unix.CGROUP2_SUPER_MAGIC {
		t.Errorf("%s: type %#x, %v", dir, st.Type, err)
	}
}

func FuzzUnitOfCgroup(f *testing.F) {
	f.Add([]byte("0::/system.slice/web.service\n"), "")
	f.Add([]byte("9:name=systemd:/docker/4f/a.slice/_w@1.service/x\n0::/\n"), "/docker/4f")
	f.Fuzz(func(t *testing.T, text []byte, root string) {
		line, err := unitHierarchy(parseCgroups(text))
		if err != nil {
			return
		}
		unit, path := unitOfCgroup(line.path, root)
		if (unit == "") != (path == "") || unit != "" && (!strings.HasPrefix(line.path, path) || !strings.HasSuffix(path, unit)) {
			t.Errorf("unit of %q below %q: %q at %q", line.path, root, unit, path)
		}
	})
}
