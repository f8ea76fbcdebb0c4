package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extexec/extexec/service/credential"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// runIn runs a command in the fixture's place and fails the test if it fails.
func runIn(t *testing.T, in Place, argv ...string) string {
	t.Helper()
	r, err := Run(t.Context(), in, Command{Argv: argv})
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Output)
	}
	return string(r.Output)
}

// places are the ways in which services differ from us.
var places = map[string][]string{
	"plain":          nil,
	"mount":          {"unshare", "-m"},
	"all but user":   {"unshare", "-m", "-n", "-i", "-u", "-C"},
	"user":           {"setpriv", "--reuid=1234", "--regid=2345", "--groups=7,8", "--inh-caps=-all"},
	"no new privs":   {"setpriv", "--reuid=1234", "--regid=2345", "--clear-groups", "--no-new-privs"},
	"bounding":       {"setpriv", "--bounding-set=-all,+chown,+setpcap"},
	"ambient":        {"setpriv", "--reuid=1234", "--clear-groups", "--inh-caps=+net_bind_service,+chown", "--ambient-caps=+net_bind_service"},
	"no caps":        {"setpriv", "--reuid=1234", "--regid=2345", "--groups=7", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"},
	"user namespace": {"unshare", "-U", "--map-root-user", "-m"},
	// As PrivateUsers= has it: the mount namespace belongs to the outer user
	// namespace, setgroups is denied, and a group is not mapped.
	"private users":            {"unshare", "-m", "setpriv", "--groups=7,99", "unshare", "-U", "--map-root-user"},
	"private users, no caps":   {"unshare", "-m", "unshare", "-U", "--map-root-user", "setpriv", "--bounding-set=-all", "--no-new-privs"},
	"private users, some caps": {"unshare", "-m", "unshare", "-U", "--map-root-user", "setpriv", "--bounding-set=-all,+setpcap,+chown"},
	"time":                     {"unshare", "-T"},
	"umask and limit":          {"sh", "-c", `umask 027; ulimit -S -n 333; exec "$@"`, "sh"},
}

func TestRunInPlace(t *testing.T) {
	needRoot(t)
	for name, wrap := range places {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil, wrap...)
			status, err := f.Status()
			if err != nil {
				t.Fatal(err)
			}
			// The command's own view of itself, read by us: cat runs in the
			// service's user namespace, where unmapped ids look different.
			got := statusOf(t, Place{Process: f.Process})
			if diff := cmp.Diff(status.Credential, got.Credential); diff != "" {
				t.Errorf("credential (-service +command):\n%s", diff)
			}
			if got.Umask != status.Umask {
				t.Errorf("umask %#o, want %#o", got.Umask, status.Umask)
			}
			for _, kind := range []Kind{Mount, User, PID, Net, IPC, UTS, Cgroup, Time} {
				want, err := f.readlink("ns/" + string(kind))
				if err != nil {
					t.Fatal(err)
				}
				got := runIn(t, Place{Process: f.Process}, "readlink", "/proc/self/ns/"+string(kind))
				if strings.TrimSpace(got) != want {
					t.Errorf("namespace %s, want %s", got, want)
				}
			}
			if got, want := runIn(t, Place{Process: f.Process}, "grep", "open files", "/proc/self/limits"), limits(t, f.PID()); got != want {
				t.Errorf("open-file limit %q, want %q", got, want)
			}
		})
	}
}

// limits is the line about open files of the process's limits.
func limits(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Max open files") {
			return line
		}
	}
	t.Fatalf("limits of process %d: %q", pid, text)
	return ""
}

// statusOf runs a command that waits, and reads its status from outside.
func statusOf(t *testing.T, in Place) credential.Status {
	t.Helper()
	stdinR, stdinW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer outR.Close()
	done := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), in, Command{
			Argv:  []string{"sh", "-c", "read pid rest < /proc/self/stat; echo $pid; read x"},
			Stdin: stdinR, Stdout: outW,
		})
		outW.Close()
		done <- err
	}()
	line, err := bufio.NewReader(outR).ReadString('\n')
	stdinR.Close()
	if err != nil {
		t.Fatal(err, <-done)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	status, err := credential.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	stdinW.Close()
	if err := <-done; err != nil && !isExit(err, 1) {
		t.Fatal(err)
	}
	return status
}

