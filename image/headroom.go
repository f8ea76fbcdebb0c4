package image

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// roomFor refuses a copy of n bytes that would be larger than allowed, or for which there is no memory. It is charged
// to the cgroup that we run in, which is the unit's: without this look the kernel might kill the service for it.
func roomFor(n, most int64) error {
	const instead = "a kernel with dm-verity (modprobe dm_verity) needs no copy"
	if n > most {
		return fmt.Errorf("verifying it takes a copy of %d bytes in memory, and VerifiedCopyMax= allows %d: raise it; %s", n, most, instead)
	}
	free, where := headroom("/")
	if n > free {
		return fmt.Errorf("verifying it takes a copy of %d bytes in memory, and %s leaves %d: raise that, or use a smaller image; %s",
			n, where, free, instead)
	}
	return nil
}

// memoryCgroup is a version of the memory controller.
type memoryCgroup struct {
	top, usage string
	limits     []string
}

var (
	cgroup2 = memoryCgroup{"/sys/fs/cgroup", "memory.current", []string{"memory.max", "memory.high"}}
	cgroup1 = memoryCgroup{"/sys/fs/cgroup/memory", "memory.usage_in_bytes", []string{"memory.limit_in_bytes"}}
)

// headroom is how much memory can be taken, in bytes, and what says so. What cannot be read is no bound. root is where
// /proc and /sys are.
func headroom(root string) (free int64, where string) {
	free, where = math.MaxInt64, "nothing"
	if b, err := os.ReadFile(path.Join(root, "/proc/meminfo")); err == nil {
		if kib, ok := field(b, "MemAvailable:"); ok {
			free, where = kib<<10, "the machine (MemAvailable in /proc/meminfo)"
		}
	}
	b, err := os.ReadFile(path.Join(root, "/proc/self/cgroup"))
	if err != nil {
		return free, where
	}
	for line := range strings.Lines(string(b)) {
		// NUMBER:CONTROLLERS:PATH, cgroups(7)
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		var c memoryCgroup
		switch {
		case len(words) != 3:
			continue
		case words[0] == "0":
			c = cgroup2
		case words[1] == "memory":
			c = cgroup1
		default:
			continue
		}
		// A limit of a parent counts as well.
		for dir := path.Clean("/" + words[2]); dir != "/"; dir = path.Dir(dir) {
			if n, limit, ok := c.left(path.Join(root, c.top, dir)); ok && n < free {
				free, where = n, limit+" of the cgroup "+dir
			}
		}
	}
	return free, where
}

// left is what the limits of a cgroup leave. What the kernel can drop when it needs memory counts as free.
func (c memoryCgroup) left(dir string) (free int64, limit string, ok bool) {
	used, err := number(path.Join(dir, c.usage))
	if err != nil { // no memory controller
		return 0, "", false
	}
	if stat, err := os.ReadFile(path.Join(dir, "memory.stat")); err == nil {
		for _, name := range []string{"active_file", "inactive_file", "slab_reclaimable"} {
			if n, ok := field(stat, name); ok {
				used -= n
			}
		}
	}
	for _, name := range c.limits {
		most, err := number(path.Join(dir, name))
		if err != nil { // "max"
			continue
		}
		if n := max(0, most-max(0, used)); !ok || n < free {
			free, limit, ok = n, name, true
		}
	}
	return free, limit, ok
}

func number(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
}

// field finds the number after a name in a file of names and numbers.
func field(b []byte, name string) (int64, bool) {
	for line := range bytes.Lines(b) {
		words := bytes.Fields(line)
		if len(words) >= 2 && string(words[0]) == name {
			n, err := strconv.ParseInt(string(words[1]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
