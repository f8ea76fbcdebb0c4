package withsystemd

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkStart starts a service bare, with a signed image by systemd, and with the same
// by extexec, each once a round and in an order that is drawn anew. It prints a line a
// round, "start BARE SYSTEMD EXTEXEC" with nanoseconds, for integration/bench.
func BenchmarkStart(b *testing.B) {
	s := newStage(b)
	s.authority("bench", rsa)
	s.trust("bench")
	c := classes[0]
	image := s.image(c, "bench", content, "bench")
	const service = "/usr/bin/testservice -notify"
	names := []string{"start-bare.service", "start-systemd.service", "start-extexec.service"}
	lines := "ExtensionImages=" + image + "\nExtensionImagePolicy=" + signed + "\n"
	s.units(map[string]string{
		names[0]: "[Service]\nType=notify\nExecStart=" + service + "\n",
		names[1]: "[Service]\nType=notify\nExecStart=" + service + "\n" + lines,
		names[2]: "[Service]\nType=notify\nExecStart=!/usr/bin/extexec run -- " + service + "\n[X-Extexec]\n" + lines,
	})
	random := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		took := make([]int64, len(names))
		for _, i := range random.Perm(len(names)) {
			s.settle()
			began := time.Now()
			s.must("systemctl", "start", names[i])
			took[i] = time.Since(began).Nanoseconds()
			if path := fmt.Sprintf("/proc/%d/root%s", s.mainPID(names[i]), c.file); i > 0 && s.read(path) == "" {
				b.Errorf("%s does not see the image", names[i])
			}
			s.must("systemctl", "stop", names[i])
		}
		fmt.Printf("start %d %d %d\n", took[0], took[1], took[2])
	}
}

// settle waits until nothing of an earlier start is left that the next could share, and
// udev has seen it all.
func (s *stage) settle() {
	s.Helper()
	s.must("udevadm", "settle")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left, _ := filepath.Glob("/sys/block/dm-*"); len(left) == 0 {
			return
		}
	}
	s.Fatal("a device of an earlier start stays")
}
