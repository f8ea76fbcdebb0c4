package vm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Tests are the compiled tests of one package of this module.
type Tests struct {
	Package  string                       // "./nsmount/hierarchy"
	Env      []string                     // for all of them
	Only     []string                     // tests, where it is not all of them
	LeftOut  map[string]string            // tests that are not run, and why
	Skipped  map[Kernel]map[string]string // tests, or subtests, that skip themselves there, and why
	Commands map[string]string            // of this module, by their name in /payload
}

// marker begins a line of the testing package where tests run with
// -test.v=test2json.
const marker = "\x16"

// A Suite is the tests of some packages, compiled.
type Suite struct {
	guest    string
	packages []Tests
	binaries []string          // by package
	commands map[string]string // path, by name
}

// Compile compiles the tests of the packages, and what a machine needs to run them,
// into dir.
func Compile(dir string, packages []Tests) (*Suite, error) {
	s := &Suite{guest: filepath.Join(dir, "guest"), packages: packages, commands: map[string]string{}}
	if err := Build(s.guest, "./integration/vm/guest"); err != nil {
		return nil, err
	}
	for _, p := range packages {
		out := filepath.Join(dir, strings.ReplaceAll(p.name(), "/", "-")+".test")
		if err := BuildTest(out, p.Package); err != nil {
			return nil, err
		}
		s.binaries = append(s.binaries, out)
		for name, pkg := range p.Commands {
			s.commands[name] = filepath.Join(dir, name)
			if err := Build(s.commands[name], pkg); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Run runs the tests in a machine as c says, and has each of them as a subtest here. A
// test that skips itself without being listed fails, and so does one that is listed
// without reason. The machine is killed after the limit.
func (s *Suite) Run(t *testing.T, c Config, limit time.Duration) {
	t.Helper()
	c.Guest, c.Files, c.Params = s.guest, maps.Clone(s.commands), append(c.Params, "dm_verity.keyring_unsealed=1") // Linux 7.0
	results := map[string]*results{}
	for i, p := range s.packages {
		name := filepath.Base(s.binaries[i])
		c.Files[name] = s.binaries[i]
		c.Tasks = append(c.Tasks, Task{
			Name: p.name(), Argv: p.argv(name, limit), Dir: "/var/tmp",
			Env: append([]string{"EXTEXEC_REQUIRE_RIG=1"}, p.Env...),
		})
		results[p.name()] = newResults(p, c.Kernel)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began, kernel := time.Now(), ""
	used, err := Run(ctx, c, func(e Event) {
		kernel = cmp.Or(e.Kernel, kernel)
		if r := results[e.Task]; r != nil {
			r.add(e)
		}
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("kernel %s: %s, of which %s of processors", kernel, time.Since(began).Round(time.Second), used.Round(time.Second))
	for _, p := range s.packages {
		t.Run(p.name(), results[p.name()].report)
	}
}

func (p Tests) name() string { return strings.TrimPrefix(p.Package, "./") }

// argv is the command line of a test binary.
func (p Tests) argv(binary string, limit time.Duration) []string {
	argv := []string{"/payload/" + binary, "-test.v=test2json", "-test.timeout=" + (limit * 2 / 3).String()}
	if len(p.Only) > 0 {
		argv = append(argv, "-test.run=^("+strings.Join(p.Only, "|")+")$")
	}
	if len(p.LeftOut) > 0 {
		argv = append(argv, "-test.skip=^("+strings.Join(slices.Sorted(maps.Keys(p.LeftOut)), "|")+")$")
	}
	return argv
}

// results are what the tests of one package came to.
type results struct {
	Tests
	skipped map[string]string
	order   []string          // tests, in the order in which they ran
	output  map[string]string // by test; "" is what belongs to none
	verdict map[string]string // of tests and their subtests
	last    string            // the test that prints
	line    string            // the last line, as far as it is here
	ended   bool
	status  int
}

func newResults(p Tests, k Kernel) *results {
	return &results{Tests: p, skipped: p.Skipped[k], output: map[string]string{}, verdict: map[string]string{}}
}

func (r *results) add(e Event) {
	if e.Ended {
		r.take(r.line)
		r.ended, r.status = true, e.Status
		return
	}
	lines := strings.SplitAfter(r.line+e.Output, "\n")
	for _, l := range lines[:len(lines)-1] {
		r.take(l)
	}
	r.line = lines[len(lines)-1]
}

// take takes in one line of output.
func (r *results) take(line string) {
	before, said, ok := strings.Cut(line, marker)
	r.output[r.last] += before
	if !ok {
		return
	}
	words := strings.Fields(said)
	switch {
	case len(words) >= 3 && words[0] == "===":
		r.last, _, _ = strings.Cut(words[2], "/")
		if !slices.Contains(r.order, r.last) {
			r.order = append(r.order, r.last)
		}
	case len(words) >= 3 && words[0] == "---":
		r.verdict[words[2]] = strings.TrimSuffix(words[1], ":")
		r.last, _, _ = strings.Cut(words[2], "/")
	default:
		r.last = ""
	}
	r.output[r.last] += said
}

// report has each test as a subtest.
func (r *results) report(t *testing.T) {
	for _, name := range r.order {
		t.Run(name, func(t *testing.T) {
			t.Log(r.output[name])
			if v := r.verdict[name]; v == "" {
				t.Error("it did not end")
			} else if v == "FAIL" {
				t.Fail()
			}
		})
	}
	for _, complaint := range r.complaints() {
		t.Error(complaint)
	}
}

// complaints are what is wrong beside the tests that failed.
func (r *results) complaints() (wrong []string) {
	for name, verdict := range r.verdict {
		if r.LeftOut[name] != "" {
			wrong = append(wrong, fmt.Sprintf("%s is to be left out, and ran", name))
		}
		if verdict == "SKIP" && r.skipped[name] == "" {
			wrong = append(wrong, fmt.Sprintf("%s skips itself, and nobody says why it may", name))
		}
	}
	for name := range r.skipped {
		if r.verdict[name] != "SKIP" {
			wrong = append(wrong, fmt.Sprintf("%s is said to skip itself (%s), and does not", name, r.skipped[name]))
		}
	}
	for _, name := range r.Only {
		if r.verdict[name] == "" {
			wrong = append(wrong, fmt.Sprintf("%s did not run", name))
		}
	}
	failed := slices.Contains(slices.Collect(maps.Values(r.verdict)), "FAIL")
	switch {
	case !r.ended:
		wrong = append(wrong, "the tests did not come to their end: "+r.output[""])
	case r.status != 0 && !failed:
		wrong = append(wrong, fmt.Sprintf("exit status %d: %s", r.status, r.output[""]))
	case len(r.order) == 0:
		wrong = append(wrong, "no test ran: "+r.output[""])
	}
	slices.Sort(wrong)
	return wrong
}
