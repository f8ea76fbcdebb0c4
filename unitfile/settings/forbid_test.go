package settings

import (
	"strings"
	"testing"
)

// TestForbids is the one table over all settings that forbid the wrapper.
func TestForbids(t *testing.T) {
	for _, c := range []struct {
		lines   string
		setting string // "" : nothing is forbidden
		line    int
		why     string
	}{
		{lines: "ExecStart=/bin/x\nProtectSystem=strict\nPrivateTmp=yes\nPrivateDevices=yes\nNoNewPrivileges=yes\nProtectProc=invisible"},

		{"CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet", 2, "lacks CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE"},
		{"CapabilityBoundingSet=", "CapabilityBoundingSet", 2, "CAP_SYS_ADMIN"},
		{"CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_KILL", "CapabilityBoundingSet", 2, "lacks CAP_SYS_ADMIN"},
		{"CapabilityBoundingSet=~CAP_SYS_CHROOT", "CapabilityBoundingSet", 2, "lacks CAP_SYS_CHROOT"},
		{"CapabilityBoundingSet=~cap_sys_ptrace", "CapabilityBoundingSet", 2, "lacks CAP_SYS_PTRACE"},
		{"CapabilityBoundingSet=~CAP_KILL\nCapabilityBoundingSet=~CAP_SYS_ADMIN", "CapabilityBoundingSet", 3, "lacks CAP_SYS_ADMIN"},
		{lines: "CapabilityBoundingSet=~CAP_KILL"},
		{lines: "CapabilityBoundingSet=\nCapabilityBoundingSet=~"},
		{lines: "CapabilityBoundingSet=CAP_SYS_ADMIN\nCapabilityBoundingSet=CAP_SYS_CHROOT CAP_SYS_PTRACE"},
		{"User=www\nCapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE", "CapabilityBoundingSet", 3, "lacks CAP_SETUID, CAP_SETGID"},
		{"DynamicUser=yes\nCapabilityBoundingSet=~CAP_SETUID", "CapabilityBoundingSet", 3, "lacks CAP_SETUID"},
		{"Group=www\nCapabilityBoundingSet=~CAP_SETUID CAP_SETGID", "CapabilityBoundingSet", 3, "lacks CAP_SETGID"},
		{lines: "User=root\nCapabilityBoundingSet=~CAP_SETUID"},

		{"SystemCallFilter=@system-service", "SystemCallFilter", 2, "takes away @mount"},
		{"SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources", "SystemCallFilter", 3, "setgroups"},
		{"SystemCallFilter=@system-service @mount\nSystemCallFilter=~@privileged", "SystemCallFilter", 3, "setgroups setresuid capset"},
		{"SystemCallFilter=~@mount", "SystemCallFilter", 2, "takes away @mount"},
		{"SystemCallFilter=~@privileged:EPERM", "SystemCallFilter", 2, "setresuid"},
		{"SystemCallFilter=~@clock\nSystemCallFilter=~@setuid", "SystemCallFilter", 3, "takes away @setuid"},
		{"SystemCallFilter=~move_mount", "SystemCallFilter", 2, "takes away move_mount"},
		{"SystemCallFilter=~unshare", "SystemCallFilter", 2, "unshare"},
		{"SystemCallFilter=read write", "SystemCallFilter", 2, "@mount @setuid unshare setns capset"},
		{lines: "SystemCallFilter=@system-service @mount"},
		{lines: "SystemCallFilter=@system-service\nSystemCallFilter=@mount"},
		{lines: "SystemCallFilter=~@mount\nSystemCallFilter=@mount"},
		{lines: "SystemCallFilter=@known"},
		{lines: "SystemCallFilter=~@clock @reboot @swap"},
		{lines: "SystemCallFilter=~@mount\nSystemCallFilter="},
		{lines: "SystemCallFilter=@system-service @mount\nSystemCallFilter=~@privileged\nSystemCallFilter=@setuid capset"},

		{"RestrictNamespaces=yes", "RestrictNamespaces", 2, "mount namespace"},
		{"RestrictNamespaces=net ipc", "RestrictNamespaces", 2, "mnt"},
		{"RestrictNamespaces=~mnt", "RestrictNamespaces", 2, "mnt"},
		{"RestrictNamespaces=no\nRestrictNamespaces=~mnt", "RestrictNamespaces", 3, "mnt"},
		{"RestrictNamespaces=mnt net\nRestrictNamespaces=~mnt", "RestrictNamespaces", 3, "mnt"},
		{lines: "RestrictNamespaces=no"},
		{lines: "RestrictNamespaces=mnt"},
		{lines: "RestrictNamespaces=~user"},
		{lines: "RestrictNamespaces=yes\nRestrictNamespaces=mnt"},
		{lines: "RestrictNamespaces=yes\nRestrictNamespaces="},

		{"RestrictFileSystems=ext4", "RestrictFileSystems", 2, "file systems"},
		{lines: "RestrictFileSystems=ext4\nRestrictFileSystems="},
		{"PrivateUsers=yes", "PrivateUsers", 2, "user namespace"},
		{"PrivateUsers=identity", "PrivateUsers", 2, "user namespace"},
		{lines: "PrivateUsers=yes\nPrivateUsers=no"},
		{"PrivatePIDs=yes", "PrivatePIDs", 2, "/proc/1"},
		{lines: "PrivatePIDs=no"},
		{"RootImage=/a.raw", "RootImage", 2, "different roots"},
		{"RootDirectory=/a", "RootDirectory", 2, "different roots"},
		{lines: "RootDirectory=/"},
		{lines: "RootImage=/a.raw\nRootImage="},
		{"RootMStack=/a.mstack", "RootMStack", 2, "different roots"},
		{"AppArmorProfile=web", "AppArmorProfile", 2, "profile"},
		{"AppArmorProfile=-web", "AppArmorProfile", 2, "profile"},
		{lines: "AppArmorProfile="},
		{"SELinuxContext=system_u:system_r:web_t:s0", "SELinuxContext", 2, "context"},
		{"SecureBits=keep-caps noroot", "SecureBits", 2, "noroot"},
		{lines: "SecureBits=keep-caps noroot-locked"},
		{lines: "SecureBits=noroot\nSecureBits="},
		{"PAMName=login", "PAMName", 2, "PAM"},
		{lines: "PAMName=login\nPAMName="},
	} {
		found := Forbids(mustLoad(t, "[Service]\n"+c.lines))
		if c.setting == "" {
			if len(found) != 0 {
				t.Errorf("%q: forbids %v", c.lines, found)
			}
			continue
		}
		if len(found) != 1 {
			t.Errorf("%q: %v, want %s alone", c.lines, found, c.setting)
			continue
		}
		if f := found[0]; f.Setting != c.setting || f.Line != c.line || f.File != unitPath || !strings.Contains(f.Why, c.why) {
			t.Errorf("%q: %+v, want %s in line %d because %q", c.lines, f, c.setting, c.line, c.why)
		}
	}
}

