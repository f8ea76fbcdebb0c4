package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLint judges a unit file with what its extensions lead to.
func TestLint(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "conf.v/conf_1/etc/extension-release.d")
	must(t, os.MkdirAll(made, 0o755))
	must(t, os.WriteFile(made+"/extension-release.conf", []byte("ID=_any\n"), 0o644))
	must(t, os.Mkdir(dir+"/empty.v", 0o755))
	must(t, os.WriteFile(dir+"/extexec", nil, 0o755))
	lint := func(lines string) (int, string, string) {
		t.Helper()
		text := "[Service]\nExecStart=!" + dir + "/extexec run --allow-untrusted-path -- /bin/a\nExecReload=+" + dir + "/extexec reload\n[X-Extexec]\nReloadSignal=HUP\n" + lines + "\n"
		must(t, os.WriteFile(dir+"/web.service", []byte(text), 0o644))
		return call("lint", "--systemd-version", "262", dir+"/web.service")
	}
	code, out, errOut := lint("ExtensionDirectories=" + dir + "/conf.v")
	if code != exitOK || !strings.Contains(out, "web.service: 0 errors, ") || !strings.Contains(out, "it is wrapped") {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
	for lines, want := range map[string]string{
		"ExtensionDirectories=" + dir + "/missing.v": "web.service:6: error: pick extension",
		"ExtensionDirectories=" + dir + "/empty.v":   "web.service:6: error: pick extension",
		"ExtensionDirectory=/x":                      `web.service:6: error: unknown key "ExtensionDirectory" in [X-Extexec]: did you mean ExtensionDirectories=?`,
	} {
		if code, out, errOut := lint(lines); code != exitFailed || !strings.Contains(out, want) || errOut != "" {
			t.Errorf("%s: code %d\n%s%s", lines, code, out, errOut)
		}
	}
	_, out, _ = call("lint", "--json", "--systemd-version", "262", dir+"/web.service")
	var report struct {
		Schema    int
		Way       string
		NoWrapper []struct{} `json:"no_wrapper"`
		Findings  []struct{ Severity, File, Message string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Schema != 1 || report.Way != "wrapper" || report.NoWrapper == nil || len(report.Findings) == 0 {
		t.Errorf("%v\n%s", err, out)
	}
	must(t, os.WriteFile(dir+"/web.service", []byte("[Service\n"), 0o644))
	if code, out, _ := call("lint", "--systemd-version", "262", dir+"/web.service"); code != exitFailed || !strings.Contains(out, "web.service:1: error: ") {
		t.Errorf("a file that does not parse: code %d\n%s", code, out)
	}
	if code, _, errOut := call("lint", "--systemd-version", "262", "no-such-unit"); code != exitFailed || !strings.Contains(errOut, `unit "no-such-unit.service" not found in systemd's search path: check the name; a path with a slash in it names a unit file`) {
		t.Errorf("no unit: code %d, %q", code, errOut)
	}
}

// TestNoSuchUnit: a verb that takes a name alone does not offer to take a path.
func TestNoSuchUnit(t *testing.T) {
	for _, args := range [][]string{{"install", t.TempDir(), "no-such-unit"}, {"adopt", "--dry-run", "--systemd-version", "262", "no-such-unit"}} {
		if code, _, errOut := call(args...); code != exitFailed || !strings.HasSuffix(errOut, `unit "no-such-unit.service" not found in systemd's search path: check the name`+"\n") {
			t.Errorf("%q: code %d, %q", args, code, errOut)
		}
	}
}

func TestDropInUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"adopt"}, "adopt wants one UNIT"},
		{[]string{"wrap", "a", "b"}, "got 2 arguments"},
		{[]string{"wrap", "./a.service"}, "./a.service"},
		{[]string{"adopt", "a.socket"}, "wants a service"},
		{[]string{"wrap", "--undo", "--extension-image", "/a", "b"}, "--undo takes no extensions"},
		{[]string{"adopt", "--systemd-version", "262", "b"}, "--systemd-version is for --dry-run"},
		{[]string{"lint"}, "lint wants one UNIT or FILE"},
	} {
		code, out, errOut := call(c.args...)
		if code != exitUsage || out != "" || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, output %q, error %q", c.args, code, out, errOut)
		}
	}
}
