package withsystemd

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// address is nginx's: one that the policy gives to web servers.
const address = "127.0.0.1:8080"

// contexts are what Debian's policy calls the files of a system.
const contexts = "/etc/selinux/default/contexts/files/file_contexts"

// A web is nginx with its extension: the policy puts it into the domain httpd_t when it is
// executed.
type web struct {
	name, unit string
	image      bool // the extension is an image
}

var webs = []web{
	{name: "labelled-wrapped", unit: `[Service]
ExecStart=!/usr/bin/extexec run -- /usr/sbin/nginx -g "daemon off;"
ExecReload=+/usr/bin/extexec reload
[X-Extexec]
ExtensionDirectories=%s/web.v
ReloadSignal=HUP
`},
	{name: "labelled-adopted", image: true, unit: `[Service]
ExecStart=/usr/sbin/nginx -g "daemon off;"
ExecReload=+/usr/bin/extexec reload
RefreshOnReload=~extensions
ExtensionImages=%s/web.v
[X-Extexec]
ReloadSignal=HUP
`},
}

// TestSELinux reloads nginx in its domain, wrapped and adopted, while Debian's policy is
// enforced: what it may read of the new version it reads, what it may not it does not.
func TestSELinux(t *testing.T) {
	s := newStage(t)
	if got := s.read("/sys/fs/selinux/enforce"); got != "1" {
		t.Fatalf("SELinux does not enforce its policy: %q", got)
	}
	for _, w := range webs {
		t.Run(w.name, func(t *testing.T) { newStage(t).nginx(w) })
	}
}

// nginx starts the unit with one version and reloads it to the next.
func (s *stage) nginx(w web) {
	s.Helper()
	unit := w.name + ".service"
	s.units(map[string]string{unit: fmt.Sprintf(w.unit, s.dir)})
	s.site("1", w.image)
	s.must("systemctl", "start", unit)
	pid := s.mainPID(unit)
	s.serves(pid, "1")

	s.site("2", w.image)
	s.must("systemctl", "reload", unit)
	s.serves(pid, "2")
	if now := s.mainPID(unit); now != pid {
		s.Errorf("%s: pid %d, was %d", unit, now, pid)
	}
}

// site installs a version of nginx's files, with the labels that they would have if they
// were the system's. One of them is nobody's to read but login's.
func (s *stage) site(version string, image bool) {
	s.Helper()
	part := s.dir + "/web.v/.part"
	s.extension(part, map[string]string{
		"etc/nginx/conf.d/web.conf":   "server { listen " + address + "; location / { root /usr/share/nginx/html; } location /config { return 200 " + version + "; } }",
		"usr/share/nginx/html/page":   version,
		"usr/share/nginx/html/shadow": version,
	})
	s.must("setfiles", "-r", part, contexts, part)
	s.must("chcon", "-t", "shadow_t", part+"/usr/share/nginx/html/shadow")
	if image {
		// The policy has a domain for mkfs, which may not write here.
		s.must("extexec", "build", part, "--format", "squashfs", "-o", s.dir+"/web.v/web_"+version+".raw")
		s.check(os.RemoveAll(part))
		return
	}
	s.check(os.Rename(part, s.dir+"/web.v/web_"+version))
}

// serves checks what nginx serves, and what the policy sees of it.
func (s *stage) serves(pid int, version string) {
	s.Helper()
	// The workers with the new configuration start a moment after the signal.
	for end := time.Now().Add(time.Minute); s.get("/config") != "200 "+version && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	for path, want := range map[string]string{"/config": "200 " + version, "/page": "200 " + version, "/shadow": "403"} {
		if got := s.get(path); !strings.HasPrefix(got, want) {
			s.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := s.read(fmt.Sprintf("/proc/%d/attr/current", pid)); !strings.Contains(got, ":httpd_t:") {
		s.Errorf("nginx runs as %q", got)
	}
	for path, want := range map[string]string{
		"/etc/nginx/conf.d/web.conf": "httpd_config_t", "/usr/share/nginx/html/page": "httpd_sys_content_t",
		"/usr/share/nginx/html/shadow": "shadow_t", "/etc/passwd": "etc_t",
	} {
		label := make([]byte, 256)
		n, err := unix.Getxattr(fmt.Sprintf("/proc/%d/root%s", pid, path), "security.selinux", label)
		s.check(err)
		if got := string(label[:n]); !strings.Contains(got, ":"+want+":") {
			s.Errorf("%s has the label %q, want %s", path, got, want)
		}
	}
}

// get is the status of an answer, with its text where that is of nginx's making; "" where
// nobody answers yet.
func (s *stage) get(path string) string {
	s.Helper()
	r, err := http.Get("http://" + address + path)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	s.check(err)
	return fmt.Sprint(r.StatusCode, " ", string(b))
}
