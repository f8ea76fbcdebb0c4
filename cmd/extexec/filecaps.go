package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// capabilityNames are the capabilities by number (include/uapi/linux/capability.h, Linux 5.9 and later).
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service " +
	"net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice " +
	"sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm " +
	"block_suspend audit_read perfmon bpf checkpoint_restore"

// fileCapabilities are the words of the attribute security.capability, as getcap(8) has them: struct vfs_ns_cap_data.
// What is none is shown in hex.
func fileCapabilities(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	le := binary.LittleEndian
	if len(b) < 20 {
		return hex.EncodeToString(b)
	}
	permitted := uint64(le.Uint32(b[4:])) | uint64(le.Uint32(b[12:]))<<32
	inheritable := uint64(le.Uint32(b[8:])) | uint64(le.Uint32(b[16:]))<<32
	effective := le.Uint32(b)&1 != 0
	var words []string
	names := strings.Fields(capabilityNames)
	for n := range 64 {
		set := ""
		if effective && (permitted|inheritable)>>n&1 != 0 {
			set += "e"
		}
		if inheritable>>n&1 != 0 {
			set += "i"
		}
		if permitted>>n&1 != 0 {
			set += "p"
		}
		if set == "" {
			continue
		}
		name := fmt.Sprint(n)
		if n < len(names) {
			name = "cap_" + names[n]
		}
		words = append(words, name+"="+set)
	}
	return strings.Join(words, " ")
}
