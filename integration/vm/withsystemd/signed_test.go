package withsystemd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signed is the policy under test: nothing but what is signed by a trusted key.
const signed = "root=signed"

// content is what the images' files begin with: they are in blocks of their own, not
// beside the metadata.
const content = "what the extension brings\n"

// authority makes a key and a certificate, NAME.key and NAME.crt.
func (s *stage) authority(name, kind string) {
	s.Helper()
	s.script(fmt.Sprintf(`openssl req -x509 -newkey %[2]s -nodes -keyout %[1]s.key -out %[1]s.crt -days 30 -subj "/CN=extexec test %[1]s" 2>&1`, name, kind))
}

// Kinds of keys: the second is made in no time, in an emulator too.
const (
	rsa = "rsa:2048"
	ec  = "ec -pkeyopt ec_paramgen_curve:P-256"
)

// trust puts a certificate where systemd and extexec look.
func (s *stage) trust(name string) string {
	s.Helper()
	path := "/etc/verity.d/" + name + ".crt"
	s.write(path, s.read(s.dir+"/"+name+".crt"))
	s.Cleanup(func() { s.check(os.Remove(path)) })
	return path
}

// A class is what a signed image can be.
type class struct{ name, release, file string }

var classes = []class{
	{"sysext", "usr/lib/extension-release.d/extension-release.web", "/usr/lib/web/file"},
	{"confext", "etc/extension-release.d/extension-release.web", "/etc/web/file"},
}

// image has extexec build a signed image of the class, in a directory of its own.
func (s *stage) image(c class, dir, text, key string) string {
	s.Helper()
	tree := s.tree(c, dir, text)
	path := filepath.Join(s.dir, dir, "web.raw")
	s.must("extexec", "build", tree, "-o", path, "--format", "ddi", "--key", key+".key", "--certificate", key+".crt")
	s.check(os.RemoveAll(tree))
	return path
}

// tree is what an image is made of.
func (s *stage) tree(c class, dir, text string) string {
	s.Helper()
	tree := filepath.Join(s.dir, dir, "tree")
	s.write(filepath.Join(tree, c.release), "ID=_any\n")
	s.write(filepath.Join(tree, c.file), text+strings.Repeat("x", 8<<10))
	return tree
}

// flipped is a copy of the image in which one bit is another.
func (s *stage) flipped(path, dir string, at func(image []byte) int) string {
	s.Helper()
	image := []byte(s.read(path))
	image[at(image)] ^= 4
	changed := filepath.Join(s.dir, dir, "web.raw")
	s.write(changed, string(image))
	return changed
}

// superblock is where that of erofs lies, of which the checksum covers the rest.
func superblock(image []byte) int {
	return bytes.Index(image, binary.LittleEndian.AppendUint32(nil, 0xE0F5E1E2)) + 16
}

func inContent(image []byte) int { return bytes.Index(image, []byte(content)) }

// verdict is what has to come of an image: the file's content, or no start.
type verdict struct {
	name, image string
	good        bool
}

// TestSignedImage gives images that extexec has built and signed to systemd and to
// extexec: both take what is as it was signed, by a key that is trusted, and nothing else.
func TestSignedImage(t *testing.T) {
	s := newStage(t)
	t.Log(s.must("systemctl", "--version"))
	s.authority("ours", rsa)
	s.authority("foreign", ec)
	crt := s.trust("ours")
	for _, c := range classes {
		t.Run(c.name, func(t *testing.T) {
			s := &stage{t, s.dir}
			good := s.image(c, c.name+"/good", content, "ours")
			verdicts := []verdict{
				{"good", good, true},
				{"superblock", s.flipped(good, c.name+"/superblock", superblock), false},
				{"content", s.flipped(good, c.name+"/content", inContent), false},
				{"foreign", s.image(c, c.name+"/foreign", content, "foreign"), false},
			}
			s.dissect(c, good)
			s.bySystemd(c, verdicts)
			s.byExtexec(c, verdicts, crt)
		})
	}
}

// dissect has systemd-dissect look at the image, and take the file out of it.
func (s *stage) dissect(c class, good string) {
	s.Helper()
	s.must("systemd-dissect", "--image-policy="+signed, "--validate", good)
	unsigned := filepath.Join(s.dir, c.name, "unsigned/web.raw")
	s.must("extexec", "build", s.tree(c, c.name+"/unsigned", content), "-o", unsigned, "--format", "ddi")
	if _, err := s.try("systemd-dissect", "--image-policy="+signed, "--validate", unsigned); err == nil {
		s.Error("systemd-dissect --validate takes an image that nobody has signed")
	}
	copied := filepath.Join(s.dir, c.name, "copied")
	s.must("systemd-dissect", "--image-policy="+signed, "--copy-from", good, c.file, copied)
	if got := s.read(copied); !strings.HasPrefix(got, content) {
		s.Errorf("systemd-dissect --copy-from: %.50q", got)
	}
}

