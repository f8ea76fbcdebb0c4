package soak

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestManyReloadsOfOne reloads one service fifty times at once, while versions are installed: by name, by $MAINPID,
// and by those who do not wait. In the end the last version is live.
func TestManyReloadsOfOne(t *testing.T) {
	const reloads, versions = 50, 20
	p := newPlace(t)
	conf := newShelf(t, filepath.Join(p.dir, "conf"), "conf", false, true)
	app := newShelf(t, filepath.Join(p.dir, "app"), "app", true, false)
	conf.install(sound)
	app.install(sound)
	s := start(p, "one", app, conf)

	codes := make([]int, reloads)
	ended := make(chan struct{}, reloads)
	var wg sync.WaitGroup
	for i := range reloads {
		cmd := s.command("reload", "--lock-wait", "10m")
		switch i % 10 {
		case 3:
			cmd = s.command("reload", "--lock-wait", "0s")
		case 7:
			cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return a == s.name })
			cmd.Env = append(cmd.Environ(), fmt.Sprintf("MAINPID=%d", s.pid()))
		}
		wg.Go(func() {
			out, _ := cmd.CombinedOutput()
			codes[i] = cmd.ProcessState.ExitCode()
			if codes[i] != done && codes[i] != locked || codes[i] == locked && i%10 != 3 {
				t.Errorf("%q: exit code %d\n%s", cmd.Args, codes[i], out)
			}
			ended <- struct{}{}
		})
	}
	// The last version is there before the last reloads get the lock.
	for range versions {
		conf.install(sound)
		app.install(sound)
		<-ended
	}
	wg.Wait()
	now, err := s.recorded()
	if err != nil {
		t.Fatal(err)
	}
	want := set{versions + 1, versions + 1}
	if !slices.Equal(now.current(), want) || now.interrupted {
		t.Errorf("recorded is %s, want %v", now.model, want)
	}
	s.accept(now)
	s.settled()
	if err := s.view(); err != nil {
		t.Error(err)
	}
	tally := &tally{}
	tally.look(t, s)
	tally.leak(t, lost([]*service{s}), p.orphans(s), p.stray())
	s.stop()
	tally.leak(t, p.awaitLoops(0), p.orphans())
}

// TestManyServices reloads two hundred services at once. All of them share their extensions, and each has a loop
// device of its own for the image.
func TestManyServices(t *testing.T) {
	const n = 200
	p := newPlace(t)
	conf := newShelf(t, filepath.Join(p.dir, "conf"), "conf", false, true)
	app := newShelf(t, filepath.Join(p.dir, "app"), "app", true, false)
	conf.install(sound)
	app.install(sound)
	var services []*service
	for i := range n {
		services = append(services, startSleeping(p, fmt.Sprintf("many-%d", i), app, conf))
	}
	for _, s := range services {
		s.awaitSleeping()
	}
	conf.install(sound)
	app.install(sound)
	var wg sync.WaitGroup
	for _, s := range services {
		wg.Go(func() {
			if code, out := s.run("reload"); code != done || strings.Contains(out, "warn") {
				t.Errorf("%s: exit code %d\n%s", s.name, code, out)
			}
		})
	}
	wg.Wait()
	for _, s := range services {
		now, err := s.recorded()
		if err != nil {
			t.Fatal(err)
		}
		s.accept(now)
		s.settled()
		if want := (set{2, 2}); !slices.Equal(s.current(), want) || s.interrupted {
			t.Errorf("%s: recorded is %s, want %v", s.name, s.model, want)
		}
		if err := s.view(); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	tally := &tally{}
	tally.leak(t, lost(services), p.orphans(services...), p.stray())
	if loops := p.awaitLoops(n); len(loops) != n {
		t.Errorf("%d loop devices, want %d: %q", len(loops), n, loops)
	}
	for _, s := range services {
		s.stop()
	}
	tally.leak(t, p.awaitLoops(0), p.orphans())
}
