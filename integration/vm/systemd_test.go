package vm

import (
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// withSystemd are the tests for machines with systemd as process 1.
func withSystemd(only []string, leftOut map[string]string) []Tests {
	return []Tests{{
		Package: "./integration/vm/withsystemd", Only: only, LeftOut: leftOut,
		Commands: map[string]string{"extexec": "./cmd/extexec", "testservice": "./integration/testservice"},
	}}
}

// TestSystemd runs what wants systemd with a device mapper, and with AppArmor, which is
// what Debian's kernels have unless they are told otherwise.
func TestSystemd(t *testing.T) {
	t.Parallel()
	runWithSystemd(t, withSystemd(nil, map[string]string{"TestSELinux": "another machine has that"}))
}

// TestSELinux runs the same system with SELinux in its place, enforcing Debian's policy.
func TestSELinux(t *testing.T) {
	t.Parallel()
	runWithSystemd(t, withSystemd([]string{"TestSELinux"}, nil), "security=selinux", "selinux=1", "enforcing=1")
}

func runWithSystemd(t *testing.T, tests []Tests, params ...string) {
	t.Helper()
	rig.RequireRoot(t)
	if err := Prepare(Kernels()); err != nil {
		t.Fatal(err)
	}
	suite, err := Compile(t.TempDir(), tests)
	if err != nil {
		t.Fatal(err)
	}
	suite.Run(t, Config{Kernel: Linux7_2, Systemd: true, Params: params}, limit)
}
