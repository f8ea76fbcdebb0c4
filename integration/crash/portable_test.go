//go:build amd64

package crash

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/tracer"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// A stall is a host on which images are attached: what is below /run, which is a
// tmpfs of the test. No systemd answers there.
type stall struct {
	t            testing.TB
	dir, program string
}

// verbs are what is struck. prepare comes before each of them, and before every strike.
var verbs = []struct {
	name    string
	prepare []string
	argv    []string
}{
	{"attach", []string{"attach", "--extension", "DIR/conf", "DIR/db_1"}, []string{"attach", "--extension", "DIR/conf", "DIR/web_1"}},
	{"attach copies", []string{"attach", "--extension", "DIR/conf", "DIR/db_1"}, []string{"attach", "--copy=mixed", "--extension", "DIR/conf", "DIR/web_1"}},
	{"reattach", []string{"attach", "--copy=mixed", "--extension", "DIR/conf", "DIR/web_1"}, []string{"reattach", "--extension", "DIR/conf", "DIR/web_2"}},
	{"detach", []string{"attach", "--extension", "DIR/conf", "DIR/web_1"}, []string{"detach", "--extension", "conf", "web"}},
}

func newStall(t testing.TB) *stall {
	s := &stall{t: t, dir: t.TempDir(), program: build(t)}
	nsmounttest.Tmpfs(t, "/run", "mode=755")
	s.write("bin/extexec", "") // the units will call it
	s.must(os.Chmod(s.dir+"/bin/extexec", 0o755))
	nsmounttest.Overlay(t, "/usr/bin", "lowerdir="+s.dir+"/bin:/usr/bin")
	for base, units := range map[string][]string{"db_1": {"db.service"}, "web_1": {"web.service", "web.socket"}, "web_2": {"web.service", "web.timer"}} {
		s.write(base+"/usr/lib/os-release", "ID=base\nVERSION_ID=7\n")
		for _, u := range units {
			s.write(base+"/usr/lib/systemd/system/"+u, "[Unit]\nDescription="+base+"\n[Service]\nExecStart=/usr/bin/web\n")
		}
	}
	s.write("conf/etc/extension-release.d/extension-release.conf", "ID=_any\n")
	return s
}

func (s *stall) write(name, text string) {
	s.t.Helper()
	at := filepath.Join(s.dir, name)
	s.must(os.MkdirAll(filepath.Dir(at), 0o755))
	s.must(os.WriteFile(at, []byte(text), 0o644))
}

func (s *stall) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stall) command(argv []string) *exec.Cmd {
	args := []string{"portable", argv[0], "--no-reload"}
	if argv[0] != "detach" {
		args = append(args, "--runtime", "--profile=none")
	}
	for _, a := range argv[1:] {
		args = append(args, strings.ReplaceAll(a, "DIR", s.dir))
	}
	return exec.Command(s.program, args...)
}

func (s *stall) run(argv []string) {
	s.t.Helper()
	if out, err := s.command(argv).CombinedOutput(); err != nil {
		s.t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

// prepare makes the state before a strike.
func (s *stall) prepare(argv []string) {
	s.t.Helper()
	for _, dir := range []string{"/run/systemd", "/run/portables"} {
		s.must(os.RemoveAll(dir))
	}
	s.run(argv)
}

// tree is what is below a directory, by path.
func (s *stall) tree(dir string) map[string]string {
	s.t.Helper()
	all := map[string]string{}
	s.must(filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && at == dir:
			return nil // it is not there
		case err != nil:
			return err
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(at)
			all[at] = "-> " + target
			return err
		case d.IsDir():
			all[at+"/"] = ""
			return nil
		}
		text, err := os.ReadFile(at)
		all[at] = string(text)
		return err
	}))
	return all
}

// A picture is what there is: the units, and links and copies of images.
type picture struct{ units, images map[string]string }

func (s *stall) picture() picture {
	return picture{s.tree("/run/systemd"), s.tree("/run/portables")}
}

// TestPortableIsKilled kills the program as it makes a system call. The units are the
// old ones or the new ones, and the next call makes links and copies such, too.
func TestPortableIsKilled(t *testing.T) {
	strikePortable(t, 12, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGKILL}} })
}

