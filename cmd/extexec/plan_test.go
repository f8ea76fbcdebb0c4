package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A web is a service by hand with versions of a confext.
type web struct {
	t   *testing.T
	dir string
}

func newWeb(t *testing.T) *web {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	return &web{t: t, dir: t.TempDir()}
}

// install makes a version appear by rename. All its files are of one time.
func (w *web) install(version string, files map[string]string) {
	w.t.Helper()
	tmp := filepath.Join(w.dir, "new")
	files["extension-release.d/extension-release.web"] = "ID=_any\n"
	for name, text := range files {
		path := filepath.Join(tmp, "etc", name)
		must(w.t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, link := strings.CutPrefix(text, "-> "); link {
			must(w.t, os.Symlink(target, path))
			continue
		}
		must(w.t, os.WriteFile(path, []byte(text), 0o644))
		when := time.Unix(1e9, 0)
		must(w.t, os.Chtimes(path, when, when))
	}
	must(w.t, os.MkdirAll(filepath.Join(w.dir, "web.v"), 0o755))
	must(w.t, os.Rename(tmp, filepath.Join(w.dir, "web.v", "web_"+version)))
}

// start runs the service until the test ends.
func (w *web) start() {
	w.t.Helper()
	c := exec.Command("unshare", "-m", "--propagation", "private", os.Args[0], "run", "--state-dir", w.dir+"/state", "--name", "web",
		"--allow-untrusted-path", "--extension-directory", w.dir+"/web.v", "--", "sh", "-c", "echo ready; exec cat")
	c.Env = append(os.Environ(), "EXTEXEC_TEST_MAIN=1")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	must(w.t, err)
	out, err := c.StdoutPipe()
	must(w.t, err)
	must(w.t, c.Start())
	w.t.Cleanup(func() { in.Close(); must(w.t, c.Wait()) })
	if _, err := out.Read(make([]byte, 16)); err != nil {
		w.t.Fatal(err)
	}
}

// program runs the program as a process of its own: it changes threads.
func (w *web) program(args ...string) (code int, out, errOut string) {
	w.t.Helper()
	c := exec.Command(os.Args[0], append(args, "--state-dir", w.dir+"/state")...)
	c.Env = append(os.Environ(), "EXTEXEC_TEST_MAIN=1")
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	_ = c.Run()
	return c.ProcessState.ExitCode(), strings.ReplaceAll(o.String(), w.dir, "DIR"), e.String()
}

func TestPlan(t *testing.T) {
	w := newWeb(t)
	w.install("1", map[string]string{"extexec-web/web.conf": "port 80\nworkers 4\n", "extexec-web/old": "x\n"})
	w.start()
	code, out, errOut := w.program("plan", "--exit-code", "web")
	if code != exitOK || errOut != "" || strings.Contains(out, "added") || !strings.HasPrefix(out, "web: generation 1 is live, and ") {
		t.Errorf("nothing changed: code %d\n%s%s", code, out, errOut)
	}
	w.install("2", map[string]string{"extexec-web/web.conf": "port 8080\nworkers 4\n", "extexec-web/link": "-> web.conf", "extexec-web/bin": "\x00\x1b[31m"})
	code, out, errOut = w.program("plan", "--exit-code", "--diff", "web")
	want := `web: generation 1 is live; a reload would make a new one

EXTENSION          VERSION  STATE
DIR/web.v          2        other version: was DIR/web.v/web_1
  DIR/web.v/web_2  2        is picked
  DIR/web.v/web_1  1        is older than "web_2"

/etc: 2 added, 1 changed, 1 removed
  A  /etc/extexec-web/bin               web_2
  A  /etc/extexec-web/link -> web.conf  web_2
  D  /etc/extexec-web/old               web_1
  M  /etc/extexec-web/web.conf          web_1 -> web_2  size, content

--- /etc/extexec-web/bin: not shown: binary

--- a/etc/extexec-web/old
+++ /dev/null
@@ -1 +0,0 @@
-x

--- a/etc/extexec-web/web.conf
+++ b/etc/extexec-web/web.conf
@@ -1,2 +1,2 @@
-port 80
+port 8080
 workers 4
`
	// The table is as wide as the name of the directory was.
	if d := cmp.Diff(squeeze(want), squeeze(out)); code != exitChanges || errOut != "" || d != "" {
		t.Errorf("code %d, %q (-want +got):\n%s", code, errOut, d)
	}
	code, out, errOut = w.program("plan", "--json", "web")
	var plan struct {
		Schema      int
		Name        string
		Action      string
		Changes     bool
		Hierarchies []struct {
			Path  string
			Files []struct{ Path, Change, From, To string }
		}
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || code != exitOK || plan.Schema != 1 || plan.Action != "exchange" || !plan.Changes ||
		len(plan.Hierarchies) != 3 || plan.Hierarchies[2].Path != "/etc" || len(plan.Hierarchies[2].Files) != 4 {
		t.Errorf("code %d, %v %q\n%s", code, err, errOut, out)
	}

	// What a reload would refuse, plan does; JSON has the reason in it.
	w.install("3", map[string]string{})
	must(t, os.Remove(w.dir+"/web.v/web_3/etc/extension-release.d/extension-release.web"))
	code, out, errOut = w.program("plan", "--exit-code", "web")
	if code != exitFailed || !strings.Contains(out, "web_3") || !strings.HasPrefix(errOut, `error: plan "web": open extension `) {
		t.Errorf("a bad version: code %d\n%s%s", code, out, errOut)
	}
	_, out, _ = w.program("plan", "--json", "web")
	var failed struct{ Error string }
	if err := json.Unmarshal([]byte(out), &failed); err != nil || !strings.Contains(failed.Error, "no release file") {
		t.Errorf("%v, %q", err, failed.Error)
	}
}

// squeeze makes one blank of several.
func squeeze(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, " ") && !strings.Contains(l, "workers") || strings.HasPrefix(l, "DIR") || strings.HasPrefix(l, "EXT") {
			lines[i] = strings.Join(strings.Fields(l), " ")
		}
	}
	return strings.Join(lines, "\n")
}
