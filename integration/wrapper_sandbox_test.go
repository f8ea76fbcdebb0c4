package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// A sandboxCase is a unit as administrators harden them.
type sandboxCase struct {
	name, lines, arguments string // %D is the directory of the extensions
	kind                   wrapKind
	base                   map[string]string // files of the base, by path
	check                  func(t *testing.T, w *wrapped)
}

var sandboxCases = []sandboxCase{
	{
		name: "strict", kind: wrapDirs,
		lines: `Type=notify
User=www-data
ProtectSystem=strict
ReadWritePaths=/etc/wrap-rw
PrivateTmp=yes
ProtectHome=yes
NoNewPrivileges=yes
ProtectProc=invisible
`,
		arguments: "-notify",
		base:      map[string]string{"/etc/wrap-rw/file": "base\n"},
		check: func(t *testing.T, w *wrapped) {
			if out := w.inside(t, "echo new >/etc/wrap-rw/file && cat /etc/wrap-rw/file"); out != "new\n" {
				t.Errorf("ReadWritePaths= below /etc: %s", out)
			}
			if out := w.inside(t, "echo new >/etc/hostname"); !strings.Contains(out, "Read-only") {
				t.Errorf("/etc/hostname is not read-only: %s", out)
			}
		},
	},
	{
		name: "devices", kind: wrapSquashfs,
		lines: `Type=exec
DynamicUser=yes
PrivateDevices=yes
ProtectProc=invisible
DeviceAllow=/dev/loop-control rw
DeviceAllow=block-loop rw
DeviceAllow=block-blkext rw
`,
		check: func(t *testing.T, w *wrapped) {
			if out := w.inside(t, "ls /dev"); strings.Contains(out, "loop") {
				t.Errorf("PrivateDevices= shows %s", out)
			}
		},
	},
	{
		// The file is mounted without a loop device, so the device cgroup does not count.
		name: "devices-erofs", kind: wrapErofs,
		lines: "Type=exec\nUser=www-data\nPrivateDevices=yes\nProtectSystem=full\n",
	},
	{
		name: "paths", kind: wrapDirs,
		lines: `Type=simple
DynamicUser=yes
BindReadOnlyPaths=%D/bound:/etc/wrap-bound
InaccessiblePaths=/etc/wrap-secret
TemporaryFileSystem=/etc/wrap-empty
`,
		arguments: "-read /etc/wrap-bound",
		base:      map[string]string{"/etc/wrap-bound": "base\n", "/etc/wrap-secret": "secret\n", "/etc/wrap-empty/file": "hidden\n"},
		check: func(t *testing.T, w *wrapped) {
			if out := w.inside(t, "cat /etc/wrap-bound; cat /etc/wrap-secret; ls /etc/wrap-empty; stat -c %a /etc/wrap-secret"); out != "bound\n0\n" {
				t.Errorf("mounts below /etc: %q", out)
			}
			for _, f := range w.look(t).Files {
				if f.Path == "/etc/wrap-bound" && (len(f.Contents) != 1 || f.Contents["bound\n"] == 0) {
					t.Errorf("the bound file read %v", f.Contents)
				}
			}
		},
	},
	{
		// The base of a hierarchy is what the sandbox put there.
		name: "own-etc", kind: wrapDirs,
		lines: "Type=exec\nUser=www-data\nBindPaths=%D/etc:/etc\nMountFlags=slave\n",
		check: func(t *testing.T, w *wrapped) {
			if out := w.inside(t, "ls /etc; cat /etc/hostname; touch /etc/x"); !strings.HasPrefix(out, "extension-release.d\nhostname\nwrapped.conf\nown\n") || !strings.Contains(out, "Read-only") {
				t.Errorf("/etc shows %q", out)
			}
		},
	},
	{
		name: "hardened", kind: wrapDirs,
		lines: `Type=notify
DynamicUser=yes
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SETUID CAP_SETGID CAP_NET_BIND_SERVICE
ProtectSystem=strict
ProtectHome=tmpfs
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RemoveIPC=yes
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
`,
		arguments: "-notify",
	},
}

// TestWrapperSandbox reloads hardened services, and looks at what the sandbox promises before and after.
func TestWrapperSandbox(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, tc := range sandboxCases {
			t.Run(tc.name, func(t *testing.T) { tc.run(t, c.For(t)) })
		}
	})
}

func (tc sandboxCase) run(t *testing.T, c *rig.Container) {
	for path, text := range tc.base {
		c.WriteFile(path, text, 0o644)
		top := "/etc/" + strings.Split(path, "/")[2]
		c.Cleanup(func() { c.Remove(top) })
	}
	e := newWrapExts(t, c, tc.kind)
	c.WriteFile(e.dir+"/bound", "bound\n", 0o644)
	c.WriteFile(e.dir+"/etc/hostname", "own\n", 0o644)
	w := startWrapped(t, c, e, tc.name, strings.ReplaceAll(tc.lines, "%D", e.dir), tc.arguments)
	if tc.check != nil {
		tc.check(t, w)
	}
	w.reload(t)
	if tc.check != nil {
		tc.check(t, w)
	}
}

// inside runs a line of shell as root in the service's mount namespace, and returns all that it says.
func (w *wrapped) inside(t *testing.T, script string) string {
	t.Helper()
	pid := w.c.MainPID(w.unit)
	r := w.c.Exec(t.Context(), "nsenter", "-m", "-t", fmt.Sprint(pid.Inside), "sh", "-c", script)
	return r.Stdout + r.Stderr
}
