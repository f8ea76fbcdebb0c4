package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/extexec/extexec/image/gpt/gpttest"
)

func TestInspectDirectory(t *testing.T) {
	dir := sourceTree(t, map[string]string{webRelease: "ID=debian\nVERSION_ID=13\n", "usr/bin/web": "x", "usr/bin/plain": "x"})
	must(t, os.Rename(dir, filepath.Join(filepath.Dir(dir), "web")))
	dir = filepath.Join(filepath.Dir(dir), "web")
	must(t, os.Chmod(filepath.Join(dir, "usr/bin/web"), 0o755|os.ModeSetuid))
	must(t, os.Symlink("web", filepath.Join(dir, "usr/bin/link")))
	code, out, errOut := call("inspect", "--files", dir)
	for _, want := range []string{"Format:        directory\n", "Class:         sysext, ID=debian VERSION_ID=13\n", "/usr/bin/web       -rwsr-xr-x",
		"/usr/bin/link -> web\n", "8, of which 1 give rights away"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != exitOK || errOut != "" || strings.Count(out, "/usr/bin/plain") != 1 {
		t.Errorf("code %d, %q\n%s", code, errOut, out)
	}
	if code, out, _ := call("inspect", t.TempDir()); code != exitOK || !strings.Contains(out, "Class:   none: ") {
		t.Errorf("an empty directory: code %d\n%s", code, out)
	}
}

func TestInspectRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.raw")
	must(t, os.WriteFile(text, []byte("no image"), 0o600))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "wants one IMAGE or DIR"},
		{[]string{"/nonexistent"}, exitFailed, "no such file"},
		{[]string{"/dev/null"}, exitFailed, "must be a regular file"},
		{[]string{text}, exitFailed, "no file system that extexec knows"},
		{[]string{text, "--image-policy", "x"}, exitUsage, "parse image policy"},
	} {
		code, _, errOut := call(append([]string{"inspect"}, c.args...)...)
		if code != c.code || !strings.Contains(errOut, c.want) || c.code != exitUsage && strings.Count(errOut, "\n") != 1 {
			t.Errorf("%q: code %d, %q", c.args, code, errOut)
		}
	}
}

func TestInspectImage(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "openssl")
	gpttest.Tool(t, "setcap")
	dir := sourceTree(t, map[string]string{"usr/bin/web": "x", "etc/web": "x"})
	if b, err := exec.Command("setcap", "cap_net_raw,cap_bpf+ep", dir+"/usr/bin/web").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	out := t.TempDir()
	key, crt := out+"/key", out+"/crt"
	if b, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", crt, "-subj", "/CN=x").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	_, text, errOut := program(t, "build", dir, "-o", out+"/web.raw", "--id", "_any", "--key", key, "--certificate", crt, "--json")
	var made struct{ RootHash string }
	must(t, json.Unmarshal([]byte(text), &made))
	var s struct {
		Schema     int
		Format     string
		Partitions []struct{ Designator string }
		Volumes    []struct {
			FileSystem string
			Verity     struct{ RootHash, Signature, Signer, Problem, Algorithm string }
		}
		Policy struct {
			Taken   bool
			Refused string
		}
		Unseen   string
		Contents struct {
			Verified   string
			Releases   []struct{ Class string }
			Privileged []struct{ Path, Capabilities string }
			Files      []struct{ Path string }
		}
	}
	inspect := func(args ...string) {
		t.Helper()
		code, text, errOut := program(t, append([]string{"inspect", "--json", "--files", out + "/web.raw"}, args...)...)
		must(t, json.Unmarshal([]byte(text), &s))
		if code != exitOK || errOut != "" || s.Schema != 1 || s.Format != "gpt" || len(s.Partitions) != 3 || len(s.Volumes) != 1 ||
			s.Volumes[0].Verity.RootHash != made.RootHash || s.Volumes[0].Verity.Algorithm != "sha256" || s.Volumes[0].Verity.Signature == "" {
			t.Fatalf("code %d, %q\n%s", code, errOut, text)
		}
	}
	inspect()
	c := s.Contents
	if !s.Policy.Taken || len(c.Releases) != 2 || len(c.Privileged) != 1 || c.Privileged[0].Path != "/usr/bin/web" ||
		c.Privileged[0].Capabilities != "cap_net_raw=ep cap_bpf=ep" || !strings.HasPrefix(c.Verified, "verified (") ||
		!slices.ContainsFunc(c.Files, func(f struct{ Path string }) bool { return f.Path == "/etc/web" }) {
		t.Errorf("%+v %s", s, errOut)
	}
	if s.Volumes[0].Verity.Signer != "" || s.Volumes[0].Verity.Problem == "" {
		t.Errorf("nobody is trusted here, and it says %+v", s.Volumes[0].Verity)
	}
	s.Contents.Releases = nil
	inspect("--image-policy", "root=signed")
	if s.Policy.Taken || s.Policy.Refused == "" || s.Unseen == "" || s.Contents.Releases != nil {
		t.Errorf("a policy that wants a signature: %+v", s)
	}
	// A usr partition is a file system of its own.
	must(t, os.Rename(dir+"/etc", t.TempDir()+"/etc"))
	program(t, "build", dir, "-o", out+"/web.raw", "--id", "_any", "--partition", "usr")
	_, text, _ = program(t, "inspect", "--json", "--files", out+"/web.raw")
	s.Contents.Files = nil
	must(t, json.Unmarshal([]byte(text), &s))
	if len(s.Contents.Privileged) != 1 || !slices.ContainsFunc(s.Contents.Files, func(f struct{ Path string }) bool { return f.Path == "/usr/bin/web" }) {
		t.Errorf("a usr partition: %+v", s.Contents)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), "web.raw") {
		t.Errorf("%v, mounted:\n%s", err, mounts)
	}
}
