package bench

import (
	"fmt"
	"os/exec"
	"time"
)

// check compares what a ReloadCheck= adds to a reload with the command alone.
func check(k *kit) []row {
	dir, state := k.c.TempDir(), k.stateDir()
	dirs := k.three(dir, 100)
	k.byHand("plain", state, dirs)
	k.c.WriteFile(dir+"/checked.service", "[X-Extexec]\nReloadCheck=/bin/true\n", 0o644)
	k.byHand("checked", state, dirs, "--unit", dir+"/checked.service")
	reload := func(name string) func() float64 {
		return func() float64 { return k.run("/usr/bin/extexec", "reload", "--force", "--state-dir", state, name) }
	}
	s := k.inTurn(reload("checked"), reload("plain"), func() float64 { return k.run("/bin/true") })
	return []row{ratio{a: s[0], aGround: s[1], b: s[2]}.row("ReloadCheck=/bin/true: what it adds to a reload / /bin/true run by Go's os/exec", 3,
		fmt.Sprintf("reload %s less %.2f, true %s", ms(s[0]), median(s[1]), ms(s[2])))}
}

// ifChanged compares a reload that finds nothing to do with the start of a process.
func ifChanged(k *kit) []row {
	dir, state := k.c.TempDir(), k.stateDir()
	k.extension(dir+"/conf", "/etc", 1000)
	hello := k.build("./integration/bench/hello", dir+"/hello")
	k.byHand("same", state, []string{dir + "/conf"})
	s := k.inTurn(func() float64 {
		return k.run("/usr/bin/extexec", "reload", "--if-changed", "--state-dir", state, "same")
	},
		func() float64 { return k.run(hello) })
	return []row{ratio{a: s[0], b: s[1]}.row("reload --if-changed, nothing changed, 1,000 files / a Go program that prints hello", 2,
		fmt.Sprintf("reload %s, hello %s", ms(s[0]), ms(s[1])))}
}

// many compares 200 reloads at once with 200 in a row, and shows the same of a bare
// process.
func many(k *kit) []row {
	const units = 200
	dir := k.c.TempDir()
	dirs := k.three(dir, 10)
	hello := k.build("./integration/bench/hello", dir+"/hello")
	const template = "bench-many@.service"
	k.unit(template, "[Service]\nType=notify\nExecStart=!/usr/bin/extexec run -- "+service+"\n[X-Extexec]\n"+lines("ExtensionDirectories", dirs))
	var names []string
	for i := range units {
		name := fmt.Sprintf("bench-many@%d.service", i)
		names = append(names, name)
		k.c.Cleanup(func() {
			k.c.Remove("/run/extexec/units/" + name)
			k.c.Remove("/var/lib/extexec/units/" + name)
		})
	}
	k.c.Systemctl(append([]string{"start"}, names...)...)
	k.c.Cleanup(func() { k.c.Systemctl(append([]string{"stop"}, names...)...) })
	reload := func(i int) *exec.Cmd { return exec.Command("/usr/bin/extexec", "reload", "--force", names[i]) }
	bare := func(int) *exec.Cmd { return exec.Command(hello) }
	s := k.inTurnFor(max(*runs/3, 3), func() float64 { return k.atOnce(units, reload) }, func() float64 { return k.inARow(units, reload) },
		func() float64 { return k.atOnce(units, bare) }, func() float64 { return k.inARow(units, bare) })
	return []row{ratio{a: s[0], b: s[1]}.row("200 units reloaded at once / one after the other", 0.75,
		fmt.Sprintf("at once %s, in a row %s; hello %.2f", ms(s[0]), ms(s[1]), ratio{a: s[2], b: s[3]}.value()))}
}

// atOnce starts n commands and waits for all of them.
func (k *kit) atOnce(n int, command func(i int) *exec.Cmd) float64 {
	k.t.Helper()
	var took time.Duration
	k.inside(func() error {
		began := time.Now()
		var all []*exec.Cmd
		for i := range n {
			cmd := command(i)
			if err := cmd.Start(); err != nil {
				return err
			}
			all = append(all, cmd)
		}
		for _, cmd := range all {
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("%q: %w", cmd.Args, err)
			}
		}
		took = time.Since(began)
		return nil
	})
	return float64(took.Nanoseconds()) / 1e6
}

// inARow runs n commands one after the other.
func (k *kit) inARow(n int, command func(i int) *exec.Cmd) float64 {
	k.t.Helper()
	var took time.Duration
	k.inside(func() error {
		began := time.Now()
		for i := range n {
			if err := command(i).Run(); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return nil
	})
	return float64(took.Nanoseconds()) / 1e6
}
