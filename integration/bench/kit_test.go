package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

// A kit is what a figure is taken with.
type kit struct {
	t *testing.T
	c *rig.Container
}

func (k *kit) check(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// inside runs f in the container.
func (k *kit) inside(f func() error) {
	k.t.Helper()
	k.check(k.c.Inside(f))
}

// run runs a command in the container and says how long it took, in ms: from
// before its process is made until it is collected. Nothing is read from it.
func (k *kit) run(argv ...string) float64 {
	k.t.Helper()
	var took time.Duration
	k.inside(func() error {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = []string{"PATH=/usr/bin:/usr/sbin"}
		began := time.Now()
		err := cmd.Run()
		took = time.Since(began)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
		return nil
	})
	return float64(took.Nanoseconds()) / 1e6
}

// inTurn does all things once a round, in an order that is drawn anew, so that
// what one leaves behind (a manager that tidies up) falls on all of them. It gives
// what each says of every round. The first rounds, in which caches are filled, do
// not count.
func (k *kit) inTurn(things ...func() float64) [][]float64 {
	k.t.Helper()
	return k.inTurnFor(*runs, things...)
}

// inTurnFor is inTurn with a number of rounds of its own, for what takes long.
func (k *kit) inTurnFor(rounds int, things ...func() float64) [][]float64 {
	k.t.Helper()
	const warm = 3
	random := rand.New(rand.NewPCG(1, 1))
	series := make([][]float64, len(things))
	for round := range warm + rounds {
		for _, i := range random.Perm(len(things)) {
			if x := things[i](); round >= warm {
				series[i] = append(series[i], x)
			}
		}
	}
	return series
}

// rest lets the manager and the journal finish what they do after a job.
func rest() { time.Sleep(30 * time.Millisecond) }

// extension makes an extension directory in the container, with so many files
// below the hierarchy: a confext for /etc, else a sysext.
func (k *kit) extension(dir, hierarchy string, n int) {
	k.t.Helper()
	version := strings.TrimPrefix(filepath.Base(dir), ".")
	name, _, _ := strings.Cut(version, "_")
	class := "/usr/lib"
	if hierarchy == "/etc" {
		class = "/etc"
	}
	k.inside(func() error {
		files := filepath.Join(dir, hierarchy, "bench."+name)
		release := filepath.Join(dir, class, "extension-release.d")
		for _, d := range []string{files, release} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		for i := range n {
			if err := os.WriteFile(fmt.Sprintf("%s/file-%d", files, i), []byte(version+"\n"), 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(release, "extension-release."+name), []byte("ID=_any\n"), 0o644)
	})
}

// three makes one extension for each hierarchy.
func (k *kit) three(dir string, n int) []string {
	k.t.Helper()
	var dirs []string
	for _, h := range []string{"etc", "usr", "opt"} {
		dirs = append(dirs, filepath.Join(dir, "for"+h))
		k.extension(dirs[len(dirs)-1], "/"+h, n)
	}
	return dirs
}

// lines writes a setting once for each value.
func lines(key string, values []string) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(key + "=" + v + "\n")
	}
	return b.String()
}

// unit writes a unit, whose state is removed after the test.
func (k *kit) unit(name, text string) {
	k.t.Helper()
	k.c.Cleanup(func() {
		k.c.Remove("/run/extexec/units/" + name)
		k.c.Remove("/var/lib/extexec/units/" + name)
	})
	k.c.WriteUnit(name, text)
}

// byHand starts a sleeping process with extensions, and more flags. Its records are
// on a tmpfs.
func (k *kit) byHand(name, state string, dirs []string, more ...string) (pid int) {
	k.t.Helper()
	argv := append([]string{"extexec", "run", "--name", name, "--state-dir", state}, more...)
	for _, d := range dirs {
		argv = append(argv, "--extension-directory", d)
	}
	k.c.Start(rig.Command{Argv: append(argv, "--", "/usr/bin/sleep", "infinity")})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var r struct{ PID int }
		err := k.c.Inside(func() error {
			b, err := os.ReadFile(filepath.Join(state, "record", name, "state.json"))
			if err != nil {
				return err
			}
			return json.Unmarshal(b, &r)
		})
		if err == nil {
			if exe := k.exe(r.PID); exe == "/usr/bin/sleep" {
				return r.PID
			}
		}
		if time.Now().After(end) {
			k.t.Fatalf("extexec run --name %s has not executed its command: %v", name, err)
		}
	}
}

// exe is what a process of the container executes.
func (k *kit) exe(pid int) string {
	var exe string
	k.inside(func() error {
		exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // "" where it has ended
		return nil
	})
	return exe
}

// stateDir is a directory on the container's tmpfs.
func (k *kit) stateDir() string {
	k.t.Helper()
	const dir = "/run/bench-state"
	k.c.Cleanup(func() { k.c.Remove(dir) })
	return dir
}
