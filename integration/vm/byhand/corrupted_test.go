package byhand

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/devmapper"
	"github.com/extexec/extexec/image/verity"
	"github.com/extexec/extexec/nsmount"
	"github.com/extexec/extexec/reload"
	"github.com/extexec/extexec/reload/status"
)

// large is a file of the image, a block of which is changed.
const large = "usr/share/by-hand-verity/large"

// A verified is a service by hand whose image the kernel verifies.
type verified struct {
	*stage
	name string
	pid  int
}

// A protection says what image is to be made.
type protection struct {
	size  int // of the large file, in bytes
	block int // of the data, in bytes
}

// protect makes an image with a hash tree, and what it is when a block of the large file was changed.
func (s *stage) protect(p protection) (good, changed, tree []byte, root string) {
	s.t.Helper()
	noise := make([]byte, p.size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	s.write(s.dir+"/tree/"+large, string(noise))
	s.write(s.dir+"/tree/usr/lib/extension-release.d/extension-release.web", "ID=_any\n")
	if out, err := exec.Command("mkfs.erofs", "--quiet", s.dir+"/made", s.dir+"/tree").CombinedOutput(); err != nil {
		s.t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	good, err := os.ReadFile(s.dir + "/made")
	s.must(err)
	good = append(good, make([]byte, (p.block-len(good)%p.block)%p.block)...)
	sb := &verity.Superblock{Algorithm: "sha256", DataBlockSize: uint32(p.block), HashBlockSize: 4096, DataBlocks: uint64(len(good) / p.block)}
	w, err := os.Create(s.dir + "/hashes")
	s.must(err)
	defer w.Close()
	hash, err := verity.Format(context.Background(), sb, bytes.NewReader(good), w)
	s.must(err)
	tree, err = os.ReadFile(w.Name())
	s.must(err)
	at := bytes.Index(good, noise[128<<10:][:64])
	if at < 0 {
		s.t.Fatal("the file is not found in the image")
	}
	changed = bytes.Clone(good)
	changed[at] ^= 1
	return good, changed, tree, fmt.Sprintf("%x\n", hash)
}

// put has an image appear by rename.
func (s *stage) put(image []byte) {
	s.t.Helper()
	s.must(os.WriteFile(s.dir+"/part", image, 0o600))
	s.must(os.Rename(s.dir+"/part", s.dir+"/web.raw"))
}

// start starts a service, which does nothing. It is no program of /usr: what runs from there keeps its overlay.
func (s *stage) start(name string) *verified {
	s.t.Helper()
	self, err := os.Executable()
	s.must(err)
	cmd := exec.Command(s.extexec, "run", "--state-dir", s.dir+"/state", "--name", name, "--extension-image", s.dir+"/web.raw", "--", self)
	cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), sleeper+"=1")
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		s.must(cmd.Process.Kill())
		_ = cmd.Wait()
	})
	v := &verified{s, name, cmd.Process.Pid}
	v.running(self)
	return v
}

// running waits until the service is that program.
func (v *verified) running(program string) {
	v.t.Helper()
	v.eventually(v.name+" runs", func() bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", v.pid))
		return err == nil && exe == program
	})
}

func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it does not come to it that %s", what)
		}
	}
}

// call runs the program on the service and returns what it prints.
func (v *verified) call(verb string, args ...string) (out, said string) {
	v.t.Helper()
	cmd := exec.Command(v.extexec, slices.Concat([]string{verb, "--state-dir", v.dir + "/state"}, args, []string{v.name})...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		v.t.Fatalf("extexec %s: %v\n%s", verb, err, stderr.String())
	}
	return string(b), stderr.String()
}

// read reads the large file as the service sees it.
func (v *verified) read(want error) {
	v.t.Helper()
	_, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/%s", v.pid, large))
	if !errors.Is(err, want) {
		v.t.Errorf("%s reads %v, want %v", v.name, err, want)
	}
}

