package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/rig"
)

// rootedRelease is what the base images say they are, and extensions say they fit.
const rootedRelease = "ID=rooted\nVERSION_ID=7\n"

// A shop makes portable images whose units begin with its name, and attaches them.
type shop struct {
	*adoptee
	name  string
	given [][]string // extensions and base of what was attached, to be detached at the end
}

func newShop(t *testing.T, c *rig.Container, name string) *shop {
	t.Helper()
	s := &shop{adoptee: newAdoptee(t, c, name), name: name}
	t.Cleanup(func() {
		if t.Failed() {
			for _, u := range strings.Fields(c.Must("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", name+"*")) {
				if strings.HasSuffix(u, ".service") {
					t.Log(c.Report(u))
				}
			}
		}
		s.exec("systemctl", "stop", name+"*")
		s.exec("systemctl", "reset-failed", name+"*")
		for _, images := range s.given {
			s.exec(append([]string{"extexec", "portable", "detach", "--now", "--enable"}, images...)...)
		}
		c.Must("sh", "-c", "rm -rf /run/extexec/units/"+name+"* /var/lib/extexec/units/"+name+"* /run/extexec/extexec /var/lib/private/"+name+"* /var/lib/"+name+"*")
	})
	return s
}

// exec runs a command, which may fail.
func (s *shop) exec(argv ...string) rig.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return s.c.Exec(ctx, argv...)
}

// portable runs a verb, which has to succeed.
func (s *shop) portable(argv ...string) string {
	s.t.Helper()
	if argv[0] == "attach" || argv[0] == "reattach" {
		s.remember(argv[1:])
	}
	return s.c.Must(append([]string{"extexec", "portable"}, argv...)...)
}

// remember notes what is to be detached at the end.
func (s *shop) remember(argv []string) {
	var images []string
	for i := 0; i < len(argv); i++ {
		switch {
		case argv[i] == "--extension":
			images = append(images, argv[i], argv[i+1])
			i++
		case argv[i] == "--profile":
			i++
		case !strings.HasPrefix(argv[i], "-"):
			s.given = append(s.given, append(images, argv[i]))
			return
		}
	}
}

// refused runs a verb that has to fail with an exit code and one line that has words.
func (s *shop) refused(code int, words string, argv ...string) {
	s.t.Helper()
	r := s.exec(append([]string{"extexec", "portable"}, argv...)...)
	if r.Code != code || !strings.Contains(r.Stderr, words) || strings.Count(r.Stderr, "error: ") != 1 {
		s.t.Errorf("extexec portable %s: want exit code %d and a line with %q: %s", strings.Join(argv, " "), code, words, r)
	}
}

// service is the text of a unit that runs.
func (s *shop) service(settings string) string {
	return "[Service]\nType=notify\nExecStart=/usr/bin/testservice -notify -pause 10ms\n" + settings + "\n[Install]\nWantedBy=multi-user.target\n"
}

// base makes a base directory with units, each of which runs.
func (s *shop) base(name string, units ...string) string {
	s.t.Helper()
	dir := s.skeleton(name)
	for _, u := range units {
		s.c.WriteFile(dir+"/usr/lib/systemd/system/"+u, s.service(""), 0o644)
	}
	return dir
}

// skeleton makes a base directory with what systemd wants of an image with the default
// profile, and the test service.
func (s *shop) skeleton(name string) string {
	s.t.Helper()
	dir := s.dir + "/" + name
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "var/tmp", "opt", "var/lib/" + s.name} {
		s.c.WriteFile(dir+"/"+d+"/.keep", "", 0o644)
	}
	for _, f := range []string{"etc/machine-id", "etc/resolv.conf", "dev/log"} {
		s.c.WriteFile(dir+"/"+f, "", 0o644)
	}
	s.c.WriteFile(dir+"/usr/lib/os-release", rootedRelease, 0o644)
	s.c.Must("cp", "-a", "--parents", "-t", dir, "/usr/bin/testservice")
	return dir
}

// raw makes an image of a directory, which goes.
func (s *shop) raw(dir string) string {
	s.t.Helper()
	name := path.Base(dir)
	s.image(name, name+".raw", squashfs)
	s.c.Remove(dir)
	return dir + ".raw"
}

