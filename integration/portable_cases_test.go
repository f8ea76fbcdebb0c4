package integration

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// portableCases are those of systemd's own tests of portablectl (TEST-29-PORTABLE), for extexec portable, and
// what portablectl does not do. README.md has what each one is about.
var portableCases = []struct {
	name string
	test func(s *shop)
}{
	{"PT-01", pt01}, {"PT-02", pt02}, {"PT-03", pt03}, {"PT-04", pt04}, {"PT-05", pt05}, {"PT-06", pt06}, {"PT-07", pt07},
	{"PT-08", pt08}, {"PT-09", pt09}, {"PT-10", pt10}, {"PT-11", pt11}, {"PT-12", pt12}, {"PT-13", pt13}, {"PT-14", pt14},
	{"PT-20", pt20}, {"PT-20-copy-symlink", pt20CopySymlink}, {"PT-20-overlay-root", pt20OverlayRoot}, {"PT-20-directories", pt20Directories},
	{"PT-20-mixed", pt20Mixed}, {"PT-20-force", pt20Force}, {"PT-20-leftovers", pt20Leftovers}, {"PT-20-release", pt20Release}, {"PT-30", pt30}, {"PT-40", pt40},
	{"back-unit", backUnit}, {"back-enable", backEnable}, {"back-verify", backVerify}, {"back-timeout", backTimeout}, {"back-sigterm", backSIGTERM}, {"instances", instances}, {"gone", gone}, {"sockets", sockets},
	{"order", order},
	{"man-page", manPortable},
}

// TestPortableCases runs the cases one after the other in a system of their own: what is attached is one directory.
func TestPortableCases(t *testing.T) {
	for _, suite := range rig.Suites() {
		t.Run(suite.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Boot(t, suite, rig.Options{})
			for _, p := range portableCases {
				t.Run(p.name, func(t *testing.T) { p.test(newShop(t, c.For(t), strings.ToLower(strings.ReplaceAll(p.name, "-", "")))) })
			}
			c.Remove("/etc/portables")
			c.Remove("/run/portables")
			c.Remove("/run/extexec/portable.lock")
		})
	}
}

