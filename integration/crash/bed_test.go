//go:build amd64

package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount/nsmounttest"
)

// bed is a service, started by the built program, with a confext and a sysext in .v/
// directories.
type bed struct {
	t       testing.TB
	dir     string
	program string
	unit    string // lines of [X-Extexec], beside the extensions
	images  bool   // the sysext is an image that needs a loop device
	svc     *nsmounttest.Service
	version int // that is installed

	mounts []string // of the test
	table  []string // of the service, when it is at rest
	loops  []string
}

// build builds the program once for all tests.
func build(t testing.TB) string {
	t.Helper()
	nsmounttest.Root(t)
	if path := os.Getenv("EXTEXEC_BINARY"); path != "" {
		return path
	}
	out := filepath.Join(t.TempDir(), "extexec")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", out, "../../cmd/extexec")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return out
}

func newBed(t testing.TB, unit string, images bool) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), program: build(t), images: images}
	b.unit = strings.ReplaceAll(unit, "DIR", b.dir)
	if images {
		b.makeImages()
	}
	b.install()
	return b
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) write(path, content string) {
	b.t.Helper()
	b.must(os.MkdirAll(filepath.Dir(path), 0o755))
	b.must(os.WriteFile(path, []byte(content), 0o644))
}

// parity is what distinguishes a version of the sysext from the one before.
func parity(version int) string { return []string{"even", "odd"}[version%2] }

// files are where each hierarchy shows its version, twice.
var files = []string{"/usr/lib/extexec-a", "/usr/share/extexec-b", "/opt/extexec-a", "/opt/extexec-b", "/etc/extexec-a", "/etc/extexec-b"}

// content is what a file has in a version.
func content(file string, version int) string {
	if strings.HasPrefix(file, "/etc/") {
		return fmt.Sprint(version)
	}
	return parity(version)
}

func (b *bed) tree(dir, name string, version int, hierarchies ...string) {
	b.t.Helper()
	for _, f := range files {
		if slices.ContainsFunc(hierarchies, func(h string) bool { return strings.HasPrefix(f, h) }) {
			b.write(dir+f, content(f, version))
		}
	}
	release := "/usr/lib/extension-release.d/extension-release."
	if name == "conf" {
		release = "/etc/extension-release.d/extension-release."
	}
	b.write(dir+release+name, "ID=_any\n")
}

func (b *bed) makeImages() {
	b.t.Helper()
	for v := range 2 {
		dir := fmt.Sprintf("%s/image%d", b.dir, v)
		b.tree(dir, "sys", v, "/usr", "/opt")
		if msg, err := exec.Command("mksquashfs", dir, dir+".raw", "-quiet", "-no-progress").CombinedOutput(); err != nil {
			b.t.Fatalf("mksquashfs: %v\n%s", err, msg)
		}
	}
}

// install makes the next version of both extensions appear by rename, and removes the
// one before the last.
func (b *bed) install() {
	b.t.Helper()
	b.version++
	v := b.version
	b.must(os.MkdirAll(b.dir+"/conf.v", 0o755))
	b.must(os.MkdirAll(b.dir+"/sys.v", 0o755))
	b.tree(b.dir+"/new", "conf", v, "/etc")
	b.must(os.Rename(b.dir+"/new", fmt.Sprintf("%s/conf.v/conf_%d", b.dir, v)))
	if b.images {
		data, err := os.ReadFile(fmt.Sprintf("%s/image%d.raw", b.dir, v%2))
		b.must(err)
		b.write(b.dir+"/new", string(data))
		b.must(os.Rename(b.dir+"/new", fmt.Sprintf("%s/sys.v/sys_%d.raw", b.dir, v)))
	} else {
		b.tree(b.dir+"/new", "sys", v, "/usr", "/opt")
		b.must(os.Rename(b.dir+"/new", fmt.Sprintf("%s/sys.v/sys_%d", b.dir, v)))
	}
	for _, name := range []string{"conf", "sys"} {
		b.must(os.RemoveAll(fmt.Sprintf("%s/%s.v/%s_%d", b.dir, name, name, v-2)))
		b.must(os.RemoveAll(fmt.Sprintf("%s/%s.v/%s_%d.raw", b.dir, name, name, v-2)))
	}
}

