package status

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/extexec/extexec/nsmount"
)

// mapped counts the processes that have files of an exchanged tree mapped: their
// program, most often. Nothing can be done about that but to start them anew. Older
// kernels show the layer's device in place of the overlay's (seen so on 6.18): there
// nothing is counted.
func (s *Status) mapped(table *nsmount.Table) {
	if table == nil {
		return
	}
	mounted := map[string]bool{}
	for _, m := range table.Mounts {
		mounted[fmt.Sprintf("%d:%d", m.Major, m.Minor)] = true
	}
	for _, pid := range s.PIDs {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err == nil && mapsUnmounted(maps, mounted) {
			s.OldMaps = append(s.OldMaps, pid)
		}
	}
}

// mapsUnmounted reads proc_pid_maps(5) for a file of a file system without a disk,
// as overlays are, that is mounted nowhere in the namespace.
func mapsUnmounted(maps []byte, mounted map[string]bool) bool {
	for line := range bytes.Lines(maps) {
		f := strings.Fields(string(line))
		if len(f) < 6 || !strings.HasPrefix(f[5], "/") || f[4] == "0" {
			continue
		}
		major, minor, _ := strings.Cut(f[3], ":")
		ma, err1 := strconv.ParseUint(major, 16, 32)
		mi, err2 := strconv.ParseUint(minor, 16, 32)
		if err1 != nil || err2 != nil || ma != 0 || mounted[fmt.Sprintf("%d:%d", ma, mi)] {
			continue
		}
		if !noFile(f[5]) {
			return true
		}
	}
	return false
}

// noFile tells the kernel's own file systems, which are mounted nowhere.
func noFile(path string) bool {
	for _, p := range []string{"/memfd:", "/SYSV", "/dev/zero", "/anon_hugepage", "/i915", "/drm"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
