package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

const service = "/usr/bin/testservice -notify"

// versions is a ".v" directory of two versions, of which the second comes and goes.
type versions struct {
	k     *kit
	dir   string
	newer bool
}

func (k *kit) versions(dir string) *versions {
	v := &versions{k: k, dir: dir}
	k.extension(dir+"/conf_1", "/etc", 1)
	k.extension(dir+"/.conf_2", "/etc", 1)
	return v
}

// flip makes the other version the newest.
func (v *versions) flip() {
	from, to := v.dir+"/.conf_2", v.dir+"/conf_2"
	if v.newer {
		from, to = to, from
	}
	v.k.c.Rename(from, to)
	v.newer = !v.newer
}

// shown checks that the unit's process sees the newest version.
func (v *versions) shown(unit string) {
	v.k.t.Helper()
	want := "conf_1\n"
	if v.newer {
		want = "conf_2\n"
	}
	pid := v.k.c.MainPID(unit).Inside
	if got := v.k.c.ReadFile(fmt.Sprintf("/proc/%d/root/etc/bench.conf/file-0", pid)); got != want {
		v.k.t.Errorf("%s reads %q after its reload, want %q", unit, got, want)
	}
}

// systemctlReload compares a reload that brings a new version of one confext.
func systemctlReload(k *kit) []row {
	dir := k.c.TempDir()
	theirs, ours := k.versions(dir+"/theirs/conf.v"), k.versions(dir+"/ours/conf.v")
	wrapped := "[Service]\nType=notify\nExecStart=!/usr/bin/extexec run -- " + service + "\nExecReload=%s\n[X-Extexec]\nExtensionDirectories=" + ours.dir + "\n"
	units := map[string]string{
		"bench-bare.service":    "[Service]\nType=notify\nExecStart=" + service + "\nExecReload=/bin/true\n",
		"bench-systemd.service": "[Service]\nType=notify\nExecStart=" + service + "\nExecReload=/bin/true\nExtensionDirectories=" + theirs.dir + "\n",
		"bench-wrapped.service": fmt.Sprintf(wrapped, "/bin/true"),
		"bench-extexec.service": fmt.Sprintf(wrapped, "+/usr/bin/extexec reload"),
	}
	for name, text := range units {
		k.unit(name, text)
		k.c.Systemctl("start", name)
	}
	reload := func(unit string, v *versions) func() float64 {
		return func() float64 {
			if v != nil {
				v.flip()
			}
			rest()
			took := k.run("/usr/bin/systemctl", "reload", unit)
			if v != nil {
				v.shown(unit)
			}
			return took
		}
	}
	s := k.inTurn(reload("bench-bare.service", nil), reload("bench-systemd.service", theirs),
		reload("bench-wrapped.service", nil), reload("bench-extexec.service", ours))
	r := ratio{a: s[3], aGround: s[2], b: s[1], bGround: s[0]}
	return []row{r.row("systemctl reload that brings a new version, net: extexec / systemd", 0.33,
		fmt.Sprintf("extexec %s less %.2f, systemd %s less %.2f", ms(s[3]), median(s[2]), ms(s[1]), median(s[0])))}
}

// systemctlStart compares starts with three directories, up to READY=1.
func systemctlStart(k *kit) []row {
	dir := k.c.TempDir()
	dirs := k.three(dir, 100)
	start := func(name, text string) func() float64 {
		k.unit(name, text)
		return func() float64 {
			rest()
			took := k.run("/usr/bin/systemctl", "start", name)
			k.c.Systemctl("stop", name)
			return took
		}
	}
	s := k.inTurn(
		start("bench-bare.service", "[Service]\nType=notify\nExecStart="+service+"\n"),
		start("bench-systemd.service", "[Service]\nType=notify\nExecStart="+service+"\n"+lines("ExtensionDirectories", dirs)),
		start("bench-extexec.service", "[Service]\nType=notify\nExecStart=!/usr/bin/extexec run -- "+service+"\n[X-Extexec]\n"+lines("ExtensionDirectories", dirs)),
	)
	r := ratio{a: s[2], aGround: s[0], b: s[1], bGround: s[0]}
	return []row{r.row("systemctl start to READY=1, 3 directories, net: extexec / systemd", 1,
		fmt.Sprintf("extexec %s, systemd %s, bare %s", ms(s[2]), ms(s[1]), ms(s[0])))}
}

