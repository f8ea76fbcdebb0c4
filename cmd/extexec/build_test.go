package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extexec/extexec/image/gpt/gpttest"
)

// sourceTree makes a directory that is an extension, or with a nil release file only looks like one.
func sourceTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

const webRelease = "usr/lib/extension-release.d/extension-release.web"

func TestBuild(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "mksquashfs")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	source := sourceTree(t, map[string]string{webRelease: "ID=_any\n", "usr/bin/web": "x"})
	bare := sourceTree(t, map[string]string{"etc/web.conf": "x"})
	out := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{source, "--format", "erofs"}, "Release:  sysext, ID=_any\n"},
		{[]string{source, "--format", "squashfs", "--compression", "none"}, "Format:   squashfs, 4096 bytes\n"},
		{[]string{source, "--arch", "arm64"}, ", not signed\n"},
		{[]string{source, "--partition", "usr"}, ", not signed\n"},
		{[]string{bare, "--id", "debian", "--version-id", "13", "--arch", "x86-64"}, "confext, ID=debian VERSION_ID=13 ARCHITECTURE=x86-64\n"},
		{[]string{bare, "--id", "debian", "--level", "7"}, "confext, ID=debian CONFEXT_LEVEL=7\n"},
	} {
		var images [2][]byte
		for i := range images {
			code, text, errOut := call(append([]string{"build", "-o", out + "/web_1.raw"}, c.args...)...)
			if code != exitOK || !strings.Contains(text, c.want) || errOut != "" {
				t.Fatalf("%q: code %d\n%s%s", c.args, code, text, errOut)
			}
			var err error
			images[i], err = os.ReadFile(out + "/web_1.raw")
			must(t, err)
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("%q: two images differ", c.args)
		}
	}
	code, text, _ := call("build", "-o", out+"/web_1.raw", "--json", source, "--arch", "arm64")
	var made struct {
		Schema             int
		Size               int64
		RootHash           string
		Signed             bool
		Releases           []struct{ Class, File string }
		Partitions         []struct{ Designator, Architecture, UUID string }
		Architecture, Seed string
	}
	if err := json.Unmarshal([]byte(text), &made); err != nil || code != exitOK {
		t.Fatalf("code %d, %v\n%s", code, err, text)
	}
	st, err := os.Stat(out + "/web_1.raw")
	must(t, err)
	if made.Schema != 1 || made.Size != st.Size() || len(made.RootHash) != 64 || made.Signed || len(made.Releases) != 1 || made.Architecture != "arm64" ||
		made.Releases[0].Class != "sysext" || len(made.Partitions) != 2 || made.Partitions[1].Designator != "root-verity" || made.Partitions[0].Architecture != "arm64" {
		t.Errorf("%+v", made)
	}
	if entries, err := os.ReadDir(out); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestBuildRefuses(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "openssl")
	web := map[string]string{webRelease: "ID=_any\nARCHITECTURE=arm64\n", "opt/x": ""}
	source := sourceTree(t, web)
	out := t.TempDir()
	raw := filepath.Join(out, "web.raw")
	key := func(name string) (string, string) {
		dir := t.TempDir()
		k, c := filepath.Join(dir, name+".key"), filepath.Join(dir, name+".crt")
		b, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", k, "-out", c, "-subj", "/CN="+name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		return k, c
	}
	key1, cert1 := key("one")
	_, cert2 := key("two")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "wants one DIR"},
		{[]string{source}, exitUsage, "-o NAME.raw"},
		{[]string{source, "-o", out + "/web.img"}, exitUsage, "an image is called NAME.raw"},
		{[]string{source, "-o", out + "/.raw"}, exitUsage, "an image is called NAME.raw"},
		{[]string{source, "-o", raw, "--format", "ext4"}, exitUsage, "neither ddi, erofs nor squashfs"},
		{[]string{source, "-o", raw, "--key", key1}, exitUsage, "go together"},
		{[]string{source, "-o", raw, "--key", key1, "--certificate", cert1, "--format", "erofs"}, exitUsage, "has a place for a signature"},
		{[]string{source, "-o", raw, "--level", "1"}, exitUsage, "--level goes with --id"},
		{[]string{source, "-o", raw, "--arch", "amd64"}, exitUsage, "no architecture"},
		{[]string{source, "-o", raw, "--class", "both"}, exitUsage, "neither sysext nor confext"},
		{[]string{source, "-o", raw, "--seed", "x"}, exitUsage, "is no UUID"},
		{[]string{source, "-o", raw, "--partition", "home"}, exitUsage, "neither root nor usr"},
		{[]string{source, "-o", raw, "--partition", "usr", "--format", "erofs"}, exitUsage, "is for --format=ddi"},

		{[]string{"/nonexistent", "-o", raw}, exitFailed, "no such file"},
		{[]string{source, "-o", "/nonexistent/web.raw"}, exitFailed, "no such file"},
		{[]string{source + "/" + webRelease, "-o", raw}, exitFailed, "not a directory"},
		{[]string{source, "-o", source + "/usr/web.raw"}, exitFailed, "of which it is made"},
		{[]string{source, "-o", out + "/other.raw"}, exitFailed, "or give --id"},
		{[]string{source, "-o", raw, "--id", "debian"}, exitFailed, "it has a release file"},
		{[]string{source, "-o", raw, "--class", "confext"}, exitFailed, "no release file of a confext"},
		{[]string{source, "-o", raw, "--arch", "x86-64"}, exitFailed, `has ARCHITECTURE="arm64", and --arch is "x86-64"`},
		{[]string{source, "-o", raw, "--partition", "usr"}, exitFailed, `it has "opt"`},
		{[]string{source, "-o", raw, "--key", key1, "--certificate", cert2}, exitFailed, "not that of the certificate"},
		{[]string{source, "-o", raw, "--key", cert1, "--certificate", cert1}, exitFailed, "without a password"},
		{[]string{source, "-o", raw, "--key", "/nonexistent", "--certificate", cert1}, exitFailed, "no such file"},
		{[]string{t.TempDir(), "-o", raw, "--id", "debian"}, exitFailed, "it is no extension"},
		{[]string{sourceTree(t, map[string]string{"usr/x": "", "README": ""}), "-o", raw, "--id", "debian"}, exitFailed, `it has "README"`},
		{[]string{source, "-o", raw, "--format", "erofs", "--compression", "nonsense"}, exitFailed, "mkfs.erofs fails"},
	} {
		code, text, errOut := call(append([]string{"build"}, c.args...)...)
		if code != c.code || text != "" || !strings.Contains(errOut, c.want) || c.code != exitUsage && strings.Count(errOut, "\n") != 1 {
			t.Errorf("%q: code %d, %q, %q", c.args, code, text, errOut)
		}
		if entries, err := os.ReadDir(out); err != nil || len(entries) != 0 {
			t.Fatalf("%q left %v, %v", c.args, entries, err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if code, _, errOut := call("build", source, "-o", raw); code != exitFailed || !strings.Contains(errOut, `SOURCE_DATE_EPOCH="yesterday"`) {
		t.Errorf("code %d, %q", code, errOut)
	}
}

// compose takes root, and threads of its own.
func program(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "EXTEXEC_TEST_MAIN=1")
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	_ = c.Run()
	return c.ProcessState.ExitCode(), o.String(), e.String()
}

func TestCompose(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "mksquashfs")
	low := sourceTree(t, map[string]string{"usr/share/web/a": "low", "usr/share/web/b": "low"})
	high := sourceTree(t, map[string]string{"usr/share/web/b": "high", "etc/web": "high"})
	out := t.TempDir()
	for i, args := range [][]string{
		{"build", low, "-o", out + "/low.raw", "--format", "erofs", "--id", "debian", "--version-id", "13"},
		{"build", high, "-o", out + "/high.raw", "--format", "squashfs", "--id", "_any"},
		{"compose", out + "/low.raw", out + "/high.raw", "-o", out + "/one_2.raw", "--format", "squashfs"},
	} {
		code, text, errOut := program(t, args...)
		if code != exitOK || errOut != "" {
			t.Fatalf("%q: code %d\n%s%s", args, code, text, errOut)
		}
		if want := "/usr/share/web/b"; i == 2 && (!strings.Contains(text, "sysext, ID=debian VERSION_ID=13\n") || !strings.Contains(text, "confext, ID=_any\n") ||
			strings.Count(text, want) != 1 || !strings.Contains(text, want+"  "+out+"/high.raw  "+out+"/low.raw\n")) {
			t.Errorf("it says\n%s", text)
		}
	}
	unpacked := t.TempDir() + "/x"
	if b, err := exec.Command("unsquashfs", "-d", unpacked, out+"/one_2.raw").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	for name, want := range map[string]string{
		"usr/share/web/a": "low", "usr/share/web/b": "high", "etc/web": "high",
		"usr/lib/extension-release.d/extension-release.one": "ID=debian\nVERSION_ID=13\n", "etc/extension-release.d/extension-release.one": "ID=_any\n",
	} {
		if b, err := os.ReadFile(filepath.Join(unpacked, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	_, text, _ := program(t, "compose", "--json", out+"/low.raw", out+"/high.raw", "-o", out+"/one_2.raw")
	var made struct {
		Schema    int
		Parts     []string
		Conflicts []struct {
			Path, Shown string
			Hidden      []string
		}
		RootHash string
	}
	if err := json.Unmarshal([]byte(text), &made); err != nil || made.Schema != 1 || len(made.Parts) != 2 || len(made.Conflicts) != 1 || len(made.RootHash) != 64 {
		t.Errorf("%v, %+v", err, made)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 3 {
		t.Errorf("left: %v, %v", entries, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{out + "/low.raw", t.TempDir()}, "has no release file"},
		{[]string{out + "/low.raw", "/nonexistent"}, "no such file"},
		{[]string{out + "/low.raw", "/dev/null"}, "must be a regular file"},
		{[]string{out + "/low.raw", "--image-policy", "root=signed"}, "image policy"},
	} {
		code, text, errOut := program(t, append([]string{"compose", "-o", out + "/bad.raw"}, c.args...)...)
		if code != exitFailed || text != "" || !strings.Contains(errOut, c.want) || strings.Count(errOut, "\n") != 1 {
			t.Errorf("%q: code %d, %q %q", c.args, code, text, errOut)
		}
	}
	if now, err := os.ReadDir(out); err != nil || len(now) != len(entries) {
		t.Errorf("left: %v, %v", now, err)
	}
}
