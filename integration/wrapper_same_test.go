package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/integration/procstate"
	"github.com/extexec/extexec/integration/rig"
)

// sameCases are the lines of [Service] under which a process must be the same, whether systemd executes it or
// extexec run does.
var sameCases = map[string]string{
	"plain":         "",
	"user":          "User=www-data",
	"uid":           "User=33",
	"user-root":     "User=root",
	"user-group":    "User=www-data\nGroup=adm",
	"user-groups":   "User=www-data\nSupplementaryGroups=adm audio",
	"root-groups":   "SupplementaryGroups=adm 4102",
	"root-group":    "Group=adm",
	"member":        "User=wrapmember",
	"member-group":  "User=wrapmember\nGroup=adm\nSupplementaryGroups=audio",
	"nobody":        "User=nobody",
	"dynamic":       "DynamicUser=yes",
	"dynamic-named": "DynamicUser=yes\nUser=wrapdynamic\nSupplementaryGroups=adm\nStateDirectory=%p",

	"ambient":         "User=www-data\nAmbientCapabilities=CAP_NET_BIND_SERVICE CAP_CHOWN",
	"ambient-dynamic": "DynamicUser=yes\nAmbientCapabilities=CAP_NET_RAW",
	"ambient-root":    "AmbientCapabilities=CAP_NET_RAW",
	"bounding":        "User=www-data\nCapabilityBoundingSet=~CAP_SYS_TIME CAP_SYSLOG",
	"bounding-root":   "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_NET_BIND_SERVICE",
	"bounding-user":   "User=games\nGroup=www-data\nCapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SETUID CAP_SETGID CAP_CHOWN",
	"no-new-privs":    "User=www-data\nNoNewPrivileges=yes",
	"nnp-ambient":     "User=www-data\nNoNewPrivileges=yes\nAmbientCapabilities=CAP_NET_BIND_SERVICE",
	"securebits":      "User=www-data\nSecureBits=keep-caps",
	"seccomp":         "User=www-data\nSystemCallArchitectures=native\nSystemCallFilter=~@clock @reboot",
	"seccomp-root":    "SystemCallFilter=@system-service @mount",
	"hardened":        "User=www-data\nProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectControlGroups=yes\nProtectClock=yes\nProtectHostname=yes\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\nRestrictAddressFamilies=AF_UNIX AF_INET",
	"namespaces":      "PrivateNetwork=yes\nPrivateIPC=yes\nProtectHostname=yes\nRestrictNamespaces=mnt",

	"limits":  "LimitNOFILE=2048:8192\nLimitCORE=0\nLimitNPROC=500\nUser=www-data",
	"nofile":  "LimitNOFILE=1024:524288",
	"umask":   "UMask=0027\nOOMScoreAdjust=100\nNice=5",
	"sigpipe": "IgnoreSIGPIPE=no",

	"stdin":       "StandardInput=null\nStandardOutput=null\nStandardError=journal",
	"stdio-file":  "StandardInput=file:/etc/hostname\nStandardOutput=append:/run/wrap-same.out\nStandardError=inherit",
	"environment": "Environment=A=b \"C=d e\"\nUnsetEnvironment=LANG",
	"env-login":   "User=www-data\nEnvironment=HOME=/nowhere SHELL=/bin/own USER=me",
	"env-unset":   "User=www-data\nUnsetEnvironment=HOME LOGNAME",
	"login-yes":   "SetLoginEnvironment=yes",
	"login-no":    "User=www-data\nSetLoginEnvironment=no",
	"notify":      "NotifyAccess=main\nWatchdogSec=1h",

	"directory":         "WorkingDirectory=/srv",
	"directory-usr":     "WorkingDirectory=/usr/share",
	"directory-missing": "WorkingDirectory=-/missing",
	"directory-home":    "User=www-data\nWorkingDirectory=~",
	"directory-root":    "WorkingDirectory=~",
	"directory-login":   "User=www-data\nUnsetEnvironment=HOME\nWorkingDirectory=~",
	"directories":       "User=www-data\nRuntimeDirectory=%p\nCacheDirectory=%p\nLogsDirectory=%p\nConfigurationDirectory=%p",

	"socket": "User=www-data\nSockets=wrap-same-socket.socket",
}

// TestWrapperSame runs the same unit with systemd executing the command, then with extexec run, and compares
// what the process is.
func TestWrapperSame(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		addMember(t, c)
		e := newWrapExts(t, c, wrapDirs)
		c.WriteUnits(map[string]string{"wrap-same-socket.socket": "[Socket]\nListenStream=/run/wrap-same.socket\nListenStream=/run/wrap-same2.socket\nFileDescriptorName=web\nService=wrap-same-socket.service\nRemoveOnStop=yes\n"})
		bare := runSame(t, c, "ExecStart=", "")
		with := runSame(t, c, wrapRun, e.section())
		for name, lines := range sameCases {
			if name == "login-no" && c.SystemdVersion() < 255 {
				continue // extexec honours the setting also where systemd does not know it yet
			}
			if diff := cmp.Diff(bare[name], with[name]); diff != "" {
				t.Errorf("%q: -systemd +extexec run\n%s", lines, diff)
			}
		}
		if l := bare["nofile"].Limits["Max open files"]; !strings.HasPrefix(l, "1024 ") {
			t.Errorf("open files %q: the comparison would not see that extexec raised the soft limit", l)
		}
		if s := with["socket"]; s.Env["LISTEN_FDS"] != "2" || s.Env["LISTEN_PID"] != "PID" || s.Env["LISTEN_FDNAMES"] != "web:web" {
			t.Errorf("no sockets were passed: %v", s.Env)
		}
	})
}