func isExit(err error, code int) bool {
	var e *ExitError
	return errors.As(err, &e) && e.Code == code
}

func TestRunInPIDNamespace(t *testing.T) {
	needRoot(t)
	for name, wrap := range map[string][]string{
		"own /proc":           {"unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc"},
		"in a user namespace": {"unshare", "-U", "--map-root-user", "-m", "-p", "--fork", "--kill-child", "--mount-proc"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := startIn(t, wrap...)
			out := runIn(t, Place{Process: outer}, "sh", "-c", "readlink /proc/self/ns/pid; echo $MAINPID; cat /proc/1/comm; kill -0 $MAINPID && echo signalled")
			ns, err := outer.readlink("ns/pid")
			if err != nil {
				t.Fatal(err)
			}
			if want := ns + "\n1\nsh\nsignalled\n"; out != want {
				t.Errorf("in the pid namespace: %q, want %q", out, want)
			}
			// The namespace's processes: what was started in it is gone.
			if left := strings.Fields(runIn(t, Place{Process: outer}, "sh", "-c", "sleep 100 & ls /proc | grep -c '^[0-9]*$'; cat /proc/[0-9]*/comm")); slices.Contains(left[1:], "sleep") && left[0] == "0" {
				t.Errorf("processes: %q", left)
			}
			if out := runIn(t, Place{Process: outer}, "sh", "-c", "cat /proc/[0-9]*/comm"); strings.Contains(out, "sleep") {
				t.Errorf("left behind in the pid namespace: %q", out)
			}
		})
	}
}

