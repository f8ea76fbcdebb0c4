//go:build amd64

package crash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/tracer"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// shelf is a versioned directory of a unit that does not run: versions of an extension
// are installed into it.
type shelf struct {
	t       testing.TB
	dir     string // ends in conf.v
	made    string // where versions are made
	program string
	image   bool
	version int // that was made last
}

// shelves are the two kinds of versions: a directory, and an image with what belongs to
// it by its name.
var shelves = map[string]bool{"directory": false, "image": true}

func newShelf(t testing.TB, image bool) *shelf {
	t.Helper()
	s := &shelf{t: t, dir: t.TempDir() + "/conf.v", made: t.TempDir(), program: build(t), image: image}
	s.must(nsmounttest.Mount("tmpfs", "/run", "tmpfs", 0))
	nsmounttest.Unmount(t, "/run")
	ref := "ExtensionDirectories="
	if image {
		ref = "ExtensionImages="
	}
	s.must(os.MkdirAll("/run/systemd/system", 0o755))
	s.must(os.WriteFile("/run/systemd/system/shelf.service", []byte("[Service]\nExecStart=/bin/true\n[X-Extexec]\n"+ref+s.dir+"\n"), 0o644))
	s.must(os.Mkdir(s.dir, 0o755))
	s.make()
	if out, err := s.install().CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
	return s
}

func (s *shelf) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// make makes the next version.
func (s *shelf) make() {
	s.t.Helper()
	s.version++
	dir := fmt.Sprintf("%s/conf_%d", s.made, s.version)
	for file, text := range map[string]string{
		"/etc/extension-release.d/extension-release.conf": "ID=_any\n",
		"/etc/extexec-a": strings.Repeat(fmt.Sprint(s.version), 10000),
		"/etc/extexec-b": fmt.Sprint(s.version),
	} {
		s.must(os.MkdirAll(filepath.Dir(dir+file), 0o755))
		s.must(os.WriteFile(dir+file, []byte(text), 0o644))
	}
	if !s.image {
		return
	}
	s.run("mksquashfs", dir, dir+".raw", "-quiet", "-no-progress", "-comp", "gzip")
	for line := range strings.Lines(s.run("veritysetup", "format", dir+".raw", dir+".verity")) {
		if hash, ok := strings.CutPrefix(line, "Root hash:"); ok {
			s.must(os.WriteFile(dir+".roothash", []byte(strings.TrimSpace(hash)), 0o644))
		}
	}
	s.must(os.RemoveAll(dir))
}

func (s *shelf) run(argv ...string) string {
	s.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", argv[0], err, out)
	}
	return string(out)
}

func (s *shelf) suffix() string {
	if s.image {
		return ".raw"
	}
	return ""
}

// install is the command that installs the version that was made last.
func (s *shelf) install() *exec.Cmd {
	return exec.Command(s.program, "install", "--no-reload", fmt.Sprintf("%s/conf_%d%s", s.made, s.version, s.suffix()), "shelf")
}

