package withsystemd

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/testclient"
)

// profile confines a copy of testservice: one file of the extension it may read, the
// other it may not.
const profile = `abi <abi/4.0>,
include <tunables/global>
profile extexec-test /usr/bin/confined flags=(attach_disconnected) {
  include <abstractions/base>
  unix,
  /usr/bin/confined mr,
  /etc/web/ r,
  /etc/web/open r,
  /web/open r, # the same through a directory that was opened before an exchange
  /run/confined-*/ r,
  /run/confined-*/control rw,
  /run/systemd/notify w,
}
`

// TestAppArmor reloads services that a profile confines, enforcing: a wrapped one, which
// gets it by the path of its program, and an adopted one, by AppArmorProfile=.
func TestAppArmor(t *testing.T) {
	s := newStage(t)
	s.check(install("/usr/bin/testservice", "/usr/bin/confined"))
	s.write(s.dir+"/profile", profile)
	s.must("apparmor_parser", "--replace", s.dir+"/profile")
	t.Cleanup(func() { s.must("apparmor_parser", "--remove", s.dir+"/profile") })

	units := map[string]string{
		"confined-wrapped": `[Service]
Type=notify
RuntimeDirectory=%[1]s
ExecStart=!/usr/bin/extexec run -- %[3]s
ExecReload=+/usr/bin/extexec reload
[X-Extexec]
ExtensionDirectories=%[2]s/web.v
`,
		"confined-adopted": `[Service]
Type=notify
RuntimeDirectory=%[1]s
AppArmorProfile=extexec-test
ExecStart=%[3]s
ExecReload=+/usr/bin/extexec reload
RefreshOnReload=~extensions
ExtensionDirectories=%[2]s/web.v
`,
	}
	for name, text := range units {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			install := func(version string) {
				part := s.dir + "/web.v/.part"
				s.extension(part, map[string]string{"etc/web/open": version, "etc/web/closed": version})
				s.check(os.Rename(part, s.dir+"/web.v/web_"+version))
			}
			install("1")
			unit, socket := name+".service", "/run/"+name+"/control"
			s.units(map[string]string{unit: fmt.Sprintf(text, name, s.dir,
				"/usr/bin/confined -notify -pause 20ms -control "+socket+" -read /etc/web/open -read /etc/web/closed -read-at /etc/web:open")})
			confined := func(version string) {
				t.Helper()
				s.sees(socket, "/etc/web/open", version)
				r, err := testclient.Ask(socket, "report")
				s.check(err)
				if f := r.File("/etc/web/closed"); f.Failed == 0 || f.Failed != f.Lookups || !strings.Contains(f.FirstError, "permission denied") {
					t.Errorf("what the profile denies: %+v", f)
				}
				if f := r.File("/etc/web/open@"); f.Failed > 0 || f.Last != "1" {
					t.Errorf("what is read through an old directory: %+v", f)
				}
				if got := s.read(fmt.Sprintf("/proc/%d/attr/apparmor/current", s.mainPID(unit))); got != "extexec-test (enforce)\n" {
					t.Errorf("%s is confined by %q", unit, got)
				}
			}
			s.must("systemctl", "start", unit)
			confined("1")
			install("2")
			s.must("systemctl", "reload", unit)
			confined("2")
		})
	}
}