// TestPortableCasesAreListed compares README.md with the cases that there are.
func TestPortableCasesAreListed(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:PT|back|instances|gone|man|order|sockets)[-a-z0-9A-Z]*)` \\|").FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, m[1])
	}
	var there []string
	for _, c := range portableCases {
		there = append(there, c.name)
	}
	if !slices.Equal(listed, there) {
		t.Errorf("README.md lists %q, and there are %q", listed, there)
	}
}

// twoVersions are the bases of the first cases: the second one has lost a unit, and got another.
func twoVersions(s *shop) (first, second string) {
	n := s.name
	return s.raw(s.base(n+"_0", n+"-app.service", n+"-app-foo.service", "other-"+n+".service")), s.raw(s.base(n+"_1", n+"-app.service", n+"-app-bar.service"))
}

// attachDetach is what PT-01 and PT-02 have in common.
func attachDetach(s *shop, force ...string) {
	n := s.name
	first, second := twoVersions(s)
	now := append([]string{"--now", "--runtime"}, force...)
	s.portable(append(append([]string{"attach"}, now...), first, n+"-app")...)
	s.is("running-runtime", n)
	s.runs(n+"-app.service", n+"-app-foo.service")
	s.rests(n+"-app-bar.service", "other-"+n+".service")
	if s.c.SystemdVersion() >= 254 {
		s.has(n+"-app.service", "RootImagePolicy=root=unprotected")
	}
	for _, program := range [][]string{{"extexec", "portable"}, {"portablectl"}} {
		if out := s.c.Must(append(program, "inspect", first, n+"-app")...); !strings.Contains(out, n+"-app-foo.service") {
			s.t.Errorf("%s inspects\n%s", program[0], out)
		}
	}
	pid := s.c.MainPID(n + "-app.service")
	s.portable(append(append([]string{"reattach"}, now...), second, n+"-app")...)
	s.is("running-runtime", n)
	s.runs(n+"-app.service", n+"-app-bar.service")
	s.rests(n + "-app-foo.service")
	if s.c.MainPID(n+"-app.service") == pid {
		s.t.Error("it was not restarted")
	}
	for _, program := range [][]string{{"extexec", "portable", "list"}, {"portablectl", "list"}} {
		if out := s.c.Must(program...); !strings.Contains(out, n+"_1") || strings.Contains(out, n+"_0") {
			s.t.Errorf("%s lists\n%s", program[0], out)
		}
	}
	if out := s.c.Must("busctl", "tree", "org.freedesktop.portable1", "--no-pager"); !strings.Contains(out, "/image/"+n+"_5f1") {
		s.t.Errorf("the bus has\n%s", out)
	}
	detach := append([]string{"detach", "--now"}, force...)
	s.portable(append(detach, second)...)
	s.rests(n+"-app.service", n+"-app-bar.service")
	s.nothingLeft()
}

func pt01(s *shop) { attachDetach(s) }

func pt02(s *shop) {
	unit := s.name + "-app.service"
	for _, f := range []string{unit, unit + ".d/10-profile.conf", unit + ".d/20-portable.conf"} {
		s.c.WriteFile("/run/systemd/system.attached/"+f, "[Unit]\nDescription=in the way\n", 0o644)
	}
	s.c.Systemctl("daemon-reload")
	s.refused(1, "is there already", "attach", "--runtime", s.base("way_0", unit), s.name)
	attachDetach(s, "--force")
}

func pt03(s *shop) {
	n := s.name
	first, second := twoVersions(s)
	unit := n + "-ext.service"
	ext := s.raw(s.sysext("app0", unit))
	for at, base := range []string{first, second} {
		verb := []string{"attach", "reattach"}[at]
		s.portable(verb, "--now", "--runtime", "--extension", ext, base, n+"-ext")
		s.runs(unit)
		s.is("running-runtime", "--extension", "app0", fmt.Sprintf("%s_%d", n, at))
		s.has(unit, fmt.Sprintf("LogExtraFields=PORTABLE_ROOT=%s_%d.raw", n, at), "LogExtraFields=PORTABLE_EXTENSION=app0.raw",
			"LogExtraFields=PORTABLE_EXTENSION_NAME_AND_VERSION=rooted_7", "LogExtraFields=PORTABLE=app0.raw")
		if s.c.SystemdVersion() >= 254 {
			s.has(unit, "RootImagePolicy=root=unprotected", "ExtensionImagePolicy=root=unprotected")
		}
		s.c.Must("systemctl", "kill", "--signal=USR1", unit) // it prints its report
		eventually(s.t, "the journal has the fields", func() bool {
			return s.c.Must("journalctl", "--no-pager", "--output=cat", "--unit="+unit, fmt.Sprintf("PORTABLE_ROOT=%s_%d.raw", n, at), "PORTABLE_EXTENSION=app0.raw") != ""
		})
	}
	s.portable("detach", "--now", "--extension", ext, second)
	s.nothingLeft()
}

func pt04(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	ext := s.dir + "/app0_1.0.raw"
	s.c.Rename(s.raw(s.sysext("app0", unit)), ext)
	if s.c.SystemdVersion() < 253 {
		s.refused(1, "extension-release.app0_1.0", "attach", "--now", "--runtime", "--extension", ext, base, n+"-ext")
		s.nothingLeft()
		return
	}
	s.portable("attach", "--now", "--runtime", "--extension", ext, base, n+"-ext")
	s.runs(unit)
	s.is("running-runtime", "--extension", "app0_1", n+"_0")
	s.portable("detach", "--now", "--extension", ext, s.dir+"/"+n+"_1.raw") // another version means it, too
	s.nothingLeft()
}

func pt05(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	plain := s.raw(s.sysext("app1", unit))
	versioned := s.dir + "/app1_2.raw"
	s.c.Must("cp", plain, versioned)
	s.portable("attach", "--now", "--runtime", "--extension", plain, base, n+"-ext")
	for _, ext := range []string{versioned, plain} {
		if ext == versioned && s.c.SystemdVersion() < 253 {
			s.refused(1, "extension-release.app1_2", "reattach", "--now", "--runtime", "--extension", ext, base, n+"-ext")
			s.is("running-runtime", "--extension", plain, base)
			continue
		}
		s.portable("reattach", "--now", "--runtime", "--extension", ext, base, n+"-ext")
		s.runs(unit)
		s.is("running-runtime", "--extension", ext, base)
		s.has(unit, "ExtensionImages="+ext)
	}
	s.portable("detach", "--now", "--extension", plain, base)
	s.nothingLeft()
}

func pt06(s *shop) {
	n := s.name
	first, second := twoVersions(s)
	ext, unit := s.raw(s.sysext("app1", n+"-ext.service")), n+"-ext.service"
	s.portable("attach", "--now", "--runtime", "--extension", ext, first, n+"-ext")
	s.refused(1, "runs", "detach", "--no-reload", "--extension", ext, first)
	s.refused(2, "does not go with", "detach", "--no-reload", "--now", "--extension", ext, first)
	s.portable("detach", "--force", "--no-reload", "--extension", ext, first)
	s.portable("attach", "--force", "--no-reload", "--runtime", "--extension", ext, second, n+"-ext")
	s.c.Systemctl("daemon-reload")
	s.c.Systemctl("restart", unit)
	s.runs(unit)
	s.is("running-runtime", "--extension", "app1", n+"_1")
	s.portable("detach", "--now", "--extension", ext, second)
	s.nothingLeft()
}

// pt07 goes on where portablectl cannot: the versions are exchanged by a reload, and the process is the same.
func pt07(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	file := "/usr/share/" + n + "-version"
	version := func(v string) string {
		s.shipFor(rootedRelease, "app1", files{file: v, "/usr/lib/systemd/system/" + unit: s.service("")})
		raw := s.raw(s.dir + "/app1")
		at := s.dir + "/app1.v/app1_" + v + ".raw"
		s.c.Mkdir(s.dir + "/app1.v")
		s.c.Rename(raw, at)
		return at
	}
	version("1.0")
	newest := version("2.0")
	attach := []string{"attach", "--now", "--runtime", "--extension", s.dir + "/app1.v", base, n + "-ext"}
	if s.c.SystemdVersion() < 256 {
		s.refused(1, "does not apply a versioned", attach...)
		s.nothingLeft()
		return
	}
	s.portable(attach...)
	s.runs(unit)
	s.is("running-runtime", "--extension", "app1_2.0.raw", n+"_0")
	s.shows(unit, file, "2.0")
	s.has(unit, "ExtensionImages="+s.dir+"/app1.v")
	s.c.Remove(newest)
	s.portable(append([]string{"reattach"}, attach[1:]...)...)
	s.is("running-runtime", "--extension", "app1_1.0.raw", n+"_0")
	s.shows(unit, file, "1.0")
	pid := s.c.MainPID(unit)
	for _, v := range []string{"3.0", "4.0"} {
		version(v)
		s.c.Systemctl("reload", unit)
		s.shows(unit, file, v)
	}
	if now := s.c.MainPID(unit); now != pid {
		s.t.Errorf("the process is %v, was %v", now, pid)
	}
	s.portable("detach", "--now", "--extension", s.dir+"/app1.v", base)
	s.nothingLeft()
}

// pt08: what a service with a user of its own has written stays when it is detached.
func pt08(s *shop) {
	n := s.name
	unit := n + "-app.service"
	dir := s.skeleton(n + "_0")
	s.c.WriteFile(dir+"/usr/lib/systemd/system/"+unit, strings.ReplaceAll(s.service("DynamicUser=yes\nStateDirectory="+n), "-notify ", "-notify -state ${STATE_DIRECTORY}/foo "), 0o644)
	base, ext := s.raw(dir), s.raw(s.sysext("data"))
	for range 2 { // the second time it is the state of the first
		s.portable("attach", "--now", "--runtime", "--extension", ext, base)
		s.runs(unit)
		s.portable("detach", "--now", "--extension", ext, base)
		if !s.c.Exists("/var/lib/private/" + n + "/foo") {
			s.t.Error("the state is gone")
		}
	}
	s.nothingLeft()
}

func pt09(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	ext := s.dir + "/app10.raw"
	s.c.Rename(s.raw(s.sysext("app0", unit)), ext)
	attach := []string{"attach", "--now", "--runtime", "--extension", ext, base, n + "-ext"}
	s.refused(1, "extension-release.app10", attach...)
	force := append([]string{"attach", "--force"}, attach[1:]...)
	s.portable(force...)
	s.runs(unit)
	s.is("running-runtime", "--extension", ext, base)
	s.has(unit, "ExtensionImages="+ext+":root:x-systemd.relax-extension-release-check")
	programs := [][]string{{"extexec", "portable"}, {"portablectl"}}
	if s.c.SystemdVersion() < 254 { // its portablectl has no --force there
		programs = programs[:1]
	}
	for _, program := range programs {
		if out := s.c.Must(append(program, "inspect", "--force", "--cat", "--extension", ext, base, n+"-ext")...); !strings.Contains(out, "app10.raw") || !strings.Contains(out, "VERSION_ID=7") {
			s.t.Errorf("%s inspects\n%s", program[0], out)
		}
	}
	s.c.Remove(ext)
	s.c.Systemctl("stop", unit)
	s.portable("detach", "--force", "--extension", ext, base)
	s.nothingLeft()
}

func pt10(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	sys, conf := s.raw(s.sysext("app0", unit)), s.raw(s.confext("conf0"))
	images := []string{"--extension", sys, "--extension", conf, base}
	attach := append(append([]string{"attach", "--now", "--runtime"}, images...), n+"-ext")
	if s.c.SystemdVersion() < 254 {
		s.refused(1, "does not apply a confext", attach...)
		return
	}
	s.portable(attach...)
	s.runs(unit)
	s.is("running-runtime", images...)
	s.shows(unit, "/etc/"+n+"-conf0", "conf0")
	s.shows(unit, "/usr/share/"+n+"-app0", "app0")
	for _, program := range [][]string{{"extexec", "portable"}, {"portablectl"}} {
		if out := s.c.Must(append(append(program, "inspect", "--cat"), append(images, n+"-ext")...)...); !strings.Contains(out, "conf0.raw") {
			s.t.Errorf("%s inspects\n%s", program[0], out)
		}
	}
	s.portable(append([]string{"detach", "--now"}, images...)...)
	s.nothingLeft()
}

func pt11(s *shop) {
	n := s.name
	unit := n + "-app.service"
	base, ext := s.raw(s.base(n+"_0", unit)), s.raw(s.sysext("data"))
	s.portable("attach", "--now", "--runtime", "--extension", ext, base)
	s.runs(unit)
	s.shows(unit, "/usr/share/"+n+"-data", "data")
	s.is("running-runtime", "--extension", "data", n)
	s.portable("detach", "--now", "--extension", ext, base)
	s.nothingLeft()
}

// pt12: the service goes on without the images that were copied.
func pt12(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	ext := s.raw(s.sysext("app0", unit))
	s.portable("attach", "--copy=mixed", "--now", "--runtime", "--extension", ext, base, n+"-ext")
	s.c.Must("test", "-f", "/run/portables/app0.raw", "-a", "-f", "/run/portables/"+n+"_0.raw", "-a", "!", "-L", "/run/portables/app0.raw")
	s.c.Must("test", "-f", "/run/systemd/system.attached/"+unit, "-a", "!", "-L", "/run/systemd/system.attached/"+unit)
	s.c.Must("test", "-L", "/run/systemd/system.attached/"+unit+".d/10-profile.conf")
	s.c.Remove(ext)
	s.c.Remove(base)
	s.c.Systemctl("restart", unit)
	s.runs(unit)
	s.is("running-runtime", "--extension", "app0", n+"_0")
	s.portable("detach", "--now", "--extension", "app0", n)
	s.nothingLeft()
}

func pt13(s *shop) {
	n := s.name
	base := s.raw(s.base(n + "_0"))
	ext0, ext1 := s.raw(s.sysext("app0", n+"-ext0.service")), s.raw(s.sysext("app1", n+"-ext1.service"))
	s.portable("attach", "--runtime", "--extension", ext0, base, n+"-ext0")
	s.portable("attach", "--runtime", "--extension", ext1, base, n+"-ext1")
	both := func() {
		s.is("attached-runtime", "--extension", "app0", n+"_0")
		s.is("attached-runtime", "--extension", "app1", n+"_0")
	}
	both()
	s.refused(1, "--extension "+ext0, "detach", base)
	both()
	for _, name := range []string{n + "_0", "app0", "app1"} {
		for _, program := range [][]string{{"extexec", "portable", "list"}, {"portablectl", "list"}} {
			if program[0] == "portablectl" && name != n+"_0" && s.c.SystemdVersion() < 254 {
				continue // it calls extensions detached
			}
			lines := slices.Collect(strings.Lines(s.c.Must(program...)))
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, name) && strings.Contains(l, "attached-runtime") }) {
				s.t.Errorf("%s does not list %s: %s", program[0], name, lines)
			}
		}
	}
	s.portable("detach", "--extension", ext0, base)
	s.is("attached-runtime", "--extension", "app1", n+"_0")
	s.isBy("extexec portable", "detached", "--extension", "app0", n+"_0")
	s.portable("detach", "--extension", ext1, base)
	s.nothingLeft()
}

func pt14(s *shop) {
	n := s.name
	base, unit := s.raw(s.base(n+"_0")), n+"-ext.service"
	dir, raw, other := s.sysext("app0", unit), s.raw(s.sysext("data")), s.raw(s.sysext("more"))
	images := []string{"--extension", dir, "--extension", raw, "--extension", other, base}
	s.portable(append(append([]string{"attach", "--now", "--runtime"}, images...), n+"-ext")...)
	s.runs(unit)
	want := 0
	if s.c.SystemdVersion() >= 254 {
		want = 1
	}
	if text := s.dropIn(unit); strings.Count(text, "\nExtensionImagePolicy=") != want {
		s.t.Errorf("the policy is there %d times, want %d:\n%s", strings.Count(text, "\nExtensionImagePolicy="), want, text)
	}
	for _, name := range []string{"app0", "data", "more"} {
		s.shows(unit, "/usr/share/"+n+"-"+name, name)
	}
	s.portable(append([]string{"detach", "--now"}, images...)...)
	s.nothingLeft()
}

// pt20: a directory whose name is no prefix of its units, and a unit that is a link out of the image.
func pt20(s *shop) {
	n := s.name
	dir := s.base("mismatched-name", n+"-app.service")
	for _, program := range [][]string{{"extexec", "portable"}, {"portablectl"}} {
		out := s.exec(append(program, "inspect", dir)...).Stdout
		if program[0] == "extexec" && !strings.Contains(out, n+"-app.service") {
			s.t.Errorf("%s inspects\n%s", program[0], out)
		}
	}
	s.c.WriteFile(s.dir+"/host-unit", s.service(""), 0o644)
	link := dir + "/usr/lib/systemd/system/" + n + "-app.service"
	s.c.Remove(link)
	s.c.Must("ln", "-s", s.dir+"/host-unit", link)
	s.refused(1, "symbolic link", "inspect", "--cat", dir, n+"-app")
	s.refused(1, "symbolic link", "attach", "--runtime", dir, n+"-app")
	s.nothingLeft()
}

func pt20CopySymlink(s *shop) {
	n := s.name
	first, second := s.base(n+"_0", n+"-app.service", n+"-app-foo.service"), s.base(n+"_1", n+"-app.service", n+"-app-bar.service")
	s.portable("attach", "--copy=symlink", "--now", "--runtime", first)
	s.runs(n+"-app.service", n+"-app-foo.service")
	s.c.Must("test", "-L", "/run/systemd/system.attached/"+n+"-app.service")
	s.portable("reattach", "--now", "--enable", "--runtime", second)
	s.runs(n+"-app.service", n+"-app-bar.service")
	s.rests(n + "-app-foo.service")
	if r := s.exec("systemctl", "is-enabled", n+"-app-bar.service"); strings.TrimSpace(r.Stdout) != "enabled-runtime" {
		s.t.Errorf("it is %s", r)
	}
	s.c.Systemctl("stop", n+"-app.service", n+"-app-bar.service")
	s.is("enabled-runtime", second)
	s.portable("reattach", "--now", "--enable", "--runtime", first) // bar is gone, and with it its links
	if s.c.Exists("/run/systemd/system/multi-user.target.wants/" + n + "-app-bar.service") {
		s.t.Error("a unit that is gone is enabled")
	}
	s.portable("detach", "--now", "--enable", first)
	if s.c.Exists("/run/systemd/system/multi-user.target.wants/" + n + "-app.service") {
		s.t.Error("a unit that was detached is enabled")
	}
	s.nothingLeft()
}

func pt20OverlayRoot(s *shop) {
	n := s.name
	unit := n + "-app.service"
	lower, upper, root := s.base("lower"), s.dir+"/upper", s.dir+"/overlay"
	s.c.WriteFile(upper+"/usr/lib/systemd/system/"+unit, s.service(""), 0o644)
	s.c.Mkdir(root)
	s.c.Must("mount", "-t", "overlay", "-o", "lowerdir="+upper+":"+lower, "overlay", root)
	s.t.Cleanup(func() { s.c.Must("umount", root) })
	for _, force := range []string{"", "--force"} {
		args := []string{"attach", "--copy=symlink", "--now", "--runtime", root, n}
		if force != "" {
			for _, f := range []string{unit, unit + ".d/10-profile.conf", unit + ".d/20-portable.conf"} {
				s.c.WriteFile("/run/systemd/system.attached/"+f, "[Unit]\nDescription=in the way\n", 0o644)
			}
			s.c.Systemctl("daemon-reload")
			args = append([]string{"attach", force}, args[1:]...)
		}
		s.portable(args...)
		s.runs(unit)
		s.portable("detach", "--now", "overlay")
		s.nothingLeft()
	}
}

func pt20Directories(s *shop) {
	n := s.name
	base := s.skeleton(n + "_0")
	units := []string{n + "-app0.service", n + "-app1.service"}
	ext0, ext1 := s.sysext("app0", units[0]), s.dir+"/app1"
	s.shipFor(rootedRelease, "app1", files{"/usr/lib/systemd/system/" + units[1]: s.service("StateDirectory=" + n + "\nRuntimeDirectory=" + n + "\nCacheDirectory=" + n)})
	images := []string{"--extension", ext0, "--extension", ext1, base}
	s.portable(append(append([]string{"attach", "--copy=symlink", "--now", "--runtime"}, images...), n+"-app0", n+"-app1")...)
	s.runs(units...)
	for _, program := range [][]string{{"extexec", "portable"}, {"portablectl"}} {
		out := s.c.Must(append(append(program, "inspect", "--cat"), "--extension", "app0", "--extension", "app1", n+"_0", n+"-app0", n+"-app1")...)
		for _, words := range []string{"ID=rooted", units[0], units[1], "StateDirectory=" + n} {
			if !strings.Contains(out, words) {
				s.t.Errorf("%s inspects, without %q,\n%s", program[0], words, out)
			}
		}
	}
	for at, unit := range units {
		s.has(unit, fmt.Sprintf("LogExtraFields=PORTABLE=app%d", at), "LogExtraFields=PORTABLE_ROOT="+n+"_0",
			"LogExtraFields=PORTABLE_EXTENSION=app0", "LogExtraFields=PORTABLE_EXTENSION=app1")
	}
	left := []string{"/var/lib/private/" + n, "/var/cache/private/" + n, "/run/private/" + n}
	if !s.c.Exists(left[0]) {
		s.t.Errorf("%s is not there", left[0])
	}
	s.refused(1, "runs", append([]string{"detach", "--clean"}, images...)...)
	s.portable(append([]string{"detach", "--clean", "--now"}, images...)...)
	for _, p := range append(left, "/var/lib/"+n, "/var/cache/"+n, "/run/"+n) {
		if s.c.Exists(p) {
			s.t.Errorf("%s is left", p)
		}
	}
	s.nothingLeft()
}

func pt20Mixed(s *shop) {
	n := s.name
	base, units := s.skeleton(n+"_0"), []string{n + "-app0.service", n + "-app1.service"}
	images := []string{"--extension", s.sysext("app0", units[0]), "--extension", s.sysext("app1", units[1]), base}
	s.portable(append(append([]string{"attach", "--copy=mixed", "--now", "--runtime"}, images...), n)...)
	for _, name := range []string{"app0", "app1", n + "_0"} {
		s.c.Must("test", "-d", "/run/portables/"+name, "-a", "!", "-L", "/run/portables/"+name)
	}
	s.runs(units...)
	for _, u := range units {
		s.c.Must("test", "-f", "/run/systemd/system.attached/"+u, "-a", "-L", "/run/systemd/system.attached/"+u+".d/10-profile.conf")
	}
	s.portable(append([]string{"detach", "--now"}, images...)...)
	s.nothingLeft()
	s.c.Must("test", "-d", base)
}

func pt20Force(s *shop) {
	n := s.name
	base, unit := s.skeleton(n+"_0"), n+"-app0.service"
	ext := s.sysext("app0", unit)
	s.portable("attach", "--force", "--copy=symlink", "--now", "--runtime", "--extension", ext, base)
	s.runs(unit)
	s.is("running-runtime", "--extension", "app0", n)
	s.has(unit, "ExtensionDirectories="+ext)
	s.portable("detach", "--now", "--extension", ext, base)
	s.nothingLeft()
}

// pt20Leftovers: units whose files somebody removed are still known by their drop-ins.
func pt20Leftovers(s *shop) {
	n := s.name
	base, units := s.base(n+"_0", n+"-app.service", n+"-app-foo.service"), []string{n + "-app.service", n + "-app-foo.service"}
	s.portable("attach", "--copy=symlink", "--now", "--runtime", base)
	s.portable("detach", "--now", "--enable", base)
	s.portable("attach", "--copy=symlink", "--now", "--runtime", base)
	for _, u := range units {
		s.c.Remove("/run/systemd/system.attached/" + u)
	}
	is := s.is
	if s.c.SystemdVersion() < 260 { // its portablectl does not know units that have no file
		is = func(state string, images ...string) { s.isBy("extexec portable", state, images...) }
	}
	is("running-runtime", base)
	s.refused(1, "left over", "attach", "--runtime", base)
	s.c.Systemctl(append([]string{"stop"}, units...)...)
	is("attached-runtime", base)
	s.portable("detach", "--now", "--enable", base)
	s.nothingLeft()
}

// pt20Release: a release file with another name is passed over for one that says it may have another name.
func pt20Release(s *shop) {
	n := s.name
	base, ext := s.skeleton(n+"_0"), s.dir+"/wrongext"
	s.c.WriteFile(ext+"/usr/lib/systemd/system/"+n+"-app.service", s.service(""), 0o644)
	s.c.WriteFile(ext+"/usr/lib/extension-release.d/extension-release.wrongext_somethingwrong.txt", "", 0o644)
	right := ext + "/usr/lib/extension-release.d/extension-release.app0"
	s.c.WriteFile(right, rootedRelease, 0o644)
	s.refused(1, "release", "attach", "--runtime", "--extension", ext, base)
	setStrict(s, right)
	s.portable("attach", "--now", "--runtime", "--extension", ext, base)
	s.runs(n + "-app.service")
	s.is("running-runtime", "--extension", "wrongext", n)
	s.portable("detach", "--now", "--extension", ext, base)
	s.nothingLeft()
}

// pt30: an os-release without an ID, as a file that is empty, is refused by name.
func pt30(s *shop) {
	n := s.name
	base := s.base(n+"_0", n+"-app.service")
	for _, text := range []string{"", "ID=\n", "VERSION_ID=7\n"} {
		s.c.WriteFile(base+"/usr/lib/os-release", text, 0o644)
		s.refused(1, "has no ID=", "attach", "--runtime", base)
		s.refused(1, "has no ID=", "inspect", base)
	}
	s.c.WriteFile(base+"/usr/lib/os-release", rootedRelease, 0o644)
	s.portable("attach", "--runtime", base)
	s.portable("detach", base)
	s.nothingLeft()
}

// pt40: an image for services of users is not attached for the system, and nothing else is either.
func pt40(s *shop) {
	n := s.name
	base := s.base(n+"_0", n+"-app.service")
	s.c.WriteFile(base+"/usr/lib/os-release", rootedRelease+"PORTABLE_SCOPE=user\n", 0o644)
	s.refused(1, "PORTABLE_SCOPE", "attach", "--runtime", base)
	s.c.WriteFile(base+"/usr/lib/os-release", rootedRelease+"PORTABLE_SCOPE=any\n", 0o644)
	s.portable("attach", "--now", "--runtime", base)
	s.portable("detach", "--now", base)
	s.nothingLeft()
}

// manPortable runs the examples of extexec-portable(1) word for word.
func manPortable(s *shop) {
	if s.c.SystemdVersion() < 256 {
		return // it has no versioned directories
	}
	blocks := manExample(s.t, "extexec-portable.1", "EXAMPLES")
	if len(blocks) != 4 {
		s.t.Fatalf("extexec-portable(1) has %d blocks of commands, want 4: %q", len(blocks), blocks)
	}
	const unit = "web.service"
	for _, v := range []string{"1", "2"} {
		dir := s.skeleton("web_" + v)
		s.c.WriteFile(dir+"/usr/lib/systemd/system/"+unit, s.service("StateDirectory="+s.name), 0o644)
		s.c.Must("mkdir", "-p", "/srv/images", "/srv/conf/web.v")
		s.c.Must("mv", s.raw(dir), "/srv/images")
		s.shipFor(rootedRelease, "web", files{"/etc/web": v})
		s.c.Must("mv", s.dir+"/web", map[string]string{"1": "/srv/conf/web.v/web_1", "2": "/srv/conf/part"}[v])
	}
	s.t.Cleanup(func() { s.c.Must("rm", "-r", "/srv/images", "/srv/conf") })
	s.c.UseUnit(unit)
	s.given = append(s.given, []string{"--extension", "web", "web"})
	s.c.Script(blocks[0])
	s.runs(unit)
	s.shows(unit, "/etc/web", "1")
	pid := s.c.MainPID(unit)
	s.c.Script(blocks[1])
	s.shows(unit, "/etc/web", "2")
	if s.c.MainPID(unit) != pid {
		s.t.Error("it was restarted")
	}
	s.c.Script(blocks[2])
	s.shows(unit, "/etc/web", "2")
	if text := s.c.ReadFile("/etc/systemd/system.attached/" + unit + ".d/20-portable.conf"); !strings.Contains(text, "RootImage=/srv/images/web_2.raw\n") {
		s.t.Errorf("attached is\n%s", text)
	}
	s.c.Script(blocks[3])
	s.rests(unit)
	if s.c.Exists("/var/lib/private/"+s.name) || s.c.Exists("/etc/systemd/system.attached") {
		s.t.Error("something is left")
	}
}

// sockets: a service that its socket starts, and the socket, are attached and reattached together.
func sockets(s *shop) {
	base := s.base(s.name+"_1", s.name+".service")
	socket, unit := s.name+".socket", s.name+".service"
	s.c.WriteFile(base+"/usr/lib/systemd/system/"+socket, "[Socket]\nListenStream=/run/"+s.name+".sock\nRemoveOnStop=yes\n", 0o644)
	for range 3 { // jobs that race do not fail every time
		s.portable("attach", "--now", base)
		s.runs(unit)
		s.runs(socket)
		s.portable("reattach", "--now", base)
		s.c.Systemctl("stop", unit)
		s.portable("reattach", "--now", base)
		s.runs(unit)
		s.runs(socket)
		s.portable("detach", "--now", base)
		s.nothingLeft()
	}
}

// order: units that come after one another are started so, and stopped the other way round.
func order(s *shop) {
	const units = 5
	base := s.base(s.name + "_1")
	unit := func(n int) string { return fmt.Sprintf("%s-%d.service", s.name, n) }
	var start, stop []string
	match := []string{"journalctl", "--no-pager", "--output=cat", "_PID=1"}
	for n := range units {
		s.c.WriteFile(base+"/usr/lib/systemd/system/"+unit(n), "[Unit]\nAfter="+unit(n+1)+"\n"+s.service(""), 0o644)
		last := units - 1 - n
		start = append(start, "Starting "+unit(last), "Started "+unit(last))
		stop = append(stop, "Stopping "+unit(n), "Stopped "+unit(n))
		match = append(match, "UNIT="+unit(n))
	}
	seen := 0
	is := func(verb string, want []string) {
		s.t.Helper()
		s.c.Must("journalctl", "--sync")
		var got []string
		for _, m := range regexp.MustCompile(`(?m)^(\w+ing|Started|Stopped) ([-a-z0-9]+\.service)`).FindAllStringSubmatch(s.c.Must(match...), -1) {
			got = append(got, m[1]+" "+m[2])
		}
		all := len(got)
		got = slices.DeleteFunc(got[seen:], func(e string) bool { return !slices.Contains(want, e) })
		if seen = all; !slices.Equal(got, want) {
			s.t.Errorf("%s: systemd did %q, want %q", verb, got, want)
		}
	}
	s.portable("attach", "--now", "--runtime", base)
	is("attach", start)
	s.portable("reattach", "--now", base)
	is("reattach", start)
	s.portable("detach", "--now", base)
	is("detach", stop)
	s.nothingLeft()
}
