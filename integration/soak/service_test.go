package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/extexec/extexec/integration/testclient"
)

// A service is a testservice with extensions, started by hand, and what is known of it.
type service struct {
	p       *place
	name    string
	shelves []*shelf
	process *exec.Cmd
	output  strings.Builder

	*model
	number      uint64 // of the current generation
	interrupted bool
	// shown are the versions of each shelf that may be live: one, unless extexec was killed since.
	shown  []map[int]bool
	mounts int // in its namespace, after its start
	fds    int
}

// start starts a service that looks up its files in a loop, on what is on its shelves.
func start(p *place, name string, shelves ...*shelf) *service {
	p.t.Helper()
	s := &service{p: p, name: name, shelves: shelves, model: newModel(shelves)}
	s.writeUnit("ReloadSignal=SIGHUP")
	s.launch()
	return s
}

// launch executes the service on what its shelves and its model have, and waits until it is there.
func (s *service) launch() {
	s.p.t.Helper()
	argv := []string{s.p.testservice, "-control", s.control(), "-pause", "2ms", "-read", "/etc/passwd", "-read", "/usr/bin/env"}
	for _, file := range s.files() {
		argv = append(argv, "-read", file)
	}
	s.exec(argv...)
	s.await(func() error {
		r, err := testclient.Ask(s.control(), "report")
		if err == nil && (len(r.Files) != 2+len(s.files()) || r.PID != s.pid()) {
			err = fmt.Errorf("an odd report: %+v", r)
		}
		return err
	})
	s.begin()
}

// startSleeping starts one that does nothing, of which there can be many, and waits for nothing.
func startSleeping(p *place, name string, shelves ...*shelf) *service {
	p.t.Helper()
	s := &service{p: p, name: name, shelves: shelves, model: newModel(shelves)}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		p.t.Fatal(err)
	}
	s.writeUnit("")
	s.exec(sleep, "infinity")
	return s
}

// awaitSleeping waits for what startSleeping has started.
func (s *service) awaitSleeping() {
	s.p.t.Helper()
	s.await(func() error {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.pid()))
		if err == nil && string(comm) != "sleep\n" {
			err = fmt.Errorf("it executes %q", comm)
		}
		return err
	})
	s.begin()
}

// exec starts a command in its extensions.
func (s *service) exec(argv ...string) {
	s.p.t.Helper()
	argv = append([]string{"run", "--unit", s.unit(), "--name", s.name, "--state-dir", s.p.state(), "--"}, argv...)
	s.process = exec.Command(s.p.extexec, argv...)
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		s.p.t.Fatal(err)
	}
	s.p.t.Cleanup(s.stop)
}

// await waits until extexec has become the service.
func (s *service) await(ready func() error) {
	s.p.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.p.t.Fatalf("%s has not started: %v", s.name, err)
		}
	}
}

// begin notes how things are after the start.
func (s *service) begin() {
	s.p.t.Helper()
	now, err := s.recorded()
	if err != nil {
		s.p.t.Fatal(err)
	}
	if !now.same(s.model) || now.interrupted {
		s.p.t.Fatalf("%s: recorded is %s (interrupted: %v), want %s", s.name, now.model, now.interrupted, s.model)
	}
	s.accept(now)
	s.settled()
	s.mounts, s.fds = s.countMounts(), s.countFDs()
}

func (s *service) control() string { return filepath.Join(s.p.dir, s.name+".socket") }

func (s *service) files() (files []string) {
	for _, shelf := range s.shelves {
		files = append(files, shelf.files()...)
	}
	return files
}

func (s *service) unit() string { return filepath.Join(s.p.dir, s.name+".service") }

// writeUnit writes a unit with the extensions, checks and more lines.
func (s *service) writeUnit(more string) {
	s.p.t.Helper()
	unit := fmt.Sprintf("[X-Extexec]\nKeepGenerations=%d\n%s\n", keep, more)
	for _, shelf := range s.shelves {
		key := "ExtensionDirectories"
		if shelf.image {
			key = "ExtensionImages"
		}
		unit += key + "=" + shelf.ref() + "\n"
	}
	for setting, word := range map[string]flaw{"ReloadCheck": failsCheck, "ReloadVerify": failsVerify} {
		unit += fmt.Sprintf("%s=/bin/sh -c 'for f in %s; do read -r v flaw <$$f || exit 9; test $$flaw != %s || exit 1; done'\n",
			setting, strings.Join(s.files(), " "), word)
	}
	if err := os.WriteFile(s.unit(), []byte(unit), 0o644); err != nil {
		s.p.t.Fatal(err)
	}
}