// TestPortableIsToldToEnd sends SIGTERM as it makes a system call: what it has begun it
// takes back, or brings to its end.
func TestPortableIsToldToEnd(t *testing.T) {
	strikePortable(t, 6, func(tracer.Call) []tracer.Strike { return []tracer.Strike{{Signal: syscall.SIGTERM}} })
}

// TestPortableFails makes a system call fail with what can come of it. All is as it was
// before, or, with exit code 0, as it should be.
func TestPortableFails(t *testing.T) { strikePortable(t, 25, tracer.Call.Failures) }

func strikePortable(t *testing.T, most int, strikes func(tracer.Call) []tracer.Strike) {
	s := newStall(t)
	for _, v := range verbs {
		t.Run(v.name, func(t *testing.T) {
			s.t = t
			s.prepare(v.prepare)
			before := s.picture()
			e, err := tracer.Trace(s.command(v.argv), tracer.Strike{})
			s.must(err)
			if e.State.ExitStatus() != 0 {
				t.Fatalf("without a strike: %s", e.Output)
			}
			after := s.picture()
			strikeEach(t, e.Calls, most, strikes, func(hit tracer.Strike) (*tracer.Ending, []string) {
				s.prepare(v.prepare)
				struck, err := tracer.Trace(s.command(v.argv), hit)
				s.must(err)
				return struck, s.judge(hit, struck, before, after)
			})
		})
	}
}

// judge looks at what a call has left, and at the next one.
func (s *stall) judge(hit tracer.Strike, e *tracer.Ending, before, after picture) (wrong []string) {
	now := s.picture()
	same := func(what string, want picture) {
		if d := cmp.Diff(want.units, now.units) + cmp.Diff(want.images, now.images); d != "" {
			wrong = append(wrong, fmt.Sprintf("%s, and (-want):\n%s", what, d))
		}
	}
	switch {
	case e.State.Signaled():
		wrong = append(wrong, died(e, hit)...)
		want, units := before, withoutStages(now.units)
		if cmp.Equal(after.units, units) {
			want = after
		} else if d := cmp.Diff(before.units, units); d != "" {
			wrong = append(wrong, "there are neither the old units nor the new ones:\n"+d)
		}
		if out, err := s.command([]string{"detach", "nothing"}).CombinedOutput(); err == nil || !strings.Contains(string(out), "it is not attached") {
			wrong = append(wrong, fmt.Sprintf("the next call, which is refused: %v: %s", err, out))
		}
		now = s.picture()
		now.images = withoutKept(now.images)
		same("killed, and after the next call", want)
	case e.State.ExitStatus() == 0:
		if !strings.Contains(e.Output, "the next call removes") {
			same("exit code 0", after)
		}
	case e.State.ExitStatus() == 1 || e.State.ExitStatus() == 4:
		wrong = append(wrong, message(e, hit)...)
		same(fmt.Sprint("exit code ", e.State.ExitStatus()), before)
	default:
		wrong = append(wrong, fmt.Sprintf("exit code %d", e.State.ExitStatus()))
	}
	if out, err := s.command([]string{"reattach", "--copy=mixed", "--extension", "DIR/conf", "DIR/web_2"}).CombinedOutput(); err != nil {
		wrong = append(wrong, fmt.Sprintf("the next call: %v: %s", err, out))
	}
	for at := range s.picture().images {
		if strings.Contains(at, ".extexec-") {
			wrong = append(wrong, "after the next call this is left: "+at)
		}
	}
	for at := range s.picture().units {
		if strings.Contains(at, ".extexec-") {
			wrong = append(wrong, "after the next call this is left: "+at)
		}
	}
	return wrong
}

// withoutKept leaves out the copies that stay until the next boot.
func withoutKept(all map[string]string) map[string]string {
	left := map[string]string{}
	for at, text := range all {
		if !strings.Contains(at, "/.#extexec-kept-") {
			left[at] = text
		}
	}
	return left
}

// withoutStages leaves out what is made aside.
func withoutStages(all map[string]string) map[string]string {
	left := map[string]string{}
	for at, text := range all {
		if !strings.Contains(at, ".extexec-") {
			left[at] = text
		}
	}
	return left
}