// bySystemd starts a unit with each image as its ExtensionImages=.
func (s *stage) bySystemd(c class, verdicts []verdict) {
	s.Helper()
	units := map[string]string{}
	unit := func(v verdict) string { return "signed-" + c.name + "-" + v.name + ".service" }
	shown := func(v verdict) string { return "/run/" + unit(v) + ".out" }
	for _, v := range verdicts {
		units[unit(v)] = fmt.Sprintf(`[Service]
Type=oneshot
ExecStart=cat %s
StandardOutput=truncate:%s
ExtensionImages=%s
ExtensionImagePolicy=%s
`, c.file, shown(v), v.image, signed)
	}
	s.units(units)
	for _, v := range verdicts {
		_, err := s.try("systemctl", "start", unit(v))
		b, _ := os.ReadFile(shown(v)) // not there where systemd could not even begin
		if seen := strings.HasPrefix(string(b), content); seen != v.good || (err == nil) != v.good {
			s.Errorf("%s under systemd: started: %v, its unit reads %.50q", v.name, err, b)
		}
	}
}

// byExtexec starts a command with each image by hand.
func (s *stage) byExtexec(c class, verdicts []verdict, crt string) {
	s.Helper()
	for _, v := range verdicts {
		if v.good {
			s.status(c, v.image, "verified (kernel), signed: "+crt)
		} else if out, err := s.try(append(run(v.image), "cat", c.file)...); err == nil || strings.Contains(out, content) {
			s.Errorf("%s under extexec: %v, the command reads %.50q", v.name, err, out)
		}
	}
}

// run is the command line of a start by hand, up to the command.
func run(image string) []string {
	return []string{"extexec", "run", "--name", "signed", "--image-policy=" + signed, "--extension-image", image, "--"}
}

// status starts a service by hand, which has to see the file, looks for the words in its
// status, and ends it.
func (s *stage) status(c class, image, words string) {
	s.Helper()
	argv := append(run(image), "testservice", "-control", s.dir+"/control")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	s.check(cmd.Start())
	defer func() {
		s.check(cmd.Process.Kill())
		_ = cmd.Wait()
	}()
	s.appears(s.dir + "/control")
	if got := s.read(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, c.file)); !strings.HasPrefix(got, content) {
		s.Errorf("the service sees %.50q", got)
	}
	if got := s.must("extexec", "status", "signed"); !strings.Contains(got, words) {
		s.Errorf("status does not say %q:\n%s", words, got)
	}
	s.check(os.Remove(s.dir + "/control"))
}

// appears waits for a file.
func (s *stage) appears(path string) {
	s.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	s.Fatalf("%s does not appear", path)
}

// TestAdoptedImages has systemd start a unit with a signed image, and extexec reload it
// to a newer one; one that somebody else has signed changes nothing.
func TestAdoptedImages(t *testing.T) {
	s := newStage(t)
	s.authority("adopted", ec)
	s.authority("stranger", ec)
	s.trust("adopted")
	c := classes[0]
	install := func(version, key string) {
		t.Helper()
		s.check(os.MkdirAll(s.dir+"/web.v", 0o755))
		s.check(os.Rename(s.image(c, "new", version+"\n"+content, key), s.dir+"/web.v/web_"+version+".raw"))
	}
	install("1", "adopted")
	const unit, socket = "adopted.service", "/run/adopted/control"
	s.units(map[string]string{unit: fmt.Sprintf(`[Service]
Type=notify
RuntimeDirectory=adopted
ExecStart=testservice -notify -control %s -read %s
ExecReload=+extexec reload
RefreshOnReload=~extensions
ExtensionImages=%s/web.v
ExtensionImagePolicy=%s
`, socket, c.file, s.dir, signed)})
	shows := func(version string) string { return (version + "\n" + content + strings.Repeat("x", 100))[:100] }
	s.must("systemctl", "start", unit)
	s.sees(socket, c.file, shows("1"))
	install("2", "adopted")
	s.must("systemctl", "reload", unit)
	s.sees(socket, c.file, shows("2"))
	if got := s.must("extexec", "status", unit); !strings.Contains(got, "verified (kernel), signed: /etc/verity.d/adopted.crt") {
		t.Errorf("status:\n%s", got)
	}
	install("3", "stranger")
	if out, err := s.try("systemctl", "reload", unit); err == nil {
		t.Errorf("a reload takes an image that a stranger has signed: %s", out)
	}
	s.sees(socket, c.file, shows("2"))
}

// TestKernelKey has the key in the kernel's keyring alone.
func TestKernelKey(t *testing.T) {
	s := newStage(t)
	s.authority("inkernel", rsa)
	s.script(`openssl x509 -in inkernel.crt -outform der | keyctl padd asymmetric "" %:.dm-verity
keyctl restrict_keyring %:.dm-verity # until then nothing in it counts`)
	c := classes[0]
	good := s.image(c, "inkernel", content, "inkernel")
	s.bySystemd(c, []verdict{{"inkernel", good, true}})
	s.status(c, good, "verified (kernel), signed: by a key of the kernel")
}
