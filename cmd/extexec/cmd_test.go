package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/internal/steps"
	"github.com/extexec/extexec/reload/state"
	"github.com/extexec/extexec/service"
)

// call runs the program in this process.
func call(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = execute(args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, dir, name string, r *state.Record) {
	t.Helper()
	u, err := state.In(dir).Unit(name)
	must(t, err)
	l, err := u.Lock(t.Context(), 0)
	must(t, err)
	must(t, l.Save(r))
	must(t, l.Close())
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"nonsense"}, `unknown command "nonsense"`},
		{[]string{"statu"}, "error: unknown command \"statu\" for \"extexec\": did you mean status?\nsee: extexec --help\n"},
		{[]string{"rep"}, `: did you mean run or repair or wrap?`},
		{[]string{"status"}, "wants one NAME"},
		{[]string{"status", "a", "b"}, "got 2 arguments"},
		{[]string{"status", "--nonsense", "a"}, "see: extexec status --help"},
		{[]string{"list", "a"}, "see: extexec list --help"},
		{[]string{"exec", "a"}, "wants NAME -- COMMAND"},
		{[]string{"exec", "a", "b"}, "wants NAME -- COMMAND"},
		{[]string{"exec", "--", "b"}, "wants NAME -- COMMAND"},
		{[]string{"reload"}, "name the unit or instance to reload"},
		{[]string{"pick"}, "see: extexec pick --help"},
		{[]string{"repair", "web", "we b"}, `name "we b"`},
		{[]string{"lint", "we b"}, `invalid unit name "we b.service"`},
		{[]string{"pick", "--resolve", "perhaps", "/x"}, `"perhaps" is neither yes nor no`},
	} {
		code, out, errOut := call(c.args...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errOut, "error: ") || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, output %q, error %q", c.args, code, out, errOut)
		}
	}
}

// TestUsageOneLine: what is empty or no name is a mistake in the call, whatever the verb,
// and nothing is done.
func TestUsageOneLine(t *testing.T) {
	state := []string{"--state-dir", t.TempDir()}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "--image-policy", "", "--name", "web", "--", "true"}, "run: --image-policy is empty: give it a value, or leave it out"},
		{[]string{"run", "--image-policy", "nonsense", "--name", "web", "--", "true"}, `parse image policy "nonsense"`},
		{[]string{"run", "--name", "", "--", "true"}, "--name is empty"},
		{[]string{"run", "--name=web", "--unit=", "--", "true"}, "--unit is empty"},
		{[]string{"run", "--name=web", "--extension-image=/x", "--extension-image=", "--", "true"}, "--extension-image is empty"},
		{[]string{"run", "--name=web", "--extension-directory=", "--", "true"}, "--extension-directory is empty"},
		{[]string{"run", "--name=web", "--hierarchy=", "--", "true"}, "--hierarchy is empty"},
		{[]string{"run", "--state-dir=", "--name=web", "--", "true"}, "--state-dir is empty"},
		{[]string{"run", "--name", "we b", "--", "true"}, `name "we b": has the character " "`},
		{[]string{"run", "--unit", "we b", "--", "true"}, `name "we b"`},
		{[]string{"inspect", "--image-policy=", "/x"}, "inspect: --image-policy is empty"},
		{[]string{"inspect", "--image-policy=nonsense", "/x"}, "parse image policy"},
		{[]string{"inspect", ""}, "inspect: an argument is empty"},
		{[]string{"compose", "--image-policy=", "-o", "/x/x.raw", "/x"}, "compose: --image-policy is empty"},
		{[]string{"compose", "--image-policy=nonsense", "-o", "/x/x.raw", "/x"}, "parse image policy"},
		{[]string{"build", "-o", "/x/x.raw", ""}, "build: an argument is empty"},
		{[]string{"build", "-o", "/x/x.raw", "--seed", "", "/x"}, "--seed is empty"},
		{[]string{"list", "--state-dir", ""}, "list: --state-dir is empty"},
		{[]string{"status", "--state-dir", "", "web"}, "status: --state-dir is empty"},
		{[]string{"adopt", "--extension-image", "", "web"}, "adopt: --extension-image is empty"},
		{[]string{"install", "", "web"}, "install: an argument is empty"},
		{[]string{"portable", "attach", "--profile", "", "/x"}, "attach: --profile is empty"},
		{[]string{"portable", "detach", ""}, "detach: an argument is empty"},
		{[]string{"exec", "-C", "", "web", "--", "true"}, "exec: --working-directory is empty"},
		{[]string{"reload", ""}, "reload: an argument is empty"},
		{[]string{"exec", "we b", "--", "true"}, `name "we b"`},
	} {
		if !slices.Contains(c.args, "--state-dir") && slices.Contains([]string{"run", "reload", "exec"}, c.args[0]) {
			c.args = slices.Concat(c.args[:1], state, c.args[1:])
		}
		wantUsage(t, c.want, c.args...)
	}
	for _, verb := range []string{"reload", "plan", "status", "history", "rollback", "unhold"} {
		for _, name := range []string{"we b", "../web"} {
			wantUsage(t, fmt.Sprintf("name %q: ", name), slices.Concat([]string{verb}, state, []string{name})...)
		}
		wantUsage(t, "an argument is empty", slices.Concat([]string{verb}, state, []string{""})...)
	}
	if entries, err := os.ReadDir(state[1]); err != nil || len(entries) > 0 {
		t.Errorf("in the state directory is %q, %v", entries, err)
	}
	// What is executed, or picked as systemd-vpick does, may be called with nothing.
	for _, args := range [][]string{{"run", "--state-dir=/x", "--name=", "--argv0=", "--", "true", ""}, {"pick", "--version", "", "/"}} {
		if code, _, errOut := call(args...); strings.Contains(errOut, "argv0") || strings.Contains(errOut, "argument") || args[0] == "pick" && code != exitOK {
			t.Errorf("%q: code %d, %q", args, code, errOut)
		}
	}
}

