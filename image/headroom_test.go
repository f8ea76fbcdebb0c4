package image

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHeadroom(t *testing.T) {
	const two, one = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
		where string
	}{
		{"nothing can be read", nil, math.MaxInt64, "nothing"},
		{"machine", map[string]string{"/proc/meminfo": "MemFree: 1 kB\nMemAvailable:     2000 kB\n"}, 2000 << 10, "MemAvailable"},
		{"unit", map[string]string{
			"/proc/meminfo": "MemAvailable: 2000 kB\n", "/proc/self/cgroup": "0::/system.slice/web.service\n",
			two + "/system.slice/web.service/memory.max": "10000\n", two + "/system.slice/web.service/memory.high": "max\n",
			two + "/system.slice/web.service/memory.current": "4000\n",
		}, 6000, "memory.max of the cgroup /system.slice/web.service"},
		{"what can be dropped", map[string]string{
			"/proc/self/cgroup":             "0::/web.service\n",
			two + "/web.service/memory.max": "10000\n", two + "/web.service/memory.high": "9000\n", two + "/web.service/memory.current": "9500\n",
			two + "/web.service/memory.stat": "anon 1000\nfile 8000\nactive_file 5000\ninactive_file 3000\n",
		}, 7500, "memory.high"},
		{"parent", map[string]string{
			"/proc/self/cgroup": "0::/a.slice/web.service\n", two + "/a.slice/web.service/memory.max": "10000\n",
			two + "/a.slice/web.service/memory.current": "0\n", two + "/a.slice/memory.max": "10000\n", two + "/a.slice/memory.current": "9000\n",
		}, 1000, "memory.max of the cgroup /a.slice"},
		{"full", map[string]string{
			"/proc/self/cgroup": "0::/w\n", two + "/w/memory.max": "10\n", two + "/w/memory.current": "11\n",
		}, 0, "memory.max"},
		{"no limit", map[string]string{
			"/proc/self/cgroup": "0::/w\n", two + "/w/memory.max": "max\n", two + "/w/memory.current": "11\n",
		}, math.MaxInt64, "nothing"},
		{"version 1", map[string]string{
			"/proc/self/cgroup": "5:devices:/x\n4:memory:/a:b/w\n0::/u\n", one + "/a:b/w/memory.limit_in_bytes": "900\n", one + "/a:b/w/memory.usage_in_bytes": "300\n",
		}, 600, "memory.limit_in_bytes of the cgroup /a:b/w"},
		{"hostile path", map[string]string{"/proc/self/cgroup": "0::/../../../w\nx\n0\n"}, math.MaxInt64, "nothing"},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			p := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if got, where := headroom(root); got != c.want || !strings.Contains(where, c.where) {
			t.Errorf("%s: %d (%s), want %d (%s)", c.name, got, where, c.want, c.where)
		}
	}
	if free, where := headroom("/"); free <= 0 || free == math.MaxInt64 {
		t.Errorf("this machine: %d (%s)", free, where)
	}
}

func TestRoomFor(t *testing.T) {
	if err := roomFor(100, 100); err != nil {
		t.Error(err)
	}
	for words, n := range map[string][2]int64{
		"VerifiedCopyMax= allows 100": {101, 100},
		"leaves":                      {1 << 60, 1 << 61},
	} {
		if err := roomFor(n[0], n[1]); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%d: %v, want %q", n, err, words)
		}
	}
}