// startIn starts a fixture that is process 1 of its own pid namespace, and finds
// it by its parent.
func startIn(t *testing.T, wrap ...string) *Process {
	t.Helper()
	cmd := exec.Command(wrap[0], append(slices.Clone(wrap[1:]), "sh", "-c", "echo ready; read line")...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pids := childrenOf(t, cmd.Process.Pid)
	if len(pids) != 1 {
		t.Fatalf("children of the fixture: %d", pids)
	}
	p, err := Open(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}

func TestRunInRoot(t *testing.T) {
	needRoot(t)
	jail := t.TempDir()
	f := start(t, nil, "unshare", "-m", "sh", "-c", `mount --rbind / "$0" && mount -t tmpfs none "$0/srv" && echo here > "$0/srv/file" && exec chroot "$0" "$@"`, jail)
	if got := runIn(t, Place{Process: f.Process}, "cat", "/srv/file"); got != "here\n" {
		t.Errorf("in the root: %q", got)
	}
	if root := strings.TrimSpace(runIn(t, Place{Process: f.Process}, "stat", "-c", "%d", "/srv")); root == strings.TrimSpace(runIn(t, self(t), "stat", "-c", "%d", "/srv")) {
		t.Error("the command is not in the service's root")
	}
	// A copy of the namespace: the root is found again by its path.
	ns := start(t, nil, "nsenter", "-m", "-t", strconv.Itoa(f.PID()), "unshare", "-m", "sh", "-c", `echo copy > "$0/srv/file2"; mount -t tmpfs none "$0/opt"; exec "$@"`, jail)
	mount, err := ns.Namespace(Mount)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	in := Place{Process: f.Process, Mount: mount}
	if got := runIn(t, in, "stat", "-f", "-c", "%T", "/opt"); got != "tmpfs\n" {
		t.Errorf("/opt in the copy is %q", got)
	}
	if got := runIn(t, in, "cat", "/srv/file"); got != "here\n" {
		t.Errorf("in the root of the copy: %q", got)
	}
}

// self is the place of this process.
func self(t *testing.T) Place {
	t.Helper()
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return Place{Process: p}
}

func TestRunEnvironment(t *testing.T) {
	f := start(t, []string{"A=1", "B=2", "LISTEN_FDS=3", "LISTEN_PID=4", "PATH=/nonexistent:relative:/usr/bin:/bin", "MAINPID=1"})
	r, err := Run(t.Context(), Place{Process: f.Process}, Command{Argv: []string{"env"}, Env: []string{"B=3", "C=4"}, Dir: "/usr"})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(r.Output)), "\n")
	slices.Sort(got)
	want := []string{"A=1", "B=3", "C=4", "MAINPID=" + strconv.Itoa(f.PID()), "PATH=/nonexistent:relative:/usr/bin:/bin", "PWD=", "_="}
	got = slices.DeleteFunc(got, func(a string) bool {
		return strings.HasPrefix(a, "PWD=") || strings.HasPrefix(a, "_=") || strings.HasPrefix(a, "OLDPWD=") || strings.HasPrefix(a, "SHLVL=")
	})
	want = slices.DeleteFunc(want, func(a string) bool { return a == "PWD=" || a == "_=" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	r, err = Run(t.Context(), Place{Process: f.Process, Environ: []string{"X=y"}}, Command{Argv: []string{"sh", "-c", "pwd; echo $X$A; ls /proc/self/fd"}, Dir: "/usr"})
	if err != nil || string(r.Output) != "/usr\ny\n0\n1\n2\n3\n" {
		t.Errorf("directory, environment and descriptors: %q, %v", r.Output, err)
	}
}

func TestRunOtherCredential(t *testing.T) {
	needRoot(t)
	in := self(t)
	s, err := in.Process.Status()
	if err != nil {
		t.Fatal(err)
	}
	who := credential.User{UID: 1234, GID: 2345, SetUID: true, SetGID: true, Groups: []uint32{7}, SetGroups: true}.Credential(s.Credential)
	in.Credential = &who
	if diff := cmp.Diff(who, statusOf(t, in).Credential); diff != "" {
		t.Errorf("credential (-want +got):\n%s", diff)
	}
}

func TestRunResult(t *testing.T) {
	in := self(t)
	r, err := Run(t.Context(), in, Command{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}})
	if !isExit(err, 7) || r.Code != 7 || string(r.Output) != "out\nerr\n" {
		t.Errorf("exit 7: %+v, %v", r, err)
	}
	r, err = Run(t.Context(), in, Command{Argv: []string{"sh", "-c", "kill -TERM $$"}})
	var e *ExitError
	if !errors.As(err, &e) || e.Signal != unix.SIGTERM || r.Code != -1 {
		t.Errorf("killed by SIGTERM: %+v, %v", r, err)
	}
	r, err = Run(t.Context(), in, Command{Argv: []string{"sh", "-c", "head -c 1000000 /dev/zero; echo done >&2"}, OutputLimit: 10})
	if err != nil || len(r.Output) != 10 || !r.Truncated {
		t.Errorf("much output: %d bytes, %v, %v", len(r.Output), r.Truncated, err)
	}
	// What is left holds the pipe open; Run does not wait for it.
	r, err = Run(t.Context(), in, Command{Argv: []string{"sh", "-c", "setsid sleep 100 & echo started"}})
	if err != nil || string(r.Output) != "started\n" {
		t.Errorf("with a daemon left: %q, %v", r.Output, err)
	}
}

func TestRunRefuses(t *testing.T) {
	f := start(t, nil, "unshare", "-m")
	in := Place{Process: f.Process}
	for name, test := range map[string]struct {
		command Command
		code    int
		message string
	}{
		"no command":      {Command{}, 203, "empty"},
		"missing":         {Command{Argv: []string{"/nonexistent"}}, 203, "no such file"},
		"not in PATH":     {Command{Argv: []string{"nonexistent-command"}}, 203, "no such file"},
		"not executable":  {Command{Argv: []string{"/etc/passwd"}}, 203, "permission denied"},
		"a directory":     {Command{Argv: []string{"/etc"}}, 203, "permission denied"},
		"no directory":    {Command{Argv: []string{"true"}, Dir: "/nonexistent"}, 200, `working directory "/nonexistent": no such file or directory: it must be there`},
		"NUL in argument": {Command{Argv: []string{"true", "a\x00b"}}, 203, "invalid argument"},
	} {
		_, err := Run(t.Context(), in, test.command)
		var e *StartError
		if !errors.As(err, &e) || e.ExitCode() != test.code || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: %v, want code %d and %q", name, err, test.code, test.message)
		}
	}
	f.end()
	if _, err := Run(t.Context(), in, Command{Argv: []string{"true"}}); !errors.Is(err, ErrGone) {
		t.Errorf("in the place of a process that has ended: %v", err)
	}
}