func wantUsage(t *testing.T, want string, args ...string) {
	t.Helper()
	code, out, errOut := call(args...)
	if code != exitUsage || out != "" || !strings.HasPrefix(errOut, "error: ") || !strings.Contains(errOut, want) || strings.Count(errOut, "\n") != 1 {
		t.Errorf("%q: code %d, output %q, error %q", args, code, out, errOut)
	}
}

// Every verb has a help with an example, and is found whether it is made alone or
// with all the others.
func TestHelp(t *testing.T) {
	_, all, _ := call("--help")
	for _, v := range verbs {
		if !strings.Contains(all, "\n  "+v.name+" ") {
			t.Errorf("%s is not in the help", v.name)
		}
		code, out, errOut := call(v.name, "--help")
		if code != exitOK || errOut != "" || !strings.Contains(out[max(strings.Index(out, "Examples:\n"), 0):], " extexec "+v.name+" ") {
			t.Errorf("%s --help: code %d\n%s%s", v.name, code, out, errOut)
		}
		if _, other, _ := call("help", v.name); other != out {
			t.Errorf("help %s is another text", v.name)
		}
	}
}

// What cobra adds to the verbs knows no success for what it does not know.
func TestUnknownIsUsage(t *testing.T) {
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}, {"help", "nosuch"}, {"nosuch"}, {"lint", "--systemd-version", "-1", "web"}} {
		if code, out, errOut := call(args...); code != exitUsage || out != "" || !strings.HasPrefix(errOut, "error: ") {
			t.Errorf("%q: code %d, output %q, error %q", args, code, out, errOut)
		}
	}
}

// A help that cannot be written has failed, as any other output has.
func TestOutputFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	for _, args := range [][]string{{"--help"}, {"help", "run"}, {"reload", "--help"}, {"--version"}, {"completion", "bash"}, {"version"}, {"list", "--json"}} {
		var errOut bytes.Buffer
		code := execute(args, strings.NewReader(""), full, &errOut)
		if code != exitFailed || !strings.HasSuffix(errOut.String(), "/dev/full: no space left on device\n") {
			t.Errorf("%q: code %d, error %q", args, code, errOut.String())
		}
	}
}

