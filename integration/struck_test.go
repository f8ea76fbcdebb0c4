//go:build amd64

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/integration/tracer"
)

// TestStruck kills verbs that speak with systemd as they make a system call, and makes these calls fail: one call after
// the other, or a sample of them. The service shows a version whole at any time, and the next call of the verb puts
// everything in order.
func TestStruck(t *testing.T) {
	c := rig.Boot(t, rig.Forky, rig.Options{}) // alone: its processes must not be children of the thread that traces
	c.WriteShipped("extexec-reload@.path", "extexec-trigger@.service", "extexec-reload@.service")
	for name, make := range map[string]func(t *testing.T, c *rig.Container) *struckVerb{
		"enable": struckEnable, "look": struckLook, "install": struckInstall,
	} {
		t.Run(name, func(t *testing.T) { make(t, c.For(t)).strikeAll() })
	}
}

// strikes is how many calls are struck each way: EXTEXEC_STRIKES=all is for a machine that has time.
func strikes(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("EXTEXEC_STRIKES"))
	switch {
	case os.Getenv("EXTEXEC_STRIKES") == "":
		return 8
	case os.Getenv("EXTEXEC_STRIKES") == "all":
		return 1 << 20
	case err != nil:
		t.Fatal(err)
	}
	return n
}

// A struckVerb is a verb, with the service that it is about.
type struckVerb struct {
	*watched
	begin   func() []string // brings about what the verb has to do, and gives its command line
	undo    func() []string // what is wrong after it has failed
	done    func() []string // what is wrong after it was called once more, and had nothing in its way
	version int             // that was shipped last
}

func newStruck(t *testing.T, c *rig.Container, name string) *struckVerb {
	v := &struckVerb{watched: &watched{adoptee: newAdoptee(t, c, "struck-"+name), file: "/etc/struck-" + name}, version: 1}
	v.ship("conf.v/conf_1", v.files())
	v.startRun("")
	return v
}

func (v *struckVerb) text() string { return fmt.Sprintf("%d\n", v.version) }

// files say their version twice.
func (v *struckVerb) files() files { return files{v.file: v.text(), v.file + ".too": v.text()} }

// live is what is wrong with what the service shows; it may be of the version before if old is set.
func (v *struckVerb) live(old bool) (wrong []string) {
	read := func(file string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", v.pid.Host, file))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	one, two := read(v.file), read(v.file+".too")
	if one != two && one == read(v.file) { // it was not exchanged between the two
		wrong = append(wrong, fmt.Sprintf("the service shows %q and %q", one, two))
	}
	if one != v.text() && !(old && one == fmt.Sprintf("%d\n", v.version-1)) {
		wrong = append(wrong, fmt.Sprintf("the service shows %q, and version %d is the newest", one, v.version))
	}
	return wrong
}

func (v *struckVerb) strikeAll() {
	v.t.Helper()
	clean := v.strike(tracer.Strike{})
	if clean == nil {
		v.t.FailNow()
	}
	count := map[string]int{}
	step := max(1, len(clean.Calls)/strikes(v.t))
	for i, at := 0, 1; at <= len(clean.Calls); i, at = i+1, at+step {
		with := []tracer.Strike{{Signal: syscall.SIGKILL}}
		switch f := clean.Calls[at-1].Failures(); {
		case step == 1:
			with = append(append(with, tracer.Strike{Signal: syscall.SIGTERM}), f...)
		case len(f) > 0:
			with = append(with, f[i%len(f)])
		}
		for _, s := range with {
			s.At = at
			if e := v.strike(s); e == nil {
				v.t.Errorf("call %d of %d, %v, %s", at, len(clean.Calls), clean.Calls[at-1], s)
			} else {
				count[fmt.Sprint(e.State.Signaled(), " ", e.State.ExitStatus())]++
			}
		}
	}
	v.t.Logf("%d calls; killed or not, and the exit codes: %v", len(clean.Calls), count)
}

// strike calls the verb with a strike, and once more without; nil where something is not as it should be.
func (v *struckVerb) strike(with tracer.Strike) *tracer.Ending {
	v.t.Helper()
	argv := v.begin()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, "/"
	e, err := tracer.TraceIn(v.c.Inside, cmd, with)
	if err != nil {
		v.t.Fatal(err)
	}
	wrong := append(v.live(true), e.Left...)
	switch {
	case e.State.Signaled() && e.State.Signal() != with.Signal:
		wrong = append(wrong, "it died of "+e.State.Signal().String())
	case e.State.ExitStatus() > 1:
		wrong = append(wrong, fmt.Sprintf("exit code %d", e.State.ExitStatus()))
	case e.State.ExitStatus() == 1:
		wrong = append(wrong, v.undo()...)
		if strings.Count("\n"+e.Output, "\nerror: ") != 1 {
			wrong = append(wrong, "it does not say one error")
		}
	}
	if r := v.c.Exec(v.t.Context(), argv...); r.Code != 0 && !strings.Contains(r.Stderr, "is there already") {
		wrong = append(wrong, fmt.Sprintf("once more: %v", r))
	}
	if wrong = append(wrong, v.done()...); len(wrong) > 0 {
		v.t.Errorf("%s:\n%s", strings.Join(wrong, "\n"), e.Output)
		return nil
	}
	return e
}

// has is what is wrong with the entries of a directory, which has nothing where there is nothing to be.
func (v *struckVerb) has(dir string, want ...string) []string {
	var got []string
	if err := v.c.Inside(func() error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}); err != nil {
		return []string{err.Error()}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return []string{fmt.Sprintf("%s has %q, want %q", dir, got, want)}
	}
	return nil
}