// The kernel would let us have what we have; that the service has more is said.
func TestRunRefusesToApproximate(t *testing.T) {
	needRoot(t)
	in := self(t)
	s, err := in.Process.Status()
	if err != nil {
		t.Fatal(err)
	}
	missing := -1
	for n := range 40 {
		if !s.Bounding.Has(n) {
			missing = n
		}
	}
	if missing < 0 {
		t.Log("nothing is missing from our bounding set: the test has nothing to ask for")
		return
	}
	who := s.Credential
	who.Bounding |= 1 << missing
	in.Credential = &who
	_, err = Run(t.Context(), in, Command{Argv: []string{"true"}})
	var e *StartError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "bounding set") {
		t.Errorf("with more than we have: %v", err)
	}
}

// marked says whether a process with that argument lives, and which.
func marked(t *testing.T, mark string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(text), mark) && !strings.HasPrefix(f, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// stubborn leaves processes in every way: a child, one in another session, an
// orphan of an orphan, one that ignores signals. It says so, and waits.
const stubborn = `
trap '' TERM INT HUP
sleep 12345.$0 &
setsid sleep 12345.$0 &
(setsid sh -c "trap '' TERM; (sleep 12345.$0 & sleep 12345.$0) & sleep 12345.$0" &)
sh -c '(setsid sleep 12345.$0 &) &' $0
echo ready
`

func TestRunLeavesNothingBehind(t *testing.T) {
	mark := strconv.Itoa(os.Getpid()) + "1"
	f := start(t, nil)
	if _, err := Run(t.Context(), Place{Process: f.Process}, Command{Argv: []string{"sh", "-c", stubborn, mark}}); err != nil {
		t.Fatal(err)
	}
	if left := marked(t, "12345."+mark); len(left) != 0 {
		t.Errorf("left behind after the end: %q", left)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	needRoot(t)
	mark := strconv.Itoa(os.Getpid()) + "2"
	for name, wrap := range map[string][]string{"plain": nil, "user namespace": {"unshare", "-Um", "--map-root-user"}} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil, wrap...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				bufio.NewReader(r).ReadString('\n')
				cancel()
			}()
			_, err = Run(ctx, Place{Process: f.Process}, Command{Argv: []string{"sh", "-c", stubborn + "wait", mark}, Stdout: w})
			w.Close()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if left := marked(t, "12345."+mark); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			if _, err := Run(ctx, Place{Process: f.Process}, Command{Argv: []string{"true"}}); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled before: %v", err)
			}
		})
	}
}