// reload compares a reload by hand with the start of a process, and one that
// carries mounts with one that does not.
func reload(k *kit) []row {
	dir, state := k.c.TempDir(), k.stateDir()
	dirs := k.three(dir, 100)
	hello := k.build("./integration/bench/hello", dir+"/hello")
	k.byHand("plain", state, dirs)
	carried := k.byHand("carried", state, dirs)
	for _, name := range []string{"hostname", "passwd", "group", "profile", "issue"} {
		k.c.WriteFile(dir+"/"+name, "bound\n", 0o644)
		k.c.Must("nsenter", "-m", "-t", strconv.Itoa(carried), "mount", "--bind", dir+"/"+name, "/etc/"+name)
	}
	reload := func(name string) func() float64 {
		return func() float64 { return k.run("/usr/bin/extexec", "reload", "--force", "--state-dir", state, name) }
	}
	s := k.inTurn(func() float64 { return k.run(hello) }, reload("plain"), reload("carried"))
	if got := k.c.ReadFile(fmt.Sprintf("/proc/%d/root/etc/issue", carried)); got != "bound\n" {
		k.t.Errorf("a bind was not carried: /etc/issue reads %q", got)
	}
	return []row{
		ratio{a: s[1], b: s[0]}.row("extexec reload, 3 directories of 100 files / a Go program that prints hello", 3,
			fmt.Sprintf("reload %s, hello %s", ms(s[1]), ms(s[0]))),
		ratio{a: s[2], b: s[1]}.row("the same with 5 carried mounts / without", 1.5, "carried "+ms(s[2])),
	}
}

// build compiles a program of this module as releases are built, into the
// container.
func (k *kit) build(pkg, path string) string {
	k.t.Helper()
	out := filepath.Join(k.t.TempDir(), "program")
	k.goTool("build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	return k.install(out, path)
}

func (k *kit) goTool(args ...string) {
	k.t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (k *kit) install(program, path string) string {
	k.t.Helper()
	b, err := os.ReadFile(program)
	k.check(err)
	k.c.WriteFile(path, string(b), 0o755)
	return path
}

// hierarchyTests runs what the test binary of nsmount/hierarchy has, in the
// container.
func (k *kit) hierarchyTests(args ...string) rig.Result {
	k.t.Helper()
	out := filepath.Join(k.t.TempDir(), "hierarchy.test")
	k.goTool("test", "-c", "-o", out, "./nsmount/hierarchy")
	program := k.install(out, k.c.TempDir()+"/hierarchy.test")
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	return k.c.Run(ctx, rig.Command{Argv: append([]string{program, "-test.timeout=30m"}, args...),
		Env: []string{"EXTEXEC_LONG=1", "EXTEXEC_REQUIRE_RIG=1", "TMPDIR=/tmp"}})
}

// exchange compares stage and exchange of one hierarchy with the system calls
// that they come to. The benchmark takes both in turn, and prints each pair.
func exchange(k *kit) []row {
	res := k.hierarchyTests("-test.run=^$", "-test.bench=^BenchmarkExchange$", "-test.benchtime="+strconv.Itoa(20**runs)+"x", "-pairs")
	if res.Code != 0 {
		k.t.Fatal(res)
	}
	var ours, bare []float64
	for _, m := range regexp.MustCompile(`(?m)^pair (\d+) (\d+)$`).FindAllStringSubmatch(res.Stdout, -1) {
		a, _ := strconv.ParseFloat(m[1], 64)
		b, _ := strconv.ParseFloat(m[2], 64)
		ours, bare = append(ours, a/1e6), append(bare, b/1e6)
	}
	if len(ours) < *runs {
		k.t.Fatalf("only %d pairs:\n%s", len(ours), res)
	}
	return []row{ratio{a: ours, b: bare}.row("the exchange itself / the bare system calls", 1.5,
		fmt.Sprintf("stage and exchange %s, bare %s, %d pairs", ms(ours), ms(bare), len(ours)))}
}