func (s *service) pid() int { return s.process.Process.Pid }

func (s *service) stop() {
	if s.process.ProcessState != nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	err := s.process.Wait()
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		err = nil
	}
	var said []string
	for line := range strings.Lines(s.output.String()) {
		if !strings.Contains(line, "is passed over: it ") {
			said = append(said, line)
		}
	}
	if err != nil || len(said) > 0 {
		s.p.t.Errorf("%s ended: %v\n%s", s.name, err, strings.Join(said, ""))
	}
}

// command is extexec with a verb for this service.
func (s *service) command(verb string, args ...string) *exec.Cmd {
	return exec.Command(s.p.extexec, append(append([]string{verb, "--state-dir", s.p.state()}, args...), s.name)...)
}

// run runs extexec and returns how it ended, and what it printed.
func (s *service) run(verb string, args ...string) (code int, out string) {
	cmd := s.command(verb, args...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.p.t.Errorf("extexec %s %s: %v", verb, s.name, err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// ask runs a verb that prints JSON.
func (s *service) ask(verb string, answer any) error {
	cmd := s.command(verb, "--json")
	b, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(b, answer)
	}
	if err != nil {
		return fmt.Errorf("extexec %s --json %s: %w\n%s", verb, s.name, err, b)
	}
	return nil
}

// recorded is what extexec itself knows of a service.
type recorded struct {
	*model
	number      uint64
	interrupted bool
}

type generation struct {
	Number     uint64
	Outcome    string
	Extensions []struct{ Path string }
}

// recorded asks status and history.
func (s *service) recorded() (*recorded, error) {
	var status struct {
		Generation  generation
		Interrupted bool
		Hierarchies []struct{ State string }
		Refused     []struct{ Path string }
		Holds       []struct{ Ref, Version, Above string }
	}
	var history struct{ Generations []generation }
	if err := s.ask("status", &status); err != nil {
		return nil, err
	}
	if err := s.ask("history", &history); err != nil {
		return nil, err
	}
	r := &recorded{model: newModel(s.shelves), number: status.Generation.Number, interrupted: status.Interrupted}
	for _, h := range status.Hierarchies {
		r.interrupted = r.interrupted || h.State == "half exchanged" || h.State == "other generation"
	}
	r.committed = nil
	for _, g := range history.Generations {
		if g.Outcome == "committed" && g.Number < status.Generation.Number {
			r.committed = append(r.committed, s.setOf(g))
		}
	}
	r.committed = append(r.committed, s.setOf(status.Generation))
	for _, x := range status.Refused {
		for i, shelf := range s.shelves {
			if v := shelf.version(x.Path); v > 0 {
				r.refused[item{i, v}] = true
			}
		}
	}
	for _, h := range status.Holds {
		for i, shelf := range s.shelves {
			if h.Ref == shelf.ref() {
				r.holds[i] = hold{above: number(h.Above), upTo: number(h.Version)}
			}
		}
	}
	return r, nil
}

// accept goes on from what is recorded.
func (s *service) accept(r *recorded) {
	s.model, s.number, s.interrupted = r.model, r.number, r.interrupted
}

func number(version string) (n int) {
	_, _ = fmt.Sscan(version, &n) // "" is 0
	return n
}

// setOf is what a generation has; 0 of a shelf that it has nothing of.
func (s *service) setOf(g generation) set {
	all := make(set, len(s.shelves))
	for i, shelf := range s.shelves {
		for _, e := range g.Extensions {
			all[i] = max(all[i], shelf.version(e.Path))
		}
	}
	return all
}

// settled says that only the current generation may be live.
func (s *service) settled() {
	s.shown = nil
	for _, v := range s.current() {
		s.shown = append(s.shown, map[int]bool{v: true})
	}
}

// maybe says that a set, or a part of it, may be live.
func (s *service) maybe(other set) {
	for i, v := range other {
		s.shown[i][v] = true
	}
}

// view compares what the service sees with what may be live.
func (s *service) view() error {
	for i, shelf := range s.shelves {
		for _, file := range shelf.files() {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", s.pid(), file))
			if err != nil {
				return err
			}
			ok := false
			for v := range s.shown[i] {
				ok = ok || string(b) == shelf.text(v)
			}
			if !ok {
				return fmt.Errorf("%s shows %q, want one of %v", file, b, s.shown[i])
			}
		}
	}
	return nil
}

func (s *service) countMounts() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.pid()))
	if err != nil {
		s.p.t.Error(err)
	}
	return strings.Count(string(b), "\n")
}

func (s *service) countFDs() int {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid()))
	if err != nil {
		s.p.t.Error(err)
	}
	return len(fds)
}
