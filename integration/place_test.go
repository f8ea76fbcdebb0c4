package integration

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/procstate"
	"github.com/extexec/extexec/integration/rig"
)

// placeUnits are the settings whose outcome a process can see, a few at a time.
var placeUnits = map[string]string{
	"plain":   "",
	"user":    "User=www-data\nSupplementaryGroups=games\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n",
	"dynamic": "DynamicUser=yes\nUser=place-user\nStateDirectory=place\n",
	"tuned": `LimitNOFILE=777:8888
LimitCORE=0
UMask=0027
OOMScoreAdjust=300
IgnoreSIGPIPE=no
WorkingDirectory=/usr
NoNewPrivileges=yes
Environment=A=b "C=d e"
PrivateTmp=yes
StandardOutput=file:/dev/null
`,
	"capabilities": "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SETUID CAP_SETGID CAP_CHOWN\nUser=games\nGroup=www-data\n",
}

// TestWrapperLeavesTheProcessAlone starts each unit twice, bare and through extexec run, and compares what the
// two processes were started with.
func TestWrapperLeavesTheProcessAlone(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		dir := c.TempDir()
		c.WriteFile(dir+"/conf/etc/extension-release.d/extension-release.conf", "ID=_any\n", 0o644)
		c.WriteFile(dir+"/conf/etc/place.conf", "x\n", 0o644)
		extension := "[X-Extexec]\nExtensionDirectories=" + dir + "/conf\n"
		for name, lines := range placeUnits {
			t.Run(name, func(t *testing.T) {
				c := c.For(t)
				bare := placeOf(t, c, "place-bare-"+name+".service", "", lines)
				wrapped := placeOf(t, c, "place-wrapped-"+name+".service", "!/usr/bin/extexec run -- ", lines+extension)
				if name == "dynamic" {
					// 257 and later leave inheritable bits there from setting up a seccomp filter. Without
					// capabilities on files they mean nothing.
					delete(bare.Caps, "CapInh")
					delete(wrapped.Caps, "CapInh")
				}
				if diff := cmp.Diff(bare, wrapped); diff != "" {
					t.Errorf("-bare +wrapped\n%s", diff)
				}
			})
		}
	})
}

var digits = regexp.MustCompile(`[0-9]+`)

// placeOf starts the unit and describes its process, without what differs from start to start. It runs a C
// program: a Go program would have changed some of it.
func placeOf(t *testing.T, c *rig.Container, unit, prefix, lines string) *procstate.State {
	t.Helper()
	c.WriteUnit(unit, "[Service]\nType=exec\nExecStart="+prefix+"/usr/bin/sleep infinity\n"+lines)
	c.Systemctl("start", unit)
	pid := c.MainPID(unit)
	var s *procstate.State
	eventually(t, unit+" has exec'ed", func() bool {
		var err error
		s, err = procstate.Read(pid.Host)
		return err == nil && len(s.Argv) == 2 && s.Argv[1] == "infinity"
	})
	c.Systemctl("stop", unit)
	for _, v := range []string{"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MEMORY_PRESSURE_WATCH"} {
		delete(s.Env, v)
	}
	for n, fd := range s.FDs {
		fd.Target = digits.ReplaceAllString(fd.Target, "N")
		s.FDs[n] = fd
	}
	s.Namespaces, s.Cgroup = nil, ""
	return s
}