// status checks whether there is a note of a changed block, and gives the device.
func (v *verified) status(noted bool, generation uint64) (device string) {
	v.t.Helper()
	out, _ := v.call("status", "--json")
	var got status.Status
	v.must(json.Unmarshal([]byte(out), &got))
	note := func(n string) bool {
		return strings.Contains(n, "has seen a changed block in") && strings.Contains(n, v.dir+"/web.raw")
	}
	if slices.ContainsFunc(got.Notes, note) != noted {
		v.t.Errorf("the notes of %s are %q, want one of a changed block: %v", v.name, got.Notes, noted)
	}
	text, said := v.call("status")
	if text += said; strings.Contains(text, "changed block") != noted || !strings.Contains(text, "verified (kernel)") {
		v.t.Errorf("status of %s:\n%s", v.name, text)
	}
	if got.Generation.Number != generation || len(got.Generation.Extensions) != 1 {
		v.t.Fatalf("generation of %s: %+v, want number %d", v.name, got.Generation, generation)
	}
	return got.Generation.Extensions[0].Device
}

// TestCorrupted has an image with a block that was changed, which the kernel finds when it is read. Status says so, plan
// says what a reload would do, and a reload after the image was installed again reads the good one, although the root hash
// is the same. Who has not reloaded keeps its error.
func TestCorrupted(t *testing.T) {
	if err := devmapper.Available(); err != nil {
		t.Skipf("runs in integration/vm: %v", err)
	}
	s := newStage(t)
	good, changed, tree, root := s.protect(protection{size: 256 << 10, block: 4096})
	s.put(changed)
	s.must(os.WriteFile(s.dir+"/web.verity", tree, 0o600))
	s.must(os.WriteFile(s.dir+"/web.roothash", []byte(root), 0o600))
	t.Cleanup(func() { s.devices(0) }) // when the services have ended
	a, b := s.start("corrupted-a"), s.start("corrupted-b")
	first := a.status(false, 1)
	if other := b.status(false, 1); first == "" || first != other {
		t.Errorf("devices %q and %q, want one", first, other)
	}
	a.read(unix.EIO)
	a.status(true, 1)
	b.status(true, 1)

	// What lies there is as bad as before: it is taken, and found out once more.
	_, said := a.call("reload", "--if-changed")
	if !strings.Contains(said, "has seen a changed block in") || !strings.Contains(said, "generation 1 is live") {
		t.Errorf("reload said %q", said)
	}
	second := a.status(false, 1)
	if second == first {
		t.Errorf("a reload took the same device, %q", second)
	}
	a.read(unix.EIO)
	a.status(true, 1)

	s.put(good)
	out, _ := a.call("plan", "--json")
	var plan reload.PlanResult
	s.must(json.Unmarshal([]byte(out), &plan))
	if plan.Action != reload.Refresh || !strings.Contains(plan.Why, "has seen a changed block in "+s.dir+"/web.raw") {
		t.Errorf("plan: %q, %q", plan.Action, plan.Why)
	}
	a.call("reload", "--if-changed")
	a.read(nil)
	a.status(false, 1)
	if _, said := a.call("reload", "--if-changed"); !strings.Contains(said, "unchanged, generation 1") {
		t.Errorf("the next reload said %q", said)
	}
	b.read(unix.EIO)
	b.status(true, 1)
	b.call("reload")
	b.read(nil)
	if device := b.status(false, 1); device != a.status(false, 1) {
		t.Errorf("b reads from %q, and there is a good device already", device)
	}
	if nsmount.HaveBeneath() { // else what was exchanged is covered, and stays
		s.devices(1)
	}
}

// devices wants so many devices left.
func (s *stage) devices(n int) {
	s.t.Helper()
	var left []string
	s.eventually(fmt.Sprintf("there are %d devices", n), func() bool {
		paths, err := filepath.Glob("/sys/block/dm-*/dm/name")
		s.must(err)
		left = nil
		for _, p := range paths {
			// What cannot be read is just going.
			if name, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(name), "extexec-verity-") {
				left = append(left, strings.TrimSpace(string(name)))
			}
		}
		return len(left) == n
	})
}