// entries are the names in the directory.
func (s *shelf) entries() (names []string) {
	s.t.Helper()
	all, err := os.ReadDir(s.dir)
	s.must(err)
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// full are the names of the whole versions up to one.
func (s *shelf) full(version int) (names []string) {
	for v := 1; v <= version; v++ {
		name := fmt.Sprintf("conf_%d", v)
		if s.image {
			names = append(names, name+".raw", name+".roothash", name+".verity")
		} else {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// picked is the version that is picked, which must be a whole one.
func (s *shelf) picked() (version int, err error) {
	s.t.Helper()
	kind := "dir"
	if s.image {
		kind = "reg"
	}
	name := strings.TrimSpace(s.run(s.program, "pick", "--print", "filename", "--type", kind, "--suffix", s.suffix(), s.dir))
	if _, err := fmt.Sscanf(name, "conf_%d", &version); err != nil {
		return 0, fmt.Errorf("%q is picked", name)
	}
	files := []string{name}
	if s.image {
		files = []string{name, strings.TrimSuffix(name, ".raw") + ".verity", strings.TrimSuffix(name, ".raw") + ".roothash"}
	}
	for _, f := range files {
		if out, diff := exec.Command("diff", "-r", filepath.Join(s.made, f), filepath.Join(s.dir, f)).CombinedOutput(); diff != nil {
			err = errors.Join(err, fmt.Errorf("%s is picked, and is not what was made: %s", name, out))
		}
	}
	return version, err
}

// strike makes a version, strikes its installation, and installs it once more. It says
// what is not as it should be.
func (s *shelf) strike(with tracer.Strike) (*tracer.Ending, []string) {
	s.t.Helper()
	s.make()
	e, err := tracer.Trace(s.install(), with)
	s.must(err)
	wrong := append(s.judge(with, e), e.Left...)
	if version, _ := s.picked(); version == s.version { // it is there: the next one shows that nothing is left
		s.make()
	}
	if out, err := s.install().CombinedOutput(); err != nil {
		wrong = append(wrong, fmt.Sprintf("the next installation: %v: %s", err, out))
	}
	if version, err := s.picked(); err != nil || version != s.version {
		wrong = append(wrong, fmt.Sprintf("after the next installation version %d is picked, %v", version, err))
	}
	if got, want := s.entries(), s.full(s.version); !slices.Equal(got, want) {
		wrong = append(wrong, fmt.Sprintf("after the next installation the directory has %q, want %q", got, want))
		for _, name := range got {
			if !slices.Contains(want, name) {
				s.must(os.RemoveAll(filepath.Join(s.dir, name)))
			}
		}
	}
	return e, wrong
}

// judge looks at how the installation has ended.
func (s *shelf) judge(with tracer.Strike, e *tracer.Ending) (wrong []string) {
	version, err := s.picked()
	if err != nil || version < s.version-1 {
		wrong = append(wrong, fmt.Sprintf("version %d is picked, %v", version, err))
	}
	if e.State.Signaled() {
		return append(wrong, died(e, with)...)
	}
	want := s.version - 1
	switch code := e.State.ExitStatus(); code {
	case 0:
		want = s.version
	case 1:
		wrong = append(wrong, message(e, with)...)
	default:
		wrong = append(wrong, fmt.Sprintf("exit code %d", code))
	}
	if got := s.entries(); version != want || !slices.Equal(got, s.full(want)) {
		wrong = append(wrong, fmt.Sprintf("exit code %d, version %d is picked, and the directory has %q", e.State.ExitStatus(), version, got))
	}
	return wrong
}

// TestInstallIsKilled kills an installation as it makes a system call, one call after the
// other: a version is there whole or not at all, and the next installation leaves nothing
// of it.
func TestInstallIsKilled(t *testing.T) {
	strikeInstall(t, 20, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGKILL}} })
}

// TestInstallIsToldToEnd sends SIGTERM.
func TestInstallIsToldToEnd(t *testing.T) {
	strikeInstall(t, 8, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGTERM}} })
}

// TestInstallFails makes a system call fail with what can come of it.
func TestInstallFails(t *testing.T) { strikeInstall(t, 20, tracer.Call.Failures) }

func strikeInstall(t *testing.T, most int, strikes func(tracer.Call) []tracer.Strike) {
	for name, image := range shelves {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, image)
			e, wrong := s.strike(tracer.Strike{})
			if len(wrong) > 0 {
				t.Fatalf("without a strike:\n%s\n%s", strings.Join(wrong, "\n"), e.Output)
			}
			strikeEach(t, e.Calls, most, strikes, s.strike)
		})
	}
}

// TestInstallFull gives the directory a file system of its own, and a page more of it, or
// an inode more, each time, until the version fits: before that it is refused, and nothing
// is left.
func TestInstallFull(t *testing.T) {
	const versions = 2
	for name, image := range shelves {
		for option, start := range map[string]int{"nr_blocks": 1, "nr_inodes": 2} {
			t.Run(name+" "+option, func(t *testing.T) {
				s := newShelf(t, image)
				s.make()
				for n := start; ; n++ {
					if n > 100 {
						t.Fatalf("%s=%d is not enough", option, n)
					}
					if installInto(s, fmt.Sprintf("%s=%d", option, n), versions) {
						t.Logf("%s=%d is enough", option, n)
						break
					}
				}
			})
		}
	}
}

// installInto installs version 2 into a file system with these options, which has version
// 1 if that has room; it says whether the installation succeeded.
func installInto(s *shelf, options string, version int) (done bool) {
	s.t.Helper()
	aside := s.t.TempDir()
	s.must(os.CopyFS(aside, os.DirFS(s.dir)))
	s.must(unix.Mount("small", s.dir, "tmpfs", 0, "mode=755,"+options))
	defer func() { s.must(unix.Unmount(s.dir, unix.MNT_DETACH)) }()
	if os.CopyFS(s.dir, os.DirFS(aside)) != nil {
		return false // not even the first version fits
	}
	var out bytes.Buffer
	cmd := s.install()
	cmd.Stdout, cmd.Stderr = &out, &out
	want := version
	if err := cmd.Run(); err != nil {
		want--
		if code := cmd.ProcessState.ExitCode(); code != 1 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(strings.ToLower(out.String()), "no space left on device") {
			s.t.Errorf("%s: exit code %d: %s", options, code, &out)
		}
	}
	if got := s.entries(); !slices.Equal(got, s.full(want)) {
		s.t.Errorf("%s: the directory has %q, want %q: %s", options, got, s.full(want), &out)
	}
	return want == version
}