// The name that somebody has given to a file makes no line of its own.
func TestOneLine(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/a\nerror: b\x1b[31m"
	must(t, os.WriteFile(dir+"/record", nil, 0o600))
	for _, args := range [][]string{
		{"inspect", path}, {"pick", path + ".v"}, {"build", path, "-o", dir + "/web.raw"}, {"compose", path, "-o", dir + "/web.raw"},
		{"status", "--state-dir", path, "web"}, {"list", "--state-dir", dir}, {"repair", "--state-dir", dir},
	} {
		code, out, errOut := call(args...)
		if code != exitFailed || out != "" || strings.Count(errOut, "\n") != 1 || strings.Contains(errOut, "\x1b") {
			t.Errorf("%q: code %d, output %q, error %q", args, code, out, errOut)
		}
	}
}

func TestVersion(t *testing.T) {
	code, out, _ := call("version")
	if code != exitOK || !strings.HasPrefix(out, "extexec version ") {
		t.Errorf("code %d, %q", code, out)
	}
	if code, flag, _ := call("--version"); code != exitOK || flag != out {
		t.Errorf("--version: code %d, %q and not %q", code, flag, out)
	}
	_, out, _ = call("version", "--json")
	var v struct{ Version, Go string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Version == "" || v.Go == "" {
		t.Errorf("%q: %v", out, err)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("x: %w", &state.LockedError{Name: "web"}), 75},
		{fmt.Errorf("x: %w", &exitError{code: 203}), 203},
		{errors.Join(errors.New("x"), &steps.UndoError{Step: "exchange", Err: io.EOF}), 5},
		{errors.Join(&exitError{code: 3}, &steps.UndoError{Step: "exchange", Err: io.EOF}), 5},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestNameAndVersion(t *testing.T) {
	for _, c := range []struct{ name, version, want string }{
		{"tools", "", "tools"},
		{"web_2", "2", "web 2"},
		{"web_2.1_x86-64+3-1", "2.1", "web 2.1"},
		{"web", "2", "web 2"},
		{"a_1_1", "1", "a 1"},
	} {
		if got := nameAndVersion(&state.Extension{Name: c.name, Version: c.version}); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestListAndStatus(t *testing.T) {
	dir := t.TempDir()
	if code, out, _ := call("list", "--state-dir", dir); code != exitOK || out != "Nothing has extensions of ours.\n" {
		t.Errorf("empty: code %d, %q", code, out)
	}
	_, out, _ := call("list", "--state-dir", dir, "--json")
	if strings.Join(strings.Fields(out), "") != `{"schema":1,"units":[]}` {
		t.Errorf("empty JSON: %q", out)
	}
	save(t, dir, "web.service", &state.Record{
		Unit: "web.service", PID: 1, MountNS: 1<<63 - 1, Refs: []state.Ref{{Kind: "directory", Text: "/nothing/conf"}},
		Current: state.Generation{
			Number: 3, Serial: 7, Time: time.Now(), Trigger: "reload",
			Extensions:  []state.Extension{{Ref: "/nothing/conf", Kind: "directory", Name: "conf\x1b[31m", Version: "2", Path: "/nothing/conf", Class: []string{"confext"}}},
			Hierarchies: []state.Hierarchy{{Path: "/etc", Layers: 1}},
		},
	})
	code, out, errOut := call("list", "--state-dir", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || len(lines) != 2 || !strings.HasPrefix(lines[1], "web.service ") || !strings.HasSuffix(lines[1], ` conf\x1b[31m 2`) {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
	for _, args := range [][]string{{"status", "web", "--state-dir", dir}, {"status", "--state-dir=" + dir, "web.service"}} {
		code, out, errOut := call(args...)
		if code != exitOK || !strings.Contains(out, "Generation:  3, since ") || !strings.Contains(out, "gone") || errOut != "" {
			t.Errorf("%q: code %d\n%s%s", args, code, out, errOut)
		}
	}
	_, out, _ = call("status", "--state-dir", dir, "--json", "web")
	var s struct {
		Schema     int
		Name       string
		Generation struct{ Number int }
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Schema != 1 || s.Name != "web.service" || s.Generation.Number != 3 {
		t.Errorf("%v: %s", err, out)
	}
	code, _, errOut = call("status", "--state-dir", dir, "other")
	if code != exitFailed || !strings.Contains(errOut, `find "other": it has no record`) {
		t.Errorf("unknown name: code %d, %q", code, errOut)
	}

	// One damaged record does not hide the others.
	must(t, os.MkdirAll(filepath.Join(dir, "record/bad"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "record/bad/state.json"), []byte("{"), 0o600))
	code, out, errOut = call("list", "--state-dir", dir)
	if code != exitFailed || !strings.Contains(out, "web.service") || !strings.Contains(errOut, "record/bad/state.json") {
		t.Errorf("damaged record: code %d\n%s%s", code, out, errOut)
	}
	// Nor does it hide itself where there are no others.
	must(t, os.RemoveAll(filepath.Join(dir, "record/web.service")))
	code, out, errOut = call("list", "--state-dir", dir)
	if code != exitFailed || !strings.Contains(out, "bad   unknown  -    -           -      its record cannot be read") || !strings.Contains(errOut, "restart the service") {
		t.Errorf("damaged record alone: code %d\n%s%s", code, out, errOut)
	}
	code, out, _ = call("list", "--json", "--state-dir", dir)
	if code != exitFailed || !strings.Contains(out, `"error": "read record of`) {
		t.Errorf("damaged record alone: code %d\n%s", code, out)
	}
}

func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, "web.service", &state.Record{})
	for _, verb := range []string{"status", "exec"} {
		code, out, _ := call("__complete", verb, "--state-dir", dir, "")
		if code != exitOK || !strings.HasPrefix(out, "web.service\n:4\n") {
			t.Errorf("%s: code %d, %q", verb, code, out)
		}
	}
}

func TestPick(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"web_1", "web_10", "web_9"} {
		must(t, os.MkdirAll(filepath.Join(dir, "web.v", name), 0o755))
	}
	if code, out, errOut := call("pick", "-p", "version", "-t", "dir", filepath.Join(dir, "web.v")); code != exitOK || out != "10\n" {
		t.Errorf("code %d, %q %q", code, out, errOut)
	}
	if code, out, errOut := call("pick", "-V", "7", filepath.Join(dir, "web.v")); code != exitFailed || out != "" || errOut == "" {
		t.Errorf("no match: code %d, %q %q", code, out, errOut)
	}
}

// A command runs in the mount namespace of the service, with its environment, and
// its exit code is ours.
func TestExec(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "mnt"), 0o755))
	c := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-ec", `mount -t tmpfs none "$1/mnt"; echo inside > "$1/mnt/file"; echo ready; exec cat`, "sh", dir)
	c.Env = append(os.Environ(), "OF_THE_SERVICE=yes")
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { in.Close(); must(t, c.Wait()) })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p, err := service.Open(c.Process.Pid)
	must(t, err)
	defer p.Close()
	ns, err := p.MountNS()
	must(t, err)
	save(t, dir, "web", &state.Record{PID: p.PID(), StartTime: p.StartTime(), MountNS: ns})

	file := filepath.Join(dir, "mnt/file")
	program := func(script string) (string, string, error) {
		t.Helper()
		c := exec.Command(os.Args[0], "exec", "--state-dir", dir, "web", "--", "sh", "-c", script)
		c.Env = append(os.Environ(), "EXTEXEC_TEST_MAIN=1")
		var o, e bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader("typed\n"), &o, &e
		err := c.Run()
		return o.String(), e.String(), err
	}
	got, errOut, err := program("cat; cat " + file + "; echo $OF_THE_SERVICE $MAINPID; echo to stderr >&2")
	if want := "typed\ninside\nyes " + strconv.Itoa(p.PID()) + "\n"; err != nil || got != want || errOut != "to stderr\n" {
		t.Errorf("%v: %q %q, want %q", err, got, errOut, want)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("the file is there outside, too")
	}
	for script, want := range map[string]int{"exit 7": 7, "kill -TERM $$": 143} {
		_, errOut, err := program(script)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != want || errOut != "" {
			t.Errorf("%s: %v %q, want %d", script, err, errOut, want)
		}
	}
	code, _, errOut := call("exec", "--state-dir", dir, "web", "--", "/nonexistent")
	if code != exitExec || !strings.Contains(errOut, "/nonexistent") {
		t.Errorf("missing command: code %d, %q", code, errOut)
	}
	save(t, dir, "dead", &state.Record{PID: p.PID(), MountNS: 1<<63 - 1})
	code, _, errOut = call("exec", "--state-dir", dir, "dead", "--", "true")
	if code != exitFailed || !strings.Contains(errOut, "start it first") {
		t.Errorf("dead service: code %d, %q", code, errOut)
	}
}

// TestMain lets the test binary be the program.
func TestMain(m *testing.M) {
	if os.Getenv("EXTEXEC_TEST_MAIN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// TestErrorIsOneLine: what was given makes no line of its own, however it comes into the
// error.
func TestErrorIsOneLine(t *testing.T) {
	dir := t.TempDir()
	odd := dir + "/a\nfake: line\x1b[2J/b"
	for _, c := range []struct {
		args  []string
		lines int // with that which says where help is
	}{
		{[]string{"pick", odd}, 1},
		{[]string{"pick", dir + "//./a\nfake: line\x1b[2J/b"}, 1},
		{[]string{"inspect", odd}, 1},
		{[]string{"portable", "inspect", odd}, 1},
		{[]string{"portable", "inspect", "a\nfake: line\x1b[2J"}, 1},
		{[]string{"compose", "-o", dir + "/x.raw", odd}, 1},
		{[]string{"build", "-o", odd, odd}, 2},
		{[]string{"status", "--state-dir=" + odd, "web"}, 1},
		{[]string{"lint", "a\nfake: line\x1b[2J"}, 2},
		{[]string{"a\nfake: line\x1b[2J"}, 2},
		{[]string{"pick", "--a\nfake: line\x1b[2J=x"}, 2},
	} {
		code, _, errOut := call(c.args...)
		if code == exitOK {
			t.Errorf("%q: exit code 0", c.args)
		}
		if n := strings.Count(errOut, "\n"); n != c.lines || strings.Contains(errOut, "\x1b") {
			t.Errorf("%q says %d lines, want %d: %q", c.args, n, c.lines, errOut)
		}
	}
}
