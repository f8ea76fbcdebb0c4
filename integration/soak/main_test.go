package soak

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

var (
	lasts = flag.Duration("for", 15*time.Second, "how long to soak")
	seed  = flag.Uint64("seed", 0, "draw the same steps again; 0 for others every time")
)

// The first thread must not end: it is the one that pdeathsig of the services is about.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	// Whoever is left by an extexec that was killed becomes our child, and is found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "soak: prctl:", err)
		os.Exit(1)
	}
	nsmounttest.Main(m)
}

// A place is where a test has its files, and the programs that it runs.
type place struct {
	t                    testing.TB
	dir                  string
	extexec, testservice string
	before               leftovers
}

// newPlace builds the programs. What is there at its end that was not there now has leaked.
func newPlace(t testing.TB) *place {
	t.Helper()
	rig.RequireRoot(t)
	p := &place{t: t, dir: t.TempDir(), before: children(t)}
	t.Setenv("TMPDIR", filepath.Join(p.dir, "tmp"))
	for _, d := range []string{"tmp", "bin", "state"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.extexec, p.testservice = filepath.Join(p.dir, "bin/extexec"), filepath.Join(p.dir, "bin/testservice")
	rig.Build(t, "./cmd/extexec", p.extexec)
	rig.Build(t, "./integration/testservice", p.testservice)
	return p
}

func (p *place) state() string { return filepath.Join(p.dir, "state") }
