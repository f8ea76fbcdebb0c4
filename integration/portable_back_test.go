package integration

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/integration/rig"
)

// good attaches version 1 of an image, whose one service runs, and version makes others.
func (s *shop) good() (base, unit string) {
	s.t.Helper()
	unit = s.name + "-app.service"
	base = s.version(1, s.service(""))
	s.portable("attach", "--now", "--enable", "--runtime", base)
	s.runs(unit)
	return base, unit
}

// version makes a base with this service.
func (s *shop) version(n int, text string) string {
	s.t.Helper()
	dir := s.skeleton(fmt.Sprintf("%s_%d", s.name, n))
	s.c.WriteFile(dir+"/usr/lib/systemd/system/"+s.name+"-app.service", text, 0o644)
	return dir
}

// back checks that version 1 is there and runs, in a new process, and that it is enabled.
func (s *shop) back(base, unit string, old rig.PID) {
	s.t.Helper()
	s.runs(unit)
	s.is("running-runtime", base)
	s.has(unit, "RootDirectory="+base)
	if got := s.c.Show(unit, "RootDirectory"); got != base {
		s.t.Errorf("systemd has the root %s, want %s", got, base)
	}
	if s.c.MainPID(unit) == old {
		s.t.Error("it was not restarted")
	}
	if r := s.exec("systemctl", "is-enabled", unit); strings.TrimSpace(r.Stdout) != "enabled-runtime" {
		s.t.Errorf("it is %s", r)
	}
	if list := s.c.Must("extexec", "portable", "list"); strings.Contains(list, s.name+"_2") {
		s.t.Errorf("the list is\n%s", list)
	}
}

func (s *shop) away(base string) {
	s.t.Helper()
	s.portable("detach", "--now", "--enable", base)
	s.nothingLeft()
}