// addMember makes a user that is a member of further groups.
func addMember(t *testing.T, c *rig.Container) {
	t.Helper()
	c.Script(`cp -p /etc/passwd /run/wrap-passwd; cp -p /etc/group /run/wrap-group
echo 'wrapmember:x:4100:4101::/srv/wrapmember:/bin/bash' >>/etc/passwd
printf '%s\n' wrapmember:x:4101: 'wrapa:x:4102:root,wrapmember' 'wrapb:x:4103:wrapmember' >>/etc/group`)
	c.Cleanup(func() { c.Script("mv /run/wrap-passwd /etc/passwd; mv /run/wrap-group /etc/group") })
}

// runSame starts all cases and returns what their processes are.
func runSame(t *testing.T, c *rig.Container, prefix, section string) map[string]*procstate.State {
	t.Helper()
	units := map[string]string{}
	for name, lines := range sameCases {
		units["wrap-same-"+name+".service"] = fmt.Sprintf("[Service]\nType=exec\n%s\n%s/bin/sleep infinity\n%s", lines, prefix, section)
	}
	states := map[string]*procstate.State{}
	// A test of its own, so that the units are gone when the next ones come.
	t.Run(strings.Fields(prefix + " systemd")[0], func(t *testing.T) {
		c := c.For(t)
		c.WriteUnits(units)
		names := []string{"wrap-same-socket.socket"}
		for unit := range units {
			names = append(names, unit)
		}
		slices.Sort(names)
		c.Cleanup(func() {
			c.Script("systemctl stop 'wrap-same-*'; systemctl reset-failed 'wrap-same-*'; rm -f /run/wrap-same.out; rm -rf /var/lib/private/wrapdynamic /var/*/wrap-same-* /var/*/private/wrap-same-* /etc/wrap-same-*")
			for _, unit := range names {
				c.Remove("/run/extexec/units/" + unit)
				c.Remove("/var/lib/extexec/units/" + unit)
			}
		})
		c.Systemctl("start", "wrap-same-socket.socket")
		c.Exec(t.Context(), append([]string{"systemctl", "start"}, names...)...)
		shown := showAll(c, units, "MainPID")
		for name := range sameCases {
			unit := "wrap-same-" + name + ".service"
			pid, err := strconv.Atoi(shown[unit]["MainPID"])
			if err != nil || pid == 0 {
				t.Errorf("%s does not run:\n%s", unit, c.Report(unit))
				continue
			}
			states[name] = sameState(t, c, unit, rig.PID{Inside: pid, Host: c.HostPID(pid)})
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return states
}

// sameState is the state of a unit's process, without what differs between two runs.
func sameState(t *testing.T, c *rig.Container, unit string, pid rig.PID) *procstate.State {
	t.Helper()
	var s *procstate.State
	eventually(t, unit+" executes the command", func() bool {
		var err error
		s, err = procstate.Read(pid.Host)
		return err == nil && strings.HasSuffix(s.Exe, "/bin/sleep")
	})
	for name, value := range s.Env {
		if value == strconv.Itoa(pid.Inside) {
			s.Env[name] = "PID"
		}
	}
	delete(s.Env, "INVOCATION_ID")
	delete(s.Env, "JOURNAL_STREAM")
	delete(s.Env, "LISTEN_PIDFDID")
	if s.UID[0] != 0 {
		// From 255 on systemd keeps these two while it loads seccomp filters, and leaves them inheritable. They
		// are of no use to the process.
		const setpcap, sysAdmin = 8, 21
		inheritable, err := strconv.ParseUint(s.Caps["CapInh"], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		s.Caps["CapInh"] = fmt.Sprintf("%016x", inheritable&^(1<<setpcap|1<<sysAdmin))
	}
	for n, fd := range s.FDs {
		fd.Target = inodeNumber.ReplaceAllString(fd.Target, ":[]")
		s.FDs[n] = fd
	}
	manager, err := procstate.Read(c.Leader())
	if err != nil {
		t.Fatal(err)
	}
	for kind, id := range s.Namespaces {
		s.Namespaces[kind] = "its own"
		if id == manager.Namespaces[kind] {
			s.Namespaces[kind] = "the manager's"
		}
	}
	delete(s.Namespaces, "mnt")
	return s
}

var inodeNumber = regexp.MustCompile(`:\[[0-9]+\]`)
