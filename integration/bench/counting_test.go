package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const exchanges = 1000

// lookups reads from all three hierarchies without a pause while they are exchanged.
func lookups(k *kit) []row {
	const unit, control = "bench-lookups.service", "/run/bench-lookups/control"
	dirs := k.three(k.c.TempDir(), 1)
	var reads string
	for _, h := range []string{"etc", "usr", "opt"} {
		reads += fmt.Sprintf(" -read /%s/bench.for%s/file-0", h, h)
	}
	k.unit(unit, "[Service]\nType=notify\nRuntimeDirectory=bench-lookups\nExecStart=!/usr/bin/extexec run -- "+service+" -control "+control+reads+
		" -read /etc/passwd -read /usr/bin/true\n[X-Extexec]\n"+lines("ExtensionDirectories", dirs))
	k.c.Systemctl("start", unit)
	for range exchanges {
		k.run("/usr/bin/extexec", "reload", "--force", unit)
	}
	var failed, all uint64
	for _, f := range k.c.AskService(control, "report").Files {
		failed, all = failed+f.Failed, all+f.Lookups
		if f.Lookups == 0 || len(f.Contents) != 1 {
			k.t.Errorf("%s: %d lookups, %d contents", f.Path, f.Lookups, len(f.Contents))
		}
	}
	return []row{{
		figure: "failed lookups through 1,000 exchanges of /etc, /usr and /opt", value: strconv.FormatUint(failed, 10), spread: "-", goal: "0",
		met: failed == 0, seen: fmt.Sprintf("of %d lookups", all),
	}}
}

// holdings is what a service and its exchanges hold on to.
type holdings struct {
	mounts, hostMounts, loops, fds int
	slab, percpu                   []float64 // kB, several looks
}

// leaks compares what is held after reload 20 and after reload 1,020, of a
// service with directories, an image on a loop device and a carried mount.
func leaks(k *kit) []row {
	const unit = "bench-leaks.service"
	dir := k.c.TempDir()
	dirs := k.three(dir, 100)
	k.c.WriteFile(dir+"/hostname", "bound\n", 0o644)
	k.unit(unit, "[Service]\nType=notify\nExecStart=!/usr/bin/extexec run -- "+service+"\nBindReadOnlyPaths="+dir+"/hostname:/etc/hostname\n[X-Extexec]\n"+
		lines("ExtensionDirectories", dirs)+"ExtensionImages="+k.image(dir)+"\n")
	k.c.Systemctl("start", unit)
	reload := func(n int) holdings {
		for range n {
			k.run("/usr/bin/extexec", "reload", "--force", unit)
		}
		return k.holdings(unit)
	}
	early := reload(20)
	late := reload(exchanges)
	k.c.Systemctl("stop", unit)
	after := k.loopsLeft()
	counts := func(h holdings) string {
		return fmt.Sprintf("%d/%d/%d/%d", h.mounts, h.hostMounts, h.loops, h.fds)
	}
	grown := median(late.slab) + median(late.percpu) - median(early.slab) - median(early.percpu)
	noise := func(h holdings) float64 {
		return slices.Max(h.slab) - slices.Min(h.slab) + slices.Max(h.percpu) - slices.Min(h.percpu)
	}
	return []row{
		{
			figure: "mounts of the service / of the host, loop devices, descriptors: reload 1,020 against 20", value: counts(late), spread: "-",
			goal: "the same, no loop device after the stop", met: counts(late) == counts(early) && early.loops > 0 && after == 0,
			seen: fmt.Sprintf("after reload 20: %s; after the stop %d loop devices", counts(early), after),
		},
		{
			figure: "slab and per-CPU memory, the same", value: fmt.Sprintf("%+.0f KiB", grown), spread: fmt.Sprintf("±%.0f KiB", max(noise(early), noise(late))/2),
			goal: "within 1 MiB", met: grown <= 1024,
			seen: fmt.Sprintf("slab %.0f to %.0f, per-CPU %.0f to %.0f KiB; caches dropped, of the whole machine", median(early.slab), median(late.slab), median(early.percpu), median(late.percpu)),
		},
	}
}

// image makes a sysext as squashfs in the container: it takes a loop device.
func (k *kit) image(dir string) string {
	k.t.Helper()
	tree := k.t.TempDir()
	release := filepath.Join(tree, "usr/lib/extension-release.d")
	k.check(os.MkdirAll(release, 0o755))
	k.check(os.WriteFile(release+"/extension-release.image", []byte("ID=_any\n"), 0o644))
	out := filepath.Join(k.t.TempDir(), "image.raw")
	if b, err := exec.Command("mksquashfs", tree, out, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		k.t.Fatalf("mksquashfs: %v\n%s", err, b)
	}
	k.c.CopyIn(out, dir+"/image.raw")
	return dir + "/image.raw"
}