// sysext makes an extension directory with units.
func (s *shop) sysext(name string, units ...string) string {
	s.t.Helper()
	f := files{"/usr/share/" + s.name + "-" + name: name}
	for _, u := range units {
		f["/usr/lib/systemd/system/"+u] = s.service("")
	}
	s.shipFor(rootedRelease, name, f)
	return s.dir + "/" + name
}

// confext makes an extension directory for /etc.
func (s *shop) confext(name string) string {
	s.t.Helper()
	s.shipFor(rootedRelease, name, files{"/etc/" + s.name + "-" + name: name})
	return s.dir + "/" + name
}

// dropIn is what was written of a unit.
func (s *shop) dropIn(unit string) string {
	s.t.Helper()
	return s.c.ReadFile("/run/systemd/system.attached/" + unit + ".d/20-portable.conf")
}

// has checks lines of the drop-in of a unit.
func (s *shop) has(unit string, lines ...string) {
	s.t.Helper()
	text := s.dropIn(unit)
	for _, l := range lines {
		if !strings.Contains(text, l+"\n") {
			s.t.Errorf("the drop-in of %s lacks %q:\n%s", unit, l, text)
		}
	}
}

// runs checks which units run.
func (s *shop) runs(units ...string) {
	s.t.Helper()
	for _, u := range units {
		if state := strings.TrimSpace(s.exec("systemctl", "is-active", u).Stdout); state != "active" {
			s.t.Errorf("%s is %s\n%s", u, state, s.c.Report(u))
		}
	}
}

func (s *shop) rests(units ...string) {
	s.t.Helper()
	for _, u := range units {
		if state := strings.TrimSpace(s.exec("systemctl", "is-active", u).Stdout); state != "inactive" {
			s.t.Errorf("%s is %s", u, state)
		}
	}
}

// is checks the state of images, as extexec and portablectl have it. 252's portablectl does not know what is
// attached by names without a version.
func (s *shop) is(state string, images ...string) {
	s.t.Helper()
	s.isBy("extexec portable", state, images...)
	if s.c.SystemdVersion() >= 254 || strings.Contains(images[len(images)-1], "/") {
		s.isBy("portablectl", state, images...)
	}
}

func (s *shop) isBy(program, state string, images ...string) {
	s.t.Helper()
	r := s.exec(append(append(strings.Fields(program), "is-attached"), images...)...)
	if got := strings.TrimSpace(r.Stdout); got != state {
		s.t.Errorf("%s is-attached %s: %q, want %q: %s", program, strings.Join(images, " "), got, state, r.Stderr)
	}
}

// shows checks the content of a file as a service has it, nothing for one that is not there.
func (s *shop) shows(unit, file, text string) {
	s.t.Helper()
	at := fmt.Sprintf("/proc/%d/root%s", s.c.MainPID(unit).Inside, file)
	var got string
	err := s.c.Inside(func() error {
		b, err := os.ReadFile(at)
		got = string(b)
		if text == "" && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil || got != text {
		s.t.Errorf("%s has %q in %s, want %q: %v", unit, got, file, text, err)
	}
}

// nothingLeft checks that no unit of the shop, and no image, is attached by the word of both programs.
func (s *shop) nothingLeft() {
	s.t.Helper()
	for _, program := range [][]string{{"extexec", "portable", "list"}, {"portablectl", "list", "--no-legend"}, {"busctl", "tree", "org.freedesktop.portable1", "--no-pager"}, {"ls", "-A", "/run/systemd"}, {"ls", "-A", "/run/portables"}} {
		out := s.exec(program...).Stdout
		if strings.Contains(out, s.name) || strings.Contains(out, ".attached") || strings.Contains(out, ".extexec-") {
			s.t.Errorf("%s says\n%s", strings.Join(program, " "), out)
		}
	}
}

// setStrict says of a release file that it may have another name than its extension.
func setStrict(s *shop, file string) {
	s.t.Helper()
	if err := s.c.Inside(func() error {
		return unix.Setxattr(file, "user.extension-release.strict", []byte("false"), 0)
	}); err != nil {
		s.t.Fatal(err)
	}
}
