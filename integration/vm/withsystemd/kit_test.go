package withsystemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/testclient"
	"github.com/extexec/extexec/integration/vm/wire"
)

// programs are in every machine's payload; the tests have them in /usr/bin, as if they
// were installed.
var programs = []string{"extexec", "testservice"}

func TestMain(m *testing.M) {
	if _, err := os.Stat(wire.UnitDir + "/" + wire.TasksUnit); err != nil {
		fmt.Println("nothing runs here: integration/vm runs these tests in its machines")
		return
	}
	for _, p := range programs {
		if err := install(wire.PayloadDir+"/"+p, "/usr/bin/"+p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func install(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// A stage is what a test has: a directory, and units that are gone after it.
type stage struct {
	testing.TB
	dir string
}

func newStage(t testing.TB) *stage {
	return &stage{t, t.TempDir()}
}

func (s *stage) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) write(path, text string) {
	s.Helper()
	s.check(os.MkdirAll(filepath.Dir(path), 0o755))
	s.check(os.WriteFile(path, []byte(text), 0o644))
}

func (s *stage) read(path string) string {
	s.Helper()
	b, err := os.ReadFile(path)
	s.check(err)
	return string(b)
}

// try runs a command and returns all that it prints.
func (s *stage) try(argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out), err
}

func (s *stage) must(argv ...string) string {
	s.Helper()
	out, err := s.try(argv...)
	s.check(err)
	return out
}

// script runs a shell script in the stage's directory.
func (s *stage) script(text string) {
	s.Helper()
	s.must("sh", "-euc", text)
}

// units writes units, by their names, and makes systemd read them.
func (s *stage) units(texts map[string]string) {
	s.Helper()
	for name, text := range texts {
		path := filepath.Join(wire.UnitDir, name)
		s.write(path, text)
		s.Cleanup(func() {
			if s.Failed() {
				out, _ := s.try("systemctl", "--no-pager", "--full", "--lines=30", "status", name)
				s.Log(out)
			}
			_, _ = s.try("systemctl", "stop", name)
			s.check(os.Remove(path))
		})
	}
	s.must("systemctl", "daemon-reload")
}

func (s *stage) mainPID(unit string) int {
	s.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(s.must("systemctl", "show", "-P", "MainPID", unit)))
	s.check(err)
	return pid
}

// sees waits until the testservice behind the socket reads that content: a lookup that
// was under way when a reload ended may be the last one that it tells.
func (s *stage) sees(socket, file, content string) {
	s.Helper()
	for range 100 {
		r, err := testclient.Ask(socket, "report")
		s.check(err)
		seen := r.File(file)
		if seen.Failed > 0 {
			s.Fatalf("lookups failed: %+v", seen)
		}
		if seen.Last == content {
			return
		}
	}
	s.Errorf("%s does not show %q", file, content)
}

// extension makes the directory of an extension "web" that is sysext and confext in one.
func (s *stage) extension(dir string, files map[string]string) {
	s.Helper()
	for _, c := range classes {
		s.write(filepath.Join(dir, c.release), "ID=_any\n")
	}
	for path, content := range files {
		s.write(filepath.Join(dir, path), content)
	}
}
