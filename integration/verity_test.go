package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// signedImages are sysexts with the file /usr/lib/images/file, as systemd-repart and extexec make them; paths on this
// machine.
type signedImages struct {
	one, two string // signed with key, by systemd-repart and by extexec
	stranger string // signed with another key
	changed  string // two, with a bit of the file system flipped
	unsigned string
	crt      string
}

func newSignedImages(t *testing.T) signedImages {
	t.Helper()
	w := newWorkshop(t)
	w.do(`openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -days 30 -subj "/CN=extexec test" 2>/dev/null
		mkdir two stranger unsigned
		systemd-repart --offline=yes --pretty=no --private-key=web.key --certificate=web.crt --make-ddi=sysext --copy-source=$PWD/sysext one.raw
		echo two >sysext/usr/lib/images/file
		/usr/bin/extexec build sysext -o two/web.raw --key web.key --certificate web.crt
		echo three >sysext/usr/lib/images/file
		/usr/bin/extexec build sysext -o stranger/web.raw --key other.key --certificate other.crt
		/usr/bin/extexec build sysext -o unsigned/web.raw`)
	path := func(name string) string { return w.c.Path(w.dir + "/" + name) }
	table, _ := w.partitions("two/web.raw")
	b, err := os.ReadFile(path("two/web.raw"))
	if err != nil {
		t.Fatal(err)
	}
	b[table.Partitions[0].Offset+table.Partitions[0].Size/2] ^= 4
	changed := filepath.Join(t.TempDir(), "changed.raw")
	if err := os.WriteFile(changed, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return signedImages{path("one.raw"), path("two/web.raw"), path("stranger/web.raw"), changed, path("unsigned/web.raw"), path("web.crt")}
}

// TestSignedImages has a service that takes signed images alone: what is not signed, signed by somebody else, or changed
// by one bit never reaches it, neither at a start nor at a reload.
func TestSignedImages(t *testing.T) {
	t.Parallel()
	images := newSignedImages(t)
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		const crt = "/etc/verity.d/extexec-signed.crt"
		c.CopyIn(images.crt, crt)
		c.Cleanup(func() { c.Remove("/etc/verity.d") })
		for name, line := range map[string]string{
			"require": "RequireSignature=yes", "policy": "ExtensionImagePolicy=root=signed+absent:usr=signed+absent",
		} {
			c := c.For(t)
			dir, unit := c.TempDir(), "signed-"+name+".service"
			c.Mkdir(dir + "/web.v")
			version := func(n int) string { return fmt.Sprintf("%s/web.v/web_%d.raw", dir, n) }
			install := func(n int, image string) {
				c.CopyIn(image, dir+"/part")
				c.Rename(dir+"/part", version(n))
			}
			install(1, images.one)
			c.WriteUnit(unit, fmt.Sprintf(`[Service]
Type=notify
RuntimeDirectory=%[1]s
ExecStart=!/usr/bin/extexec run -- /usr/bin/testservice -notify -control /run/%[1]s/control -read /usr/lib/images/file
ExecReload=+/usr/bin/extexec reload
[X-Extexec]
ExtensionImages=%[2]s/web.v
%[3]s
`, unit, dir, line))
			c.Systemctl("start", unit)
			// A lookup that was under way when the reload ended may be the last one that is told.
			sees := func(content string) {
				t.Helper()
				eventually(t, unit+" sees "+content, func() bool {
					seen := c.AskService("/run/"+unit+"/control", "report").File("/usr/lib/images/file")
					if seen.Failed > 0 {
						t.Errorf("%s: lookups failed: %+v", unit, seen)
					}
					return seen.Last == content
				})
			}
			want := func(content string) {
				t.Helper()
				sees(content)
				if status := c.Must("/usr/bin/extexec", "status", unit); !strings.Contains(status, "verified (copy), signed: "+crt) {
					t.Errorf("status:\n%s", status)
				}
			}
			want("one\n")
			refused := func(verb string, words ...string) {
				t.Helper()
				if r := c.Exec(t.Context(), "systemctl", verb, unit); r.Code == 0 {
					t.Errorf("%s: %s did not fail", unit, verb)
				}
				journal := c.Journal(unit)
				for _, w := range words {
					if !strings.Contains(journal, w) {
						t.Errorf("%s: %s did not say %q:\n%s", unit, verb, w, journal)
					}
				}
			}
			for what, words := range map[string][]string{
				images.changed:  {"web_2.raw", "data block", "was changed"},
				images.stranger: {"web_2.raw", "none of those that are trusted (" + crt + ")"},
				images.unsigned: {"web_2.raw", "has no signature"},
			} {
				install(2, what)
				refused("reload", words...)
				want("one\n")
				c.Remove(version(2))
			}
			install(3, images.two)
			c.Systemctl("reload", unit)
			want("two\n")

			// The certificate is taken away: nothing has changed, and yet it is not trusted any more.
			c.Rename(crt, dir+"/crt")
			refused("reload", "no certificate is trusted")
			if r := c.Exec(t.Context(), "/usr/bin/extexec", "reload", "--if-changed", unit); r.Code != 1 || !strings.Contains(r.Stderr, "no certificate is trusted") {
				t.Errorf("reload --if-changed: %s", r)
			}
			sees("two\n")
			refused("restart", "no certificate is trusted")
			c.Rename(dir+"/crt", crt)
			c.Systemctl("start", unit)
			want("two\n")
			c.Systemctl("stop", unit)
		}
	})
}
