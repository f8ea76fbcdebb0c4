package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// becomeEnv makes the test binary become the user that it has as JSON, and then
// execute cat on its own status.
const becomeEnv = "EXTEXEC_TEST_BECOME"

func init() {
	text := os.Getenv(becomeEnv)
	if text == "" {
		return
	}
	runtime.LockOSThread()
	var u User
	err := json.Unmarshal([]byte(text), &u)
	if err == nil {
		var change *Change
		if change, err = Prepare(u); err == nil {
			err = change.Apply()
		}
	}
	if err == nil {
		err = syscall.Exec("/bin/cat", []string{"cat", "/proc/self/status"}, nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatal("this test needs root, and EXTEXEC_REQUIRE_RIG=1 forbids to skip it")
	}
	t.Skip("needs root")
}

// become runs the test binary below setpriv with its arguments.
func become(t *testing.T, u User, setpriv ...string) (Status, error) {
	t.Helper()
	needRoot(t)
	text, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("setpriv", append(setpriv, os.Args[0])...)
	cmd.Env = append(os.Environ(), becomeEnv+"="+string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Status{}, fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	if stderr.Len() > 0 {
		t.Errorf("become wrote %q", stderr.Bytes())
	}
	return ParseStatus(out)
}

var www = User{Name: "www", UID: 3333, GID: 4444, SetUID: true, SetGID: true, Groups: []uint32{4444, 5555}, SetGroups: true}

func TestBecomeDropsEverything(t *testing.T) {
	s, err := become(t, www, "--no-new-privs", "--bounding-set=-sys_time")
	if err != nil {
		t.Fatal(err)
	}
	want := Credential{
		UID: 3333, EUID: 3333, SUID: 3333, GID: 4444, EGID: 4444, SGID: 4444, Groups: []uint32{4444, 5555},
		Bounding: s.Bounding, NoNewPrivs: true,
	}
	if diff := cmp.Diff(want, s.Credential); diff != "" {
		t.Errorf("credential (-want +got):\n%s", diff)
	}
	if s.Bounding == 0 || s.Bounding.Has(25) {
		t.Errorf("bounding set %s was not left alone", s.Bounding)
	}
}

func TestBecomeKeepsAmbient(t *testing.T) {
	const bind = 1 << 10
	s, err := become(t, www, "--inh-caps=+net_bind_service,+chown", "--ambient-caps=+net_bind_service")
	if err != nil {
		t.Fatal(err)
	}
	if s.UID != 3333 || s.Ambient != bind || s.Permitted != bind || s.Effective != bind || s.Inheritable != bind|1 {
		t.Errorf("became %+v, want ambient CAP_NET_BIND_SERVICE alone", s.Credential)
	}
}

func TestBecomeRootKeepsCapabilities(t *testing.T) {
	s, err := become(t, User{Name: "root", SetUID: true, SetGID: true, Groups: []uint32{7}, SetGroups: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.UID != 0 || s.Permitted != s.Bounding || !cmp.Equal(s.Groups, []uint32{7}) {
		t.Errorf("became %+v, want root with its capabilities and group 7", s.Credential)
	}
}

func TestBecomeRefused(t *testing.T) {
	if _, err := become(t, www, "--bounding-set=-setuid"); err == nil || !bytes.Contains([]byte(err.Error()), []byte("setresuid")) {
		t.Errorf("become without CAP_SETUID: %v", err)
	}
}