func (k *kit) holdings(unit string) holdings {
	k.t.Helper()
	pid := k.c.MainPID(unit).Host
	var h holdings
	mounts := func(pid int) int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		k.check(err)
		return bytes.Count(b, []byte{'\n'})
	}
	h.mounts, h.hostMounts = mounts(pid), mounts(k.c.Leader())
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	k.check(err)
	h.fds = len(fds)
	h.loops = len(k.c.Loops())
	// What is freed is freed a moment later, by RCU and by workers: several looks.
	for range 9 {
		unix.Sync()
		k.check(os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
		time.Sleep(300 * time.Millisecond)
		b, err := os.ReadFile("/proc/meminfo")
		k.check(err)
		h.slab, h.percpu = append(h.slab, meminfo(b, "Slab")), append(h.percpu, meminfo(b, "Percpu"))
	}
	return h
}

// loopsLeft counts loop devices when nothing should hold one any more: the kernel
// gives them back a moment after the last mount.
func (k *kit) loopsLeft() (n int) {
	for range 100 {
		if n = len(k.c.Loops()); n == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return n
}

func meminfo(b []byte, key string) float64 {
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == key+":" {
			n, _ := strconv.ParseFloat(f[1], 64)
			return n
		}
	}
	return 0
}

// hidden runs the test that hammers what carried mounts hide, in its long form.
func hidden(k *kit) []row {
	res := k.hierarchyTests("-test.run=^TestHiddenStaysHidden$", "-test.v")
	reads := 0
	for _, m := range regexp.MustCompile(`(\d+) times: `).FindAllStringSubmatch(res.Stdout, -1) {
		n, _ := strconv.Atoi(m[1])
		reads += n
	}
	if !strings.Contains(res.Stdout, "--- PASS: TestHiddenStaysHidden") && reads == 0 {
		k.t.Fatal(res)
	}
	return []row{{figure: "reads of hidden content in 20,000 exchanges with carried mounts", value: strconv.Itoa(reads), spread: "-", goal: "0", met: reads == 0,
		seen: "by path, below a carried directory, through an old descriptor"}}
}

// layers starts and reloads with as many layers as shall work.
func layers(k *kit) []row {
	const n = 490
	dir, state := k.c.TempDir(), k.stateDir()
	var dirs []string
	for i := range n {
		dirs = append(dirs, fmt.Sprintf("%s/l%d", dir, i))
		k.extension(dirs[i], "/etc", 1)
	}
	began := time.Now()
	pid := k.byHand("layers", state, dirs)
	start := time.Since(began)
	shown := func() int {
		found := 0
		k.inside(func() error {
			for i := range n {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/etc/bench.l%d/file-0", pid, i)); err == nil {
					found++
				}
			}
			return nil
		})
		return found
	}
	first := shown()
	took := k.run("/usr/bin/extexec", "reload", "--force", "--state-dir", state, "layers")
	second := shown()
	return []row{{figure: "layers that work, at start and reload", value: fmt.Sprintf("%d, %d", first, second), spread: "-", goal: strconv.Itoa(n),
		met: first == n && second == n, seen: fmt.Sprintf("start %.0f ms, reload %.0f ms", float64(start.Microseconds())/1e3, took)}}
}

// resident looks for extexec while a wrapped service runs.
func resident(k *kit) []row {
	const unit = "bench-resident.service"
	k.unit(unit, "[Service]\nType=notify\nExecStart=!/usr/bin/extexec run -- "+service+"\n[X-Extexec]\n"+lines("ExtensionDirectories", k.three(k.c.TempDir(), 1)))
	k.c.Systemctl("start", unit)
	exe := k.exe(k.c.MainPID(unit).Inside)
	kB := 0
	for p := range strings.FieldsSeq(k.c.ReadFile("/sys/fs/cgroup" + k.c.Show(unit, "ControlGroup") + "/cgroup.procs")) {
		pid, err := strconv.Atoi(p)
		k.check(err)
		if strings.HasSuffix(k.exe(pid), "/extexec") {
			kB += int(meminfo([]byte(k.c.ReadFile("/proc/"+p+"/status")), "VmRSS"))
		}
	}
	return []row{{figure: "resident memory of extexec while the service runs", value: fmt.Sprintf("%d KiB", kB), spread: "-", goal: "0", met: kB == 0,
		seen: "/proc/MAINPID/exe is " + exe}}
}

// size looks at the program that the rig has built as releases are.
func size(k *kit) []row {
	var bytes int64
	k.inside(func() error {
		fi, err := os.Stat("/usr/bin/extexec")
		if err == nil {
			bytes = fi.Size()
		}
		return err
	})
	mib := float64(bytes) / (1 << 20)
	return []row{{figure: "binary size", value: fmt.Sprintf("%.2f MiB", mib), spread: "-", goal: "<= 8 MiB", met: mib <= 8, seen: "static, stripped"}}
}