func TestForbidsAll(t *testing.T) {
	text := "[Service]\nPAMName=a\nPrivateUsers=yes\nRestrictNamespaces=yes\n"
	found := Forbids(mustLoad(t, text))
	if len(found) != 3 {
		t.Fatalf("%v", found)
	}
	if msg := found[0].Error(); !strings.Contains(msg, unitPath+":4: RestrictNamespaces= forbids the wrapper") || !strings.Contains(msg, "adopt it: let systemd") {
		t.Errorf("message %q", msg)
	}
}

func TestDeniesJournal(t *testing.T) {
	for lines, want := range map[string]bool{
		"":                                 false,
		"RestrictAddressFamilies=AF_INET":  false, // which gives an error
		"SystemCallFilter=@system-service": false,
		"SystemCallFilter=@mount":          true,
		"SystemCallFilter=~@network-io":    true,
		"SystemCallFilter=~sendto":         true,
		"SystemCallFilter=~@mount @setuid": false,
		"SystemCallFilter=~@network-io\nSystemCallFilter=socket setsockopt sendto": false,
		"SystemCallFilter=~@network-io\nSystemCallFilter=":                         false,
	} {
		if got := mustLoad(t, "[Service]\n"+lines).Service.DeniesJournal(); got != want {
			t.Errorf("%q: %v", lines, got)
		}
	}
}
