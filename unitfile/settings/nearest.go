package settings

import (
	"fmt"
	"strings"
)

// meant says what to do about an unknown key of [X-Extexec].
func meant(key string) string {
	for _, section := range systemdKeys() {
		for _, k := range section.keys {
			if fold(k) == fold(key) {
				return fmt.Sprintf("it is one of [%s]: write it there", section.name)
			}
		}
	}
	if k := nearest(key); k != "" {
		return fmt.Sprintf("did you mean %s=?", k)
	}
	return fmt.Sprintf("write one of %s=", strings.Join(keys, "=, "))
}

// nearest is the key that an unknown one was most likely meant to be; "" where it is
// like none of them.
func nearest(key string) string {
	key = fold(key)
	best, least := "", len(key)
	for _, k := range keys {
		d := distance(key, fold(k))
		if strings.HasPrefix(fold(k), key) {
			d = 0 // cut short
		}
		if d < least {
			best, least = k, d
		}
	}
	if least > max(2, len(key)/3) {
		return ""
	}
	return best
}

// systemdKeys are those of systemd's own that one might look for in [X-Extexec]:
// they have to do with starting, reloading and mounting.
func systemdKeys() []section {
	service := []string{
		"Type", "ExecCondition", "ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecReloadPost", "ExecStop", "ExecStopPost",
		"Restart", "RestartSec", "TimeoutSec", "TimeoutStartSec", "TimeoutStopSec", "RefreshOnReload", "NotifyAccess", "PIDFile",
		"WorkingDirectory", "RootImagePolicy", "MountImages", "MountImagePolicy", "MountFlags", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem",
		"ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices",
		"PrivateMounts", "DeviceAllow", "DevicePolicy", "NoNewPrivileges", "Environment", "EnvironmentFile", "PassEnvironment", "UnsetEnvironment",
		"User", "Group", "DynamicUser", "SupplementaryGroups", "StateDirectory", "RuntimeDirectory", "ConfigurationDirectory",
	}
	return []section{
		{"Service", append(service, sandboxKeys...)},
		{"Unit", []string{"Description", "After", "Before", "Requires", "Wants", "PartOf", "BindsTo", "Conflicts", "RequiresMountsFor", "ReloadPropagatedFrom"}},
		{"Install", []string{"WantedBy", "RequiredBy", "Alias", "Also"}},
	}
}

type section struct {
	name string
	keys []string
}

// fold makes names that differ in case, dashes and underscores alone the same.
// What is longer than any key is cut: the distance costs time in proportion.
func fold(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance is the number of characters to insert, remove or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