// struckEnable has a unit watched. What is enabled is taken back in between.
func struckEnable(t *testing.T, c *rig.Container) *struckVerb {
	v := newStruck(t, c, "enable")
	path := "extexec-reload@" + strings.TrimSuffix(v.unit, ".service") + ".path"
	dropIns, wants := "/etc/systemd/system/"+path+".d", "/etc/systemd/system/"+v.unit+".wants"
	v.begin = func() []string { return []string{"/usr/bin/extexec", "watch", "--enable", v.unit} }
	v.undo = func() []string { return append(v.has(dropIns), v.has(wants)...) }
	v.done = func() []string {
		wrong := append(v.has(dropIns, "50-extexec.conf"), v.has(wants, path)...)
		if state := c.Show(path, "SubState"); state != "waiting" {
			wrong = append(wrong, "the path unit is "+state)
		}
		c.Must("extexec", "watch", "--disable", v.unit)
		if state := c.Show(path, "ActiveState"); state != "inactive" {
			wrong = append(wrong, "after --disable the path unit is "+state)
		}
		return append(wrong, v.undo()...)
	}
	return v
}

// struckLook looks at a unit which has a new version.
func struckLook(t *testing.T, c *rig.Container) *struckVerb {
	v := newStruck(t, c, "look")
	v.begin = func() []string {
		v.version++
		v.ship(fmt.Sprintf("conf.v/conf_%d", v.version), v.files())
		c.Remove(fmt.Sprintf("%s/conf.v/conf_%d", v.dir, v.version-2))
		return []string{"/usr/bin/extexec", "watch", "--look", v.unit}
	}
	v.undo = func() []string { return nil }
	v.done = func() []string { return v.live(false) }
	return v
}

// struckInstall installs a version, and has the unit reloaded.
func struckInstall(t *testing.T, c *rig.Container) *struckVerb {
	v := newStruck(t, c, "install")
	there := func(version int) []string {
		return v.has(v.dir+"/conf.v", fmt.Sprintf("conf_%d", version-1), fmt.Sprintf("conf_%d", version))
	}
	made := func() string { return fmt.Sprintf("made/conf_%d", v.version) }
	v.begin = func() []string {
		for _, dir := range []string{"made", "conf.v"} {
			c.Remove(fmt.Sprintf("%s/%s/conf_%d", v.dir, dir, v.version-1))
		}
		v.version++
		v.ship(made(), v.files())
		return []string{"/usr/bin/extexec", "install", v.dir + "/" + made(), v.unit}
	}
	v.undo = func() []string { return v.has(v.dir+"/conf.v", fmt.Sprintf("conf_%d", v.version-1)) }
	v.done = func() []string {
		// One that was killed once the version was in place has not had the unit reloaded, and the next one goes no further.
		c.Systemctl("reload", v.unit)
		return append(v.live(false), there(v.version)...)
	}
	return v
}