func TestRunKeepsTheRest(t *testing.T) {
	mark := strconv.Itoa(os.Getpid()) + "3"
	f := start(t, nil)
	r, err := Run(t.Context(), Place{Process: f.Process}, Command{
		Argv:     []string{"sh", "-c", "setsid sleep 12345.$0 > /dev/null 2>&1 & echo $!", mark},
		KeepRest: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := strconv.Atoi(strings.TrimSpace(string(r.Output)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(daemon)
	if err != nil {
		t.Fatalf("the daemon that the command started has gone: %v", err)
	}
	defer p.Close()
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitForEnd(t, p)
}

// killEnv makes the test binary run the stubborn command in the place of the
// process that it names, and wait to be killed. Two Runs at once hold copies of
// each other's descriptors.
const killEnv = "EXTEXEC_TEST_RUN_IN"

func TestMain(m *testing.M) {
	if spec := os.Getenv(killEnv); spec != "" {
		runUntilKilled(spec)
	}
	if os.Getenv(leaderEnv) != "" {
		endLeader()
	}
	os.Exit(m.Run())
}

func runUntilKilled(spec string) {
	pid, mark, _ := strings.Cut(spec, " ")
	n, err := strconv.Atoi(pid)
	if err != nil {
		panic(err)
	}
	p, err := Open(n)
	if err != nil {
		panic(err)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			_, err := Run(context.Background(), Place{Process: p}, Command{Argv: []string{"sh", "-c", stubborn + "wait", mark}, Stdout: os.Stdout})
			fmt.Println(err)
		})
	}
	both.Wait()
	os.Exit(1)
}

func TestRunEndsWhenWeAreKilled(t *testing.T) {
	needRoot(t)
	for i, wrap := range [][]string{nil, {"unshare", "-m"}, {"unshare", "-Um", "--map-root-user"}} {
		mark := fmt.Sprintf("%d4%d", os.Getpid(), i)
		f := start(t, nil, wrap...)
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", killEnv, f.PID(), mark))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for range 2 {
			if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("%q: %q, %v", wrap, line, err)
			}
		}
		if len(marked(t, "12345."+mark)) == 0 {
			t.Fatal("the command has started nothing: the test shows nothing")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Wait()
		// The commands have the pipe as their output: it ends when they do.
		end := make(chan struct{})
		go func() { lines.WriteTo(discard{}); close(end) }()
		select {
		case <-end:
		case <-time.After(20 * time.Second):
			t.Error("the pipe is still open")
		}
		if left := marked(t, "12345."+mark); len(left) != 0 {
			t.Errorf("%q: left behind: %q", wrap, left)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestRunInCgroup(t *testing.T) {
	for _, controllers := range []string{"", "name=systemd"} {
		t.Run("controllers "+controllers, func(t *testing.T) {
			_, dir := cgroup(t, controllers, "extexectest-run.service")
			f := start(t, nil, "sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, dir)
			want, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", f.PID()))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(want), "extexectest-run.service") {
				t.Fatalf("the fixture is in %q", want)
			}
			if got := runIn(t, Place{Process: f.Process}, "cat", "/proc/self/cgroup"); got != string(want) {
				t.Errorf("cgroup %q, want %q", got, want)
			}
			f.end()
		})
	}
}

func TestRunLeaksNoDescriptors(t *testing.T) {
	f := start(t, nil, "unshare", "-m")
	in := Place{Process: f.Process}
	run := func() {
		runIn(t, in, "true")
		Run(t.Context(), in, Command{Argv: []string{"/nonexistent"}})
		Run(t.Context(), in, Command{Argv: []string{"true", "\x00"}})
	}
	run()
	before := descriptors(t)
	for range 5 {
		run()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func BenchmarkRun(b *testing.B) {
	p, err := Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for b.Loop() {
		if _, err := Run(b.Context(), Place{Process: p}, Command{Argv: []string{"/bin/true"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"A=1", "WATCHDOG_PID=7", "A=2", "MAINPID=9"}, 4, []string{"B=1", "B=2"})
	if diff := cmp.Diff([]string{"A=2", "MAINPID=4", "B=2"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if got := candidates("x", []string{"PATH=/a/::b:/c"}); !cmp.Equal(got, []string{"/a/x", "/c/x"}) {
		t.Errorf("candidates %q", got)
	}
	if got := candidates("./x", nil); !cmp.Equal(got, []string{"./x"}) {
		t.Errorf("candidates %q", got)
	}
}