// backUnit: of several units one does not start, so none is attached, and none runs.
func backUnit(s *shop) {
	n := s.name
	base := s.base(n+"_0", n+"-a.service", n+"-b.service", n+"-c.service")
	s.c.WriteFile(base+"/usr/lib/systemd/system/"+n+"-b.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/testservice -exit-now -exit-code 1\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	s.refused(4, "the old state is back", "attach", "--now", "--enable", "--runtime", base)
	s.nothingLeft()
	for _, u := range []string{n + "-a.service", n + "-c.service"} {
		s.rests(u)
		if s.c.Exists("/run/systemd/system/multi-user.target.wants/" + u) {
			s.t.Errorf("%s is enabled", u)
		}
	}
}

// backEnable: of several units one cannot be enabled, so none is, and none is attached.
func backEnable(s *shop) {
	n := s.name
	base := s.base(n+"_0", n+"-a.service", n+"-b.service")
	s.c.WriteUnit(n+"-b-taken.service", "[Service]\nExecStart=/bin/true\n")
	s.c.WriteFile(base+"/usr/lib/systemd/system/"+n+"-b.service", s.service("")+"Alias="+n+"-b-taken.service\n", 0o644)
	s.refused(1, "do without --enable", "attach", "--now", "--enable", base)
	s.nothingLeft()
	// With a specifier the name is systemd's to find out.
	s.c.WriteFile(base+"/usr/lib/systemd/system/"+n+"-b.service", s.service("")+"Alias=%p-taken.service\n", 0o644)
	s.refused(4, "the old state is back", "attach", "--now", "--enable", base)
	s.nothingLeft()
	for _, u := range []string{n + "-a.service", n + "-b.service"} {
		if s.c.Exists("/etc/systemd/system/multi-user.target.wants/" + u) {
			s.t.Errorf("%s is enabled", u)
		}
	}
}

// backVerify: the new version starts, and its ReloadVerify= fails.
func backVerify(s *shop) {
	base, unit := s.good()
	pid := s.c.MainPID(unit)
	verify := "\n[X-Extexec]\nReloadVerify=/usr/bin/testservice -exit-now -exit-code %d\n"
	s.refused(4, "ReloadVerify=/usr/bin/testservice -exit-now -exit-code 3", "reattach", "--now", "--runtime", s.version(2, s.service("")+fmt.Sprintf(verify, 3)))
	s.back(base, unit, pid)
	good := s.version(3, s.service("")+fmt.Sprintf(verify, 0))
	s.portable("reattach", "--now", "--runtime", good)
	s.has(unit, "RootDirectory="+good)
	s.away(good)
}

// backTimeout: the new version never says that it is ready.
func backTimeout(s *shop) {
	base, unit := s.good()
	pid := s.c.MainPID(unit)
	bad := strings.Replace(s.service("TimeoutStartSec=1s"), "testservice -notify", "testservice", 1)
	s.refused(4, "the old state is back", "reattach", "--now", "--runtime", s.version(2, bad))
	s.back(base, unit, pid)
	s.away(base)
}

// backSIGTERM: whoever waits for the new version loses patience.
func backSIGTERM(s *shop) {
	base, unit := s.good()
	pid := s.c.MainPID(unit)
	bad := s.version(2, strings.Replace(s.service("TimeoutStartSec=90s"), "testservice -notify", "testservice", 1))
	p := s.c.Start(rig.Command{Argv: []string{"extexec", "portable", "reattach", "--now", "--runtime", bad}})
	eventually(s.t, "the new version is being started", func() bool {
		return s.c.Show(unit, "RootDirectory") == bad && s.c.Show(unit, "ActiveState") == "activating"
	})
	if err := p.Signal(unix.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r, err := p.Wait(ctx); err != nil || r.Code != 4 {
		s.t.Errorf("%v, %s", err, r)
	}
	s.back(base, unit, pid)
	s.away(base)
}

// instances: those of a template that run are restarted with a new version of it, and stopped where it goes.
func instances(s *shop) {
	template := s.name + "-app@.service"
	all := []string{s.name + "-app@one.service", s.name + "-app@t\\x2fwo.service"}
	version := func(n int, unit string) string {
		dir := s.skeleton(fmt.Sprintf("%s_%d", s.name, n))
		s.c.WriteFile(dir+"/usr/lib/systemd/system/"+unit, s.service(""), 0o644)
		return dir
	}
	first, second, third := version(1, template), version(2, template), version(3, s.name+"-app.service")
	s.portable("attach", "--now", "--runtime", first)
	for _, u := range all {
		s.rests(u)
		s.c.Systemctl("start", u)
	}
	s.refused(1, "give --now", "detach", first)
	s.runs(all...)
	old := []rig.PID{s.c.MainPID(all[0]), s.c.MainPID(all[1])}
	s.portable("reattach", "--now", "--runtime", second)
	s.runs(all...)
	for i, u := range all {
		if got := s.c.Show(u, "RootDirectory"); got != second || s.c.MainPID(u) == old[i] {
			s.t.Errorf("%s has the root %s, and is process %v, was %v", u, got, s.c.MainPID(u), old[i])
		}
	}
	s.portable("reattach", "--now", "--runtime", third)
	s.rests(all...)
	s.portable("reattach", "--now", "--runtime", second)
	s.c.Systemctl("start", all[0])
	s.portable("detach", "--now", second)
	s.rests(all...)
	s.nothingLeft()
}

// gone: an image disappears while it is attached. The service goes on, a reload fails (systemd needs the image for
// the ExecReload= line), and the units can be detached.
func gone(s *shop) {
	n := s.name
	unit := n + "-app.service"
	base, ext := s.base(n+"_0", unit), s.sysext("data")
	s.portable("attach", "--now", "--runtime", "--extension", ext, base)
	pid := s.c.MainPID(unit)
	s.c.Rename(ext, ext+".away")
	if r := s.exec("systemctl", "reload", unit); r.Code == 0 {
		s.t.Error("reloaded without the extension")
	}
	if log := s.c.Journal(unit); !strings.Contains(log, "status=226/NAMESPACE") {
		s.t.Errorf("the journal has\n%s", log)
	}
	s.runs(unit)
	s.shows(unit, "/usr/share/"+n+"-data", "data")
	if list := s.c.Must("extexec", "portable", "list"); !strings.Contains(list, "image missing") {
		s.t.Errorf("the list is\n%s", list)
	}
	s.refused(1, "no such file or directory", "reattach", "--now", "--runtime", "--extension", ext, base)
	s.c.Rename(ext+".away", ext)
	s.c.Systemctl("reload", unit)
	if now := s.c.MainPID(unit); now != pid {
		s.t.Errorf("the process is %v, was %v", now, pid)
	}
	s.c.Rename(base, base+".away")
	s.c.Rename(ext, ext+".away")
	s.portable("detach", "--now", "--extension", ext, base)
	s.nothingLeft()
}
