package unitfile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// need gives the path of a program of systemd, which is the oracle. Without it
// the test is skipped; where the rig is required that is a failure.
func need(t *testing.T, programs ...string) string {
	t.Helper()
	for _, p := range programs {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
		t.Fatalf("needs %s", programs[0])
	}
	t.Skipf("needs %s", programs[0])
	return ""
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	return strings.TrimSuffix(string(out), "\n"), err
}

func TestOracleUnescape(t *testing.T) {
	tool := need(t, "systemd-escape")
	for _, in := range []string{"a/b c", ".a.b@c", "-", `\`, "ä€", "a:b_c", "foo.service", "%n", "a\tb", "..", "/"} {
		escaped, err := output(tool, "--", in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Unescape(escaped); got != in || err != nil {
			t.Errorf("unescape %q: %q, %v; want %q", escaped, got, err, in)
		}
	}
	for _, in := range []string{"-", "foo-bar", `\x2ex`, "-a", "a-", "a--b", `\x2e`, `a-\x2e\x2e`, `\x`, "a@b"} {
		want, wantErr := output(tool, "--unescape", "--path", "--", in)
		if got, err := UnescapePath(in); got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("unescape path %q: %q, %v; systemd-escape %q, %v", in, got, err, want, wantErr)
		}
	}
}

func TestOracleTimeSpan(t *testing.T) {
	tool := need(t, "systemd-analyze")
	usec := regexp.MustCompile(`s: (\d+)`)
	spans := slices.Concat(sortedKeys(timeSpans), notTimeSpans)
	for _, in := range spans {
		got, err := ParseTimeSpan(in)
		out, wantErr := output(tool, "timespan", "--", in)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %v, %v; systemd-analyze: %v", in, got, err, wantErr)
			continue
		}
		if err != nil || got == Infinity {
			continue
		}
		m := usec.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("systemd-analyze timespan %q said %q", in, out)
		}
		if want, _ := strconv.ParseInt(m[1], 10, 64); time.Duration(want)*time.Microsecond != got {
			t.Errorf("%q: %v, systemd-analyze %s µs", in, got, m[1])
		}
	}
}

// oracle lets the service manager itself (in its test mode, which starts
// nothing) read units, and gives what it dumped of each.
func oracle(t *testing.T, files map[string]string) (dir string, dump map[string][]string) {
	t.Helper()
	manager := need(t, "/usr/lib/systemd/systemd", "/lib/systemd/systemd")
	// The manager runs as nobody, who cannot look into a t.TempDir.
	dir, err := os.MkdirTemp("/tmp", "unitfile-oracle-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	wants := "[Unit]\nDefaultDependencies=no\n"
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(data, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(name, "/") && !strings.Contains(name, "@.") {
			wants += "Wants=" + name + "\n"
		}
	}
	wants += "Wants=foo-bar@x.service\n"
	if err := os.WriteFile(filepath.Join(dir, "all.target"), []byte(wants), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(manager, "--test", "--system", "--unit=all.target")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SYSTEMD_UNIT_PATH=" + dir, "SYSTEMD_LOG_LEVEL=err"}
	if os.Getuid() == 0 { // its test mode refuses root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	dump = map[string][]string{}
	unit := ""
	for l := range strings.Lines(string(out)) {
		l = strings.TrimSpace(l)
		if name, ok := strings.CutPrefix(l, "-> Unit "); ok {
			unit = strings.TrimSuffix(name, ":")
		} else if strings.HasPrefix(l, "-> Job ") || strings.HasPrefix(l, "--> ") {
			unit = ""
		}
		dump[unit] = append(dump[unit], l)
	}
	if dump["all.target"] == nil {
		t.Fatalf("systemd --test: %v\n%s", err, out)
	}
	return dir, dump
}

// lines gives what follows a label in a dump.
func lines(dump []string, label string) []string {
	var list []string
	for _, l := range dump {
		if v, ok := strings.CutPrefix(l, label+": "); ok {
			list = append(list, v)
		}
	}
	return list
}

// oracleTexts are put behind "[Unit]"; the description is what is compared.
var oracleTexts = []string{
	"Description=a\\\nb\\\nc\n",
	"Description=a\\\n#c\\\nb\\\n ;c\nd\n",
	"#c\\\nDescription=a \\\n   b\n",
	"Description=a\\\n\nDocumentation=man:x\n",
	"Description=a\\\\\nDocumentation=man:x\n",
	"Description=1\\\\\\\n\\\\2\n",
	"Description=a\r\nDescription=b\\\r\nc\r\n",
	"Description=a\rDescription=b\r",
	"  Description \t= x = y  # z ; \"q\" \\t\n",
	"Description=a\nfoo\n=x\nDescription=b\\",
	"Description=a\n[X-Other]\nDescription=b\n[Unit]\nDescription=%n %N %p %P %j %J %f %% %- 100%\n",
	"Description=a\nDescription=\n[Service]\nDescription=c\n",
}

var oracleExecs = []string{
	`/bin/echo "a b" c\td \; x\;y ";" '\x41\101\u20ac' \q ; /bin/true %% a`,
	`-@/bin/sh foo "" $FOO ${BAR} $$`,
	`:/bin/sh -c 'a "b" c' "it's" a"b c"d`,
	`/bin/sh a;b ;c ; ; /bin/sh \\; \s\x20 "\"" '\''`,
	`//bin//./sh trailing\`,
	`/bin/sh a \` + "\n# comment\n  b",
}

func TestOracleManager(t *testing.T) {
	files := map[string]string{
		"foo-bar@.service":    "[Unit]\nDefaultDependencies=no\nDescription=%n %N %p %P %i %I %j %J %f %d\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
		"al-ias@.service":     "-> foo-bar@.service",
		"unit-masked.service": "-> /dev/null",
	}
	for i, d := range []string{"foo-bar@x", "foo-bar@", "foo-", "foo-@x", "foo-@", "al-ias@x", "al-@x", "al-", ""} {
		dir := d + ".service.d/"
		if d == "" {
			dir = "service.d/"
		}
		files[dir+fmt.Sprintf("%d.conf", i)] = "[Service]\n"
		files[dir+"same.conf"] = "[Service]\nEnvironment=A=" + d + "\n"
	}
	for i, text := range oracleTexts {
		files[fmt.Sprintf("lex-%d.service", i)] = "[Unit]\nDefaultDependencies=no\n" + text + "\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
	}
	for i, text := range oracleExecs {
		files[fmt.Sprintf("exec-%d.service", i)] = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=" + text + "\n"
	}
	dir, dump := oracle(t, files)
	for name := range dump {
		if strings.HasPrefix(name, "lex-") || strings.HasPrefix(name, "exec-") || strings.HasPrefix(name, "foo-") {
			compareWithManager(t, dir, name, dump[name])
			delete(files, name)
		}
	}
	for name := range files {
		if !strings.Contains(name, "/") && !strings.Contains(name, "@") && name != "unit-masked.service" {
			t.Errorf("the manager dumped nothing of %s", name)
		}
	}
}

func compareWithManager(t *testing.T, dir, name string, dump []string) {
	t.Helper()
	u, err := Load(os.DirFS("/"), name, []string{dir})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	spec := Specifiers{Unit: u.Name, Fragment: u.Fragment}
	want := lines(dump, "Description")[0]
	if a, _ := u.Last("Unit", "Description"); a.Value != "" {
		if got, err := spec.Expand(a.Value); err != nil || got != want {
			t.Errorf("%s: description %q, %v; the manager has %q", name, got, err, want)
		}
	}
	if d := cmp.Diff(lines(dump, "DropIn Path"), u.DropIns); d != "" {
		t.Errorf("%s: drop-ins (-manager +ours):\n%s", name, d)
	}
	if aliases := lines(dump, "Alias"); len(aliases) != len(u.Names)-1 {
		t.Errorf("%s: names %v; the manager has aliases %v", name, u.Names, aliases)
	}
	var wantArgs, gotArgs [][]string
	for _, l := range lines(dump, "Command Line") {
		words, err := Splitter{Unquote: true, CUnescape: true, UnescapeRelax: true}.All(l)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range words { // the dump is quoted for a shell
			words[i] = strings.ReplaceAll(w, `\$`, "$")
		}
		wantArgs = append(wantArgs, words)
	}
	for _, a := range u.List("Service", "ExecStart") {
		commands, err := ParseExec(a.Value, spec.Expand)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range commands {
			gotArgs = append(gotArgs, c.Argv)
		}
	}
	if d := cmp.Diff(wantArgs, gotArgs); d != "" {
		t.Errorf("%s: commands (-manager +ours):\n%s", name, d)
	}
}
