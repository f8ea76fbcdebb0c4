package integration

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// readmeConfext is what the examples of README.md name.
const readmeConfext = "/srv/conf/nginx.v/"

// An example is a block of a page of the documentation, below the comment "example: HEAD".
type example struct{ head, text string }

// examples returns the examples of a page, by its path below the root of the tree.
func examples(t *testing.T, page string) (all []example) {
	t.Helper()
	text, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)<!-- example: ([^\n]*) -->\n```[a-z]*\n(.*?)```").FindAllSubmatch(text, -1) {
		all = append(all, example{head: string(m[1]), text: string(m[2])})
	}
	return all
}

// readmeExample returns the drop-in that stands in README.md below the comment "example: HEAD".
func readmeExample(t *testing.T, head string) string {
	t.Helper()
	for _, e := range examples(t, "README.md") {
		if e.head == head {
			return e.text
		}
	}
	t.Fatalf("README.md has no example %q", head)
	return ""
}

// TestReadmeExamples runs Debian's nginx with the drop-ins of README.md as they stand there.
func TestReadmeExamples(t *testing.T) {
	for _, suite := range rig.Suites() {
		t.Run(suite.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Boot(t, suite, rig.Options{}) // alone: the unit and its port are others' too
			t.Run("wrapper", func(t *testing.T) { readmeNginx(t, c.For(t), readmeExample(t, "wrapper nginx.service")) })
			if c.SystemdVersion() < 256 {
				return // this systemd applies neither a confext nor a .v/ directory
			}
			t.Run("adopt", func(t *testing.T) { readmeNginx(t, c.For(t), readmeExample(t, "adopt nginx.service")) })
		})
	}
}

func readmeNginx(t *testing.T, c *rig.Container, dropIn string) {
	readmeInstall(c, "1", "one\n")
	c.Cleanup(func() { c.Remove("/srv/conf") })
	c.WriteUnit("nginx.service.d/extexec.conf", dropIn)
	c.Systemctl("start", "nginx.service")
	client, pid := c.HTTPClient(), c.MainPID("nginx.service")
	if got := readmeGet(client); got != "one\n" {
		t.Errorf("the page of version 1 is %q", got)
	}
	readmeInstall(c, "2", "two\n")
	c.Systemctl("reload", "nginx.service")
	eventually(t, "the page of version 2 is served", func() bool { return readmeGet(client) == "two\n" })
	if now := c.MainPID("nginx.service"); now != pid {
		t.Errorf("main process %v, was %v", now, pid)
	}
	if out := c.Must("extexec", "status", "nginx"); !strings.Contains(out, "as recorded") {
		t.Errorf("status: %s", out)
	}
}

// readmeInstall installs a version of the confext by rename.
func readmeInstall(c *rig.Container, version, page string) {
	const made = "/srv/conf/incoming"
	c.WriteFile(made+"/etc/extension-release.d/extension-release.nginx", "ID=_any\n", 0o644)
	c.WriteFile(made+"/etc/nginx/conf.d/example.conf", "server { listen 8081; location / { return 200 \""+strings.TrimSpace(page)+"\\n\"; } }\n", 0o644)
	c.Mkdir(readmeConfext)
	c.Rename(made, readmeConfext+"nginx_"+version)
}

func readmeGet(client *http.Client) string {
	resp, err := client.Get("http://127.0.0.1:8081/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(page)
}