// run is the command that starts the service.
func (b *bed) run(argv ...string) *exec.Cmd {
	b.t.Helper()
	sys := fmt.Sprintf("ExtensionDirectories=%s/conf.v %s/sys.v", b.dir, b.dir)
	if b.images {
		sys = fmt.Sprintf("ExtensionDirectories=%s/conf.v\nExtensionImages=%s/sys.v", b.dir, b.dir)
	}
	b.write(b.dir+"/bed.service", "[Service]\nExecStart=/bin/sh\n[X-Extexec]\n"+sys+"\n"+b.unit)
	args := []string{"run", "--name", "bed", "--unit", b.dir + "/bed.service", "--state-dir", b.dir + "/state", "--"}
	return exec.Command(b.program, append(args, argv...)...)
}

func (b *bed) start() {
	b.t.Helper()
	self, err := os.Executable()
	b.must(err)
	cmd := b.run(self)
	cmd.Env = append(os.Environ(), nsmounttest.Environment()...)
	cmd.Stderr = os.Stderr
	b.svc = nsmounttest.StartCommand(b.t, cmd)
}

func (b *bed) reload() *exec.Cmd {
	return exec.Command(b.program, "reload", "--state-dir", b.dir+"/state", "bed")
}

// rest remembers what there is when nothing is at work.
func (b *bed) rest() {
	b.t.Helper()
	b.mounts, b.loops = b.ours(nsmounttest.Mounts(), 2), b.attached()
	if b.svc != nil {
		b.table = b.shape()
	}
}

// ours are the mounts that a reload of the bed could have to do with: others may come
// and go on the machine. What is given are lines of a mount table, and which field of
// them the mount point is. Ids, and the sources of overlays, are left out.
func (b *bed) ours(table []string, field int) []string {
	var lines []string
	for _, line := range table {
		f := strings.Fields(line)
		point, kind := f[field], f[slices.Index(f, "-")+1]
		if slices.ContainsFunc([]string{"/usr", "/opt", "/etc", b.dir}, func(p string) bool { return point == p || strings.HasPrefix(point, p+"/") }) {
			lines = append(lines, point+" "+kind)
		}
	}
	slices.Sort(lines)
	return lines
}

// shape is what the service has mounted.
func (b *bed) shape() []string { return b.ours(b.svc.Table(""), 4) }

// attached are the loop devices of our files.
func (b *bed) attached() []string {
	var ours []string
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	b.must(err)
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err == nil && strings.Contains(string(data), b.dir) {
			ours = append(ours, n)
		}
	}
	return ours
}

// sees is which version each hierarchy shows, old or new; wrong is what should not be.
func (b *bed) sees(version int) (which []string, wrong error) {
	b.t.Helper()
	for i := 0; i < len(files); i += 2 {
		one, two := b.svc.Read(files[i]), b.svc.Read(files[i+1])
		switch {
		case one != two:
			wrong = errors.Join(wrong, fmt.Errorf("%s has %q, %s has %q", files[i], one, files[i+1], two))
		case one == content(files[i], version):
			which = append(which, "new")
		case one == content(files[i], version-1):
			which = append(which, "old")
		default:
			wrong = errors.Join(wrong, fmt.Errorf("%s has %q", files[i], one))
		}
	}
	return which, wrong
}

// hammer has the service read all files, until tally.
func (b *bed) hammer() { b.svc.Hammer(strings.Join(files, ",")) }

// tally gives what the service found that is in neither version.
func (b *bed) tally(version int) (wrong []string) {
	b.t.Helper()
	found, reads := b.svc.Tally(), 0
	for key, n := range found {
		file, text, _ := strings.Cut(key, "=")
		if reads += n; text != content(file, version) && text != content(file, version-1) {
			wrong = append(wrong, fmt.Sprintf("%d times %s", n, key))
		}
	}
	if reads == 0 {
		wrong = append(wrong, "the service read nothing")
	}
	return wrong
}

// locked says whether somebody holds the lock.
func (b *bed) locked() error {
	f, err := os.Open(b.dir + "/state/record/bed/lock")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the lock: %w", err)
	}
	return nil
}

// leftovers are the files of the state directory that a reload that is done does not
// have.
func (b *bed) leftovers() []string {
	var left []string
	for _, dir := range []string{"/state/record/bed", "/state/memory/bed"} {
		entries, err := os.ReadDir(b.dir + dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains([]string{"lock", "state.json", "memory.json", "history.jsonl"}, e.Name()) {
				left = append(left, dir+"/"+e.Name())
			}
		}
	}
	return left
}

// clean looks for what a reload has left in the test's namespace and on the machine,
// after it has ended in any way.
func (b *bed) clean() (wrong []string) {
	if mounts := b.ours(nsmounttest.Mounts(), 2); !slices.Equal(mounts, b.mounts) {
		wrong = append(wrong, "the test's mounts have changed: "+strings.Join(mounts, "\n"))
	}
	if err := b.locked(); err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}
