package integration

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestPackages builds the packages as "make packages" does, and uses them as an administrator would.
func TestPackages(t *testing.T) {
	rig.Require(t)
	dir := buildPackages(t)
	t.Run("same bytes", func(t *testing.T) {
		again := buildPackages(t)
		for _, name := range []string{"extexec_amd64.deb", "extexec_amd64.rpm", "extexec_arm64.deb", "extexec_arm64.rpm"} {
			one, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			two, err := os.ReadFile(filepath.Join(again, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(one, two) {
				t.Errorf("%s is another one when it is built again", name)
			}
		}
	})
	t.Run("arm64", func(t *testing.T) { runForeign(t, filepath.Join(dir, "extexec_arm64.deb")) })
	for _, suite := range rig.Suites() {
		t.Run(suite.Name, func(t *testing.T) {
			t.Parallel()
			// Alone: it is installed over the program that the other tests use.
			c, deb := rig.Boot(t, suite, rig.Options{}), filepath.Join(dir, "extexec_amd64.deb")
			c.Remove("/usr/bin/extexec") // of the rig
			t.Run("manual page", func(t *testing.T) { usePackage(t, c.For(t), deb) })
			t.Run("tutorial", func(t *testing.T) { follow(t, c.For(t), deb) })
			if suite == rig.Trixie {
				t.Run("rpm", func(t *testing.T) { useRPM(t, c.For(t), filepath.Join(dir, "extexec_amd64.rpm")) })
			}
		})
	}
}

func buildPackages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	hostTool(t, "../packaging/build", dir)
	return dir
}

// hostTool runs a program of this machine, and returns what it writes.
func hostTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// runForeign runs what another architecture gets, as far as that needs no kernel of its own.
func runForeign(t *testing.T, deb string) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		qemu = "qemu-aarch64" // as Debian names it from trixie on
	}
	dir := t.TempDir()
	hostTool(t, "dpkg-deb", "-x", deb, dir)
	binary := filepath.Join(dir, "usr/bin/extexec")
	if out := hostTool(t, qemu, binary, "version"); !strings.HasPrefix(out, "extexec ") {
		t.Errorf("version says %q", out)
	}
	for _, v := range []string{"web_9_arm64", "web_10_arm64", "web_11_x86-64"} {
		if err := os.MkdirAll(filepath.Join(dir, "web.v", v), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := hostTool(t, qemu, binary, "pick", "--print", "filename", "--type", "dir", filepath.Join(dir, "web.v"))
	if out != "web_10_arm64\n" {
		t.Errorf("pick says %q", out)
	}
}

// manExample returns the blocks of commands in a section of a man page, as one types them.
func manExample(t *testing.T, page, section string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../man/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n.Sh "+section+"\n")
	after, _, _ = strings.Cut(after, "\n.Sh ")
	for _, m := range regexp.MustCompile(`(?s)\n\.Bd[^\n]*\n(.*?)\n\.Ed`).FindAllStringSubmatch("\n"+after, -1) {
		blocks = append(blocks, strings.NewReplacer(`\-`, "-", `\e`, `\`).Replace(m[1]))
	}
	return blocks
}

// manPageExample runs the example of extexec(1) word for word.
func manPageExample(t *testing.T, c *rig.Container) {
	t.Helper()
	c.UseUnit("nginx.service")
	c.Cleanup(func() { c.Remove("/etc/systemd/system/nginx.service.d") })
	c.Cleanup(func() { c.Remove("/srv/conf") })
	blocks := manExample(t, "extexec.1", "EXAMPLES")
	if len(blocks) != 4 {
		t.Fatalf("extexec(1) has %d blocks of commands, want 4: %q", len(blocks), blocks)
	}
	for i, want := range []string{"one", "two", "one", "connection refused"} {
		out := c.Must("sh", "-euxc", blocks[i])
		eventually(t, "the page is "+want, func() bool { return strings.Contains(readmeGet(c.HTTPClient()), want) })
		if t.Failed() {
			t.Fatal(out)
		}
	}
	c.Systemctl("stop", "nginx.service")
}

// usePackage installs the package, runs the example of extexec(1), and takes the package away.
func usePackage(t *testing.T, c *rig.Container, deb string) {
	at := c.TempDir() + "/extexec.deb"
	c.CopyIn(deb, at)
	c.Must("dpkg", "-i", at)
	c.Cleanup(func() { c.Exec(context.Background(), "dpkg", "-P", "extexec") }) // where the test ends early
	files := strings.Fields(c.Must("dpkg", "-L", "extexec"))
	if info := c.Must("stat", "-c", "%a", "/run/extexec/units", "/var/lib/extexec/units"); strings.TrimSpace(info) != "755\n700" {
		t.Errorf("modes of the directories for the state: %q", info)
	}
	if explained := c.Must("journalctl", "--list-catalog"); !strings.Contains(explained, "extexec:") {
		t.Error("the journal's catalog does not have what the package has for it")
	}

	manPageExample(t, c)

	c.Must("dpkg", "-r", "extexec")
	c.Must("dpkg", "-P", "extexec")
	for _, f := range append(files, "/run/extexec", "/var/lib/extexec", "/etc/systemd/system/nginx.service.d") {
		if strings.Contains(f, "extexec") && c.Exists(f) {
			t.Errorf("%s is left", f)
		}
	}
	if left := c.Must("journalctl", "--list-catalog"); strings.Contains(left, "extexec:") {
		t.Error("the journal's catalog has what the package had for it")
	}
}

// useRPM does the same with the .rpm, by rpm on Debian: with a database of its own, in which nothing else is.
func useRPM(t *testing.T, c *rig.Container, file string) {
	at, db := c.TempDir()+"/extexec.rpm", c.TempDir()
	c.CopyIn(file, at)
	rpm := func(args ...string) rig.Result {
		t.Helper()
		r := c.Exec(t.Context(), append([]string{"rpm", "--dbpath", db}, args...)...)
		if r.Code != 0 {
			t.Fatalf("rpm %s: %s", strings.Join(args, " "), r)
		}
		return r
	}
	files := strings.Fields(rpm("-qlp", at).Stdout)
	for _, dir := range []string{"/usr/share/man/man1", "/usr/share/man/man5", "/usr/share/man/man7", "/usr/share/zsh/site-functions"} {
		if !c.Exists(dir) { // another package's, where it is used, and so not in this one
			c.Mkdir(dir)
			c.Cleanup(func() { c.Must("rmdir", dir) })
		}
	}
	c.Cleanup(func() { // where the test ends early
		for _, f := range append(files, "/run/extexec", "/var/lib/extexec") {
			if strings.Contains(f, "extexec") {
				c.Remove(f)
			}
		}
	})
	rpm("-i", "--nodeps", at) // the database does not have what the distribution installed
	for _, again := range []string{"", "an upgrade"} {
		if changed := rpm("-V", "--nodeps", "extexec"); changed.Stdout != "" {
			t.Errorf("after %q files are not as they were packed: %s", again, changed)
		}
		if info := c.Must("stat", "-c", "%a", "/run/extexec/units", "/var/lib/extexec/units"); info != "755\n700" {
			t.Errorf("after %q the modes of the directories for the state are %q", again, info)
		}
		if explained := c.Must("journalctl", "--list-catalog"); !strings.Contains(explained, "extexec:") {
			t.Errorf("after %q the journal's catalog does not have what the package has for it", again)
		}
		if state := c.Show("extexec-repair.service", "LoadState"); state != "loaded" {
			t.Errorf("after %q systemd has the unit %s", again, state)
		}
		rpm("-U", "--nodeps", "--replacepkgs", at) // the scripts of the old package run after those of the new
	}
	manPageExample(t, c)

	const dropIn = "/etc/systemd/system/rpm-left.service.d/50-extexec.conf"
	c.WriteFile(dropIn, "", 0o644)
	c.Cleanup(func() { c.Remove(filepath.Dir(dropIn)) })
	const attached = "/run/systemd/system.attached"
	c.WriteFile(attached+"/rpm-portable.service.d/20-portable.conf", "[Service]\nBindReadOnlyPaths=/usr/bin/extexec:/run/extexec/extexec\n", 0o644)
	c.WriteFile(attached+"/rpm-plain.service.d/20-portable.conf", "[Service]\nRootDirectory=/srv/x\n", 0o644)
	c.Cleanup(func() { c.Remove(attached) })
	c.Forget("nginx.service") // an .rpm has no purge
	c.Remove("/var/lib/extexec/units/nginx.service")
	c.Remove("/run/extexec/units/nginx.service")
	if r := rpm("-e", "extexec"); !strings.Contains(r.Stderr, "rpm-left.service has a drop-in of extexec") ||
		!strings.Contains(r.Stderr, "rpm-portable.service was attached by extexec") || strings.Contains(r.Stderr, "rpm-plain") {
		t.Errorf("rpm -e does not name what is left: %s", r)
	}
	for _, f := range append(files, "/run/extexec", "/var/lib/extexec") {
		if strings.Contains(f, "extexec") && c.Exists(f) {
			t.Errorf("%s is left", f)
		}
	}
	if left := c.Must("journalctl", "--list-catalog"); strings.Contains(left, "extexec:") {
		t.Error("the journal's catalog has what the package had for it")
	}
}
