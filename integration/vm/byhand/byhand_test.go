package byhand

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/vm"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/nsmount/nsmounttest"
	"github.com/extexec/extexec/reload/status"
)

func init() { runtime.LockOSThread() }

// sleeper in the environment makes this program a service that does nothing.
const sleeper = "EXTEXEC_BYHAND_SLEEPER"

func TestMain(m *testing.M) {
	if os.Getenv(sleeper) != "" {
		_ = unix.Pause()
		os.Exit(0)
	}
	nsmounttest.Main(m)
}

// files are what an extension of each kind shows the service: a directory that is
// sysext and confext in one, and an image.
var files = []string{"/etc/by-hand/version", "/usr/share/by-hand/version", "/opt/by-hand/version", "/usr/share/by-hand-image/version"}

// A stage has the extensions, the program and the service.
type stage struct {
	t       *testing.T
	dir     string
	extexec string
	hammer  string

	pid int
	in  io.Writer
	out *bufio.Reader
}

func newStage(t *testing.T) *stage {
	nsmounttest.Root(t)
	s := &stage{t: t, dir: t.TempDir(), extexec: "/payload/extexec", hammer: "/payload/hammer"}
	if _, err := os.Stat(s.extexec); err != nil {
		s.extexec, s.hammer = s.dir+"/extexec", s.dir+"/hammer"
		s.must(vm.Build(s.extexec, "./cmd/extexec"))
		s.must(vm.Build(s.hammer, "./demo/hammer"))
	}
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) write(path, text string) {
	s.t.Helper()
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(text), 0o644))
}

// install makes a version of both extensions appear by rename.
func (s *stage) install(version string) {
	s.t.Helper()
	dir, image := s.dir+"/new", s.dir+"/new-image"
	for _, place := range []string{"etc", "usr/share", "opt"} {
		s.write(filepath.Join(dir, place, "by-hand/version"), version)
	}
	for _, place := range []string{"etc", "usr/lib"} {
		s.write(filepath.Join(dir, place, "extension-release.d/extension-release.web"), "ID=_any\n")
	}
	s.write(image+"/usr/share/by-hand-image/version", version)
	s.write(image+"/usr/lib/extension-release.d/extension-release.tool", "ID=_any\n")
	if out, err := exec.Command("mkfs.erofs", "--quiet", image+".raw", image).CombinedOutput(); err != nil {
		s.t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	s.must(os.MkdirAll(s.dir+"/web.v", 0o755))
	s.must(os.MkdirAll(s.dir+"/tool.v", 0o755))
	s.must(os.Rename(dir, s.dir+"/web.v/web_"+version))
	s.must(os.Rename(image+".raw", s.dir+"/tool.v/tool_"+version+".raw"))
	s.must(os.RemoveAll(image))
}

// run starts the service, which opens its files without a pause from then on.
func (s *stage) run() {
	s.t.Helper()
	argv := slices.Concat([]string{"run", "--state-dir", s.dir + "/state", "--name", "by-hand",
		"--extension-directory", s.dir + "/web.v", "--extension-image", s.dir + "/tool.v", "--", s.hammer, "--version"},
		files, []string{"--", "/etc/passwd", "/etc/by-hand", "/usr/share", "/opt"})
	cmd := exec.Command(s.extexec, argv...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	s.must(err)
	out, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	s.in, s.out, s.pid = in, bufio.NewReader(out), cmd.Process.Pid
	s.t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the service ended with %v", err)
		}
	})
}

func (s *stage) ask(word string) string {
	s.t.Helper()
	_, err := fmt.Fprintln(s.in, word)
	s.must(err)
	line, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("the service has ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// want checks which version the service reads in all its files.
func (s *stage) want(version string) {
	s.t.Helper()
	want := strings.TrimSpace(strings.Repeat(version+" ", len(files)))
	if got := s.ask("read"); got != want {
		s.t.Errorf("the service reads %q, want %q", got, want)
	}
}

// call runs the program on the service's name and returns what it prints.
func (s *stage) call(verb string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.extexec, slices.Concat([]string{verb, "--state-dir", s.dir + "/state"}, args, []string{"by-hand"})...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("extexec %s: %v\n%s", verb, err, errors.String())
	}
	return string(out)
}

// wantStatus checks what status says after that many exchanges.
func (s *stage) wantStatus(generation uint64, exchanges int) {
	s.t.Helper()
	var got status.Status
	s.must(json.Unmarshal([]byte(s.call("status", "--json")), &got))
	if got.PID != s.pid || got.Generation.Number != generation || len(got.Hierarchies) != 3 {
		s.t.Errorf("status: %+v", got)
	}
	covered := 0
	if !nsmount.HaveBeneath() {
		covered = exchanges
	}
	for _, h := range got.Hierarchies {
		if h.Covered != covered || h.Live == nil || h.Live.Generation != generation {
			s.t.Errorf("status of %s: %+v, want %d covered", h.Path, h, covered)
		}
	}
}

// TestByHand does the whole of it while the service reads: no lookup fails, and what
// a mount hides below /etc stays hidden.
func TestByHand(t *testing.T) {
	s := newStage(t)
	if err := unix.Mount("/dev/null", "/etc/debian_version", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { s.must(unix.Unmount("/etc/debian_version", unix.MNT_DETACH)) }()
	s.install("1")
	s.run()
	s.want("1")
	for v := 2; v <= 6; v++ {
		s.install(fmt.Sprint(v))
		s.call("reload")
		s.want(fmt.Sprint(v))
	}
	s.wantStatus(6, 5)
	s.call("rollback")
	s.want("5")
	s.wantStatus(7, 6)
	s.call("reload", "--if-changed")
	s.want("5")
	s.call("unhold")
	s.call("reload")
	s.want("6")
	s.wantStatus(8, 7)
	s.install("7")
	s.call("reload")
	s.want("7")

	hidden, err := os.Stat(fmt.Sprintf("/proc/%d/root/etc/debian_version", s.pid))
	if err != nil || hidden.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("what is mounted below /etc: %v, %v", hidden, err)
	}
	var failed, opens, rate uint64
	counts := s.ask("count")
	if _, err := fmt.Sscan(counts, &failed, &opens, &rate); err != nil || failed != 0 || opens == 0 {
		t.Errorf("failed lookups, all of them, a second: %s (%v)", counts, err)
	}
	t.Logf("failed lookups: %d of %d", failed, opens)
}
