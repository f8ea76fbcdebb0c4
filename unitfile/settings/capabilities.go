package settings

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// Capabilities is a set of capabilities, bit N for capability number N
// (capabilities(7)).
type Capabilities uint64

// AllCapabilities is every capability, also those that are yet to come.
const AllCapabilities = ^Capabilities(0)

var capabilityNames = []string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
	"setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
	"ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
	"sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
	"lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
	"wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
}

// Has tells whether the set has a capability, "CAP_SYS_ADMIN".
func (c Capabilities) Has(name string) bool {
	bit, ok := capability(name)
	return ok && c&bit != 0
}

// Names lists the set: "CAP_CHOWN", ...
func (c Capabilities) Names() []string {
	var names []string
	for rest := uint64(c); rest != 0; rest &= rest - 1 {
		n := bits.TrailingZeros64(rest)
		if n >= len(capabilityNames) {
			break
		}
		names = append(names, "CAP_"+strings.ToUpper(capabilityNames[n]))
	}
	return names
}

// capability reads a name or a number.
func capability(s string) (Capabilities, bool) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return 1 << n, n < 63
	}
	low, ok := strings.CutPrefix(strings.ToLower(s), "cap_")
	if !ok {
		return 0, false
	}
	for i, name := range capabilityNames {
		if name == low {
			return 1 << i, true
		}
	}
	return 0, false
}

// mergeCapabilities does config_parse_capability_set: "~" inverts; the first
// value replaces what is there from the beginning, later ones add to it (or
// take away); an empty value empties the set and a lone "~" fills it. Unknown
// names are ignored, as in systemd.
func mergeCapabilities(as []unitfile.Assignment, initial Capabilities) Capabilities {
	set := initial
	for _, a := range as {
		list, invert := strings.CutPrefix(a.Value, "~")
		words, err := unitfile.Words(list)
		if err != nil {
			continue
		}
		var sum Capabilities
		for _, w := range words {
			bit, _ := capability(w)
			sum |= bit
		}
		switch {
		case (sum == 0 || set == initial) && invert:
			set = ^sum
		case sum == 0 || set == initial:
			set = sum
		case invert:
			set &^= sum
		default:
			set |= sum
		}
	}
	return set
}

func (c Capabilities) String() string {
	if c == AllCapabilities {
		return "all"
	}
	return fmt.Sprint(c.Names())
}
