package withsystemd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/extexec/extexec/image/verity"
)

// TestMemoryMax has an image of which a copy is made, in a unit with MemoryMax=: without room for it the start is refused
// with the name of what leaves too little, and nothing is killed for it; with room it starts, and a reload for which there
// is none leaves what is live.
func TestMemoryMax(t *testing.T) {
	const mib, unit = 32, "memory-max.service"
	s := newStage(t)
	s.copied(mib << 20)
	service := func(limit int) map[string]string {
		return map[string]string{unit: fmt.Sprintf(`[Service]
Type=notify
NotifyAccess=all
MemoryMax=%dM
ExecStart=!/usr/bin/extexec run -- /usr/bin/sh -c "systemd-notify --ready && exec sleep infinity"
ExecReload=+/usr/bin/extexec reload --force
[X-Extexec]
ExtensionImages=%s/web.raw
`, limit, s.dir)}
	}
	refused := func(verb string, state string) {
		t.Helper()
		if out, err := s.try("systemctl", verb, unit); err == nil {
			t.Errorf("%s was not refused: %s", verb, out)
		}
		s.must("journalctl", "--sync")
		log := s.must("journalctl", "-b", "-o", "cat", "-u", unit)
		for _, word := range []string{s.dir + "/web.raw", "verifying it takes a copy of ", "memory.max of the cgroup /system.slice/" + unit + " leaves "} {
			if !strings.Contains(log, word) {
				t.Errorf("%s: the journal has no %q:\n%s", verb, word, log)
			}
		}
		show := s.must("systemctl", "show", "-P", "ActiveState", "-P", "Result", unit)
		if !strings.Contains(show, state) || strings.Contains(show, "oom") || strings.Contains(log, "oom") {
			t.Errorf("%s: state and result are %q:\n%s", verb, show, log)
		}
		s.must("journalctl", "--rotate", "--vacuum-time=1s")
	}
	s.units(service(mib))
	refused("start", "failed")

	s.write("/etc/systemd/system/"+unit, service(5 * mib)[unit])
	s.must("systemctl", "daemon-reload")
	s.must("systemctl", "start", unit)
	pid := s.mainPID(unit)
	if status := s.must("extexec", "status", unit); !strings.Contains(status, "verified (copy)") {
		t.Errorf("status:\n%s", status)
	}
	s.must("systemctl", "set-property", "--runtime", unit, fmt.Sprintf("MemoryMax=%dM", 2*mib)) // the first copy is in it
	refused("reload", "active")
	if now := s.mainPID(unit); now != pid {
		t.Errorf("process %d, was %d", now, pid)
	}
	if got := s.read(fmt.Sprintf("/proc/%d/root%s", pid, classes[0].file)); !strings.HasPrefix(got, content) {
		t.Errorf("the service sees %.50q", got)
	}
	s.must("systemctl", "revert", unit)
}

// copied makes web.raw with a hash tree over blocks that are larger than a page, which the kernel does not verify.
func (s *stage) copied(size int) {
	s.Helper()
	const block = 64 << 10
	tree := s.tree(classes[0], "copied", content)
	s.write(tree+"/usr/lib/web/large", strings.Repeat("x", size))
	s.must("mkfs.erofs", "--quiet", s.dir+"/web.raw", tree)
	data := []byte(s.read(s.dir + "/web.raw"))
	data = append(data, make([]byte, (block-len(data)%block)%block)...)
	sb := &verity.Superblock{Algorithm: "sha256", DataBlockSize: block, HashBlockSize: 4096, DataBlocks: uint64(len(data) / block)}
	w, err := os.Create(s.dir + "/web.verity")
	s.check(err)
	defer w.Close()
	root, err := verity.Format(context.Background(), sb, bytes.NewReader(data), w)
	s.check(err)
	s.write(s.dir+"/web.raw", string(data))
	s.write(s.dir+"/web.roothash", fmt.Sprintf("%x\n", root))
}
