package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/integration/rig"
)

// imageSeed is what systemd-repart and extexec derive UUIDs from.
const imageSeed = "11111111-2222-3333-4444-555555555555"

// A workshop is a directory of a forky container in which images are made.
type workshop struct {
	t   *testing.T
	c   *rig.Container
	dir string
}

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	return newWorkshopIn(t, rig.Shared(t, rig.Forky))
}

func newWorkshopIn(t *testing.T, c *rig.Container) *workshop {
	t.Helper()
	w := &workshop{t: t, c: c, dir: c.TempDir()}
	w.do(`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout web.key -out web.crt -days 30 -subj "/CN=extexec test" 2>/dev/null
		mkdir -p sysext/usr/lib/extension-release.d sysext/usr/lib/images sysext/opt/images
		echo ID=_any >sysext/usr/lib/extension-release.d/extension-release.web
		echo one >sysext/usr/lib/images/file
		echo two >sysext/opt/images/file
		cp /usr/bin/openssl sysext/usr/lib/images/larger
		ln sysext/usr/lib/images/file sysext/usr/lib/images/link
		cp -a sysext/usr/lib confext
		mkdir confext/etc
		mv confext/extension-release.d confext/images confext/etc`)
	return w
}

// do runs a script in the directory; it has to succeed.
func (w *workshop) do(script string) string {
	w.t.Helper()
	return w.c.Script("set -e; cd " + w.dir + "\nexport SOURCE_DATE_EPOCH=1600000000\n" + script)
}

// partitions reads an image: its table, and what the partitions have but for zeros at the end.
func (w *workshop) partitions(name string) (*gpt.Table, [][]byte) {
	w.t.Helper()
	b := []byte(w.c.ReadFile(w.dir + "/" + name))
	table, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	var contents [][]byte
	for _, p := range table.Partitions {
		content, err := io.ReadAll(io.NewSectionReader(bytes.NewReader(b), p.Offset, p.Size))
		if err != nil {
			w.t.Fatal(err)
		}
		contents = append(contents, bytes.TrimRight(content, "\x00"))
	}
	return table, contents
}

// TestBuildAsRepart builds what systemd-repart builds of the same directory, from the same seed, with the same key.
// Partitions have the same types, UUIDs, labels and attributes. repart writes an attribute of its own into the file
// system (user.validatefs); told not to, file system, hash tree and signature are the same byte for byte.
func TestBuildAsRepart(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	// Unlike ECDSA as OpenSSL makes it, RSA signs the same twice.
	w.do(`openssl req -x509 -newkey rsa:2048 -nodes -keyout web.key -out web.crt -days 30 -subj "/CN=extexec test" 2>/dev/null`)
	for _, class := range []string{"sysext", "confext"} {
		const repart = "systemd-repart --offline=yes --pretty=no --private-key=web.key --certificate=web.crt --seed=" + imageSeed
		w.do(`/usr/bin/extexec build ` + class + ` -o web_ours.raw --key web.key --certificate web.crt --seed ` + imageSeed + `
			rm -rf definitions web_ddi.raw web_same.raw
			` + repart + ` --make-ddi=` + class + ` --copy-source=$PWD/` + class + ` web_ddi.raw
			cp -r /usr/lib/systemd/repart/definitions/` + class + `.repart.d definitions
			echo AddValidateFS=no >>definitions/10-root.conf
			` + repart + ` --definitions=$PWD/definitions --empty=create --size=auto --copy-source=$PWD/` + class + ` web_same.raw`)
		ours, content := w.partitions("web_ours.raw")
		ddi, _ := w.partitions("web_ddi.raw")
		same, wantContent := w.partitions("web_same.raw")
		// repart leaves the rest of the image to the hash partition, and starts at another place then.
		trim := func(table *gpt.Table, hash bool) []gpt.Partition {
			all := []gpt.Partition{}
			for _, p := range table.Partitions {
				p.Offset, p.Size = 0, 0
				if !hash && p.Number < 3 {
					p.ID = gpt.UUID{}
				}
				all = append(all, p)
			}
			return all
		}
		if d := cmp.Diff(trim(ddi, false), trim(ours, false)); d != "" || ours.ID != ddi.ID {
			t.Errorf("%s (-repart --make-ddi +ours): %s %s\n%s", class, ddi.ID, ours.ID, d)
		}
		if d := cmp.Diff(trim(same, true), trim(ours, true)); d != "" {
			t.Errorf("%s (-repart +ours):\n%s", class, d)
		}
		for i := range content {
			if !bytes.Equal(content[i], wantContent[i]) {
				t.Errorf("%s: partition %d has other bytes than that of repart", class, i+1)
			}
		}
	}
}

// TestBuiltImagesAreValid has systemd look at images of each format.
func TestBuiltImagesAreValid(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	for _, class := range []string{"sysext", "confext"} {
		for _, flags := range []string{"--format erofs", "--format erofs --compression zstd", "--format squashfs", "--format squashfs --compression zstd:3", "",
			"--compression lz4hc:9", "--key web.key --certificate web.crt"} {
			w.do("/usr/bin/extexec build " + class + " -o web_1.raw " + flags)
			if out := w.do("systemd-dissect --validate web_1.raw"); out != "OK\n" {
				t.Errorf("%s %s: %s", class, flags, out)
			}
		}
	}
}

// dissected is what systemd-dissect says of an image.
type dissected struct {
	ImageUUID                                     string
	UseSystemExtension, UseConfigurationExtension bool
	SysextRelease, ConfextRelease                 []string
	Mounts                                        []struct {
		RW, Designator, FSType, Architecture, Verity string
		UUID                                         string `json:"partition_uuid"`
		Label                                        string `json:"partition_label"`
		GrowFS                                       bool
		Number                                       int `json:"partno"`
	}
}

// lines puts that into words.
func (d *dissected) lines() []string {
	lines := []string{"disk " + d.ImageUUID, fmt.Sprintf("sysext %v, confext %v", d.UseSystemExtension, d.UseConfigurationExtension)}
	lines = append(append(lines, d.SysextRelease...), d.ConfextRelease...)
	for _, m := range d.Mounts {
		lines = append(lines, fmt.Sprintf("%d %s %s %s %s growfs %v", m.Number, m.Designator, m.Architecture, m.UUID, m.Label, m.GrowFS))
		if !strings.Contains(m.Designator, "verity") {
			lines = append(lines, fmt.Sprintf("%s is %s, verity %q", m.Designator, m.FSType, m.Verity))
		}
	}
	return lines
}

// inspected is what extexec inspect says of an image.
type inspected struct {
	DiskID     string
	Partitions []struct {
		Number                                int
		Designator, Architecture, UUID, Label string
		GrowFS                                bool
	}
	Volumes []struct {
		Designator, FileSystem string
		Verity                 *struct{ Signature string }
	}
	Contents struct {
		Releases []struct {
			Class  string
			Fields map[string]string
		}
	}
}

// lines puts that into the same words.
func (d *inspected) lines() []string {
	var releases []string
	has := map[string]bool{}
	for _, r := range d.Contents.Releases {
		has[r.Class] = true
		for key, value := range r.Fields {
			releases = append(releases, key+"="+value)
		}
	}
	lines := append([]string{"disk " + d.DiskID, fmt.Sprintf("sysext %v, confext %v", has["sysext"], has["confext"])}, releases...)
	volume := func(i int) string {
		v, verity := d.Volumes[i], ""
		if v.Verity != nil {
			verity = "yes"
			if v.Verity.Signature != "" {
				verity = "signed"
			}
		}
		return fmt.Sprintf("%s is %s, verity %q", v.Designator, v.FileSystem, verity)
	}
	if len(d.Partitions) == 0 {
		return append(lines, fmt.Sprintf("0 %s    growfs false", d.Volumes[0].Designator), volume(0))
	}
	for i, p := range d.Partitions {
		lines = append(lines, fmt.Sprintf("%d %s %s %s %s growfs %v", p.Number, p.Designator, p.Architecture, p.UUID, p.Label, p.GrowFS))
		if i == 0 {
			lines = append(lines, volume(0))
		}
	}
	return lines
}

// TestInspectAsDissect holds what extexec says of an image against what systemd says.
func TestInspectAsDissect(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	for name, script := range map[string]string{
		"bare erofs":    "extexec build sysext -o web_1.raw --format erofs",
		"bare squashfs": "extexec build confext -o web_1.raw --format squashfs",
		"DDI":           "extexec build sysext -o web_1.raw",
		"signed DDI":    "extexec build confext -o web_1.raw --key web.key --certificate web.crt",
		"usr partition": "mv sysext/opt .; extexec build sysext -o web_1.raw --partition usr; mv opt sysext",
		"repart's own":  "systemd-repart --offline=yes --pretty=no --make-ddi=sysext --private-key=web.key --certificate=web.crt --copy-source=$PWD/sysext web_1.raw 2>/dev/null",
	} {
		w.do("rm -f web_1.raw; " + script + " >/dev/null")
		var ours inspected
		var theirs dissected
		for what, v := range map[string]any{"systemd-dissect --json=short": &theirs, "extexec inspect --json": &ours} {
			text := w.do(what + " web_1.raw")
			if err := json.Unmarshal([]byte(text), v); err != nil {
				t.Fatalf("%s, %s: %v\n%s", name, what, err, text)
			}
		}
		if len(ours.Partitions) == 0 {
			ours.DiskID = theirs.ImageUUID // of a bare file system: its own
		}
		if d := cmp.Diff(theirs.lines(), ours.lines()); d != "" {
			t.Errorf("%s (-systemd +extexec):\n%s", name, d)
		}
	}
}

// TestBuiltImagesStart starts services with built and composed images, by systemd and by extexec.
func TestBuiltImagesStart(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	w.do(`mkdir -p over/usr/lib/images s c
		cp -a sysext s/web
		cp -a confext c/web
		echo three >over/usr/lib/images/file
		mknod over/usr/lib/images/larger c 0 0
		/usr/bin/extexec build sysext -o web_1.raw --format erofs
		/usr/bin/extexec build sysext -o web_2.raw --format squashfs --compression none
		/usr/bin/extexec build confext -o web_3.raw --format erofs
		/usr/bin/extexec build over -o over_1.raw --format erofs --id _any
		/usr/bin/extexec compose web_1.raw over_1.raw -o both_1.raw --format erofs
		/usr/bin/extexec compose s/web c/web over_1.raw -o all_1.raw --format squashfs`)
	for name, c := range map[string]struct {
		read string
		want string
	}{
		"web_1":  {"cat /usr/lib/images/file /opt/images/file", "one\ntwo\n"},
		"web_2":  {"cat /usr/lib/images/link /opt/images/file", "one\ntwo\n"},
		"web_3":  {"cat /etc/images/file", "one\n"},
		"both_1": {"cat /usr/lib/images/file /opt/images/file; test -e /usr/lib/images/larger || echo gone", "three\ntwo\ngone\n"},
		"all_1":  {"cat /usr/lib/images/file /etc/images/link; test -e /usr/lib/images/larger || echo gone", "three\none\ngone\n"},
	} {
		section := fmt.Sprintf("Type=oneshot\nExecStart=%%s/bin/sh -c '{ %s; } >%s/seen'\n", c.read, w.dir)
		for way, text := range map[string]string{
			"systemd": "[Service]\n" + fmt.Sprintf(section, "") + "ExtensionImages=" + w.dir + "/" + name + ".raw\n",
			"extexec": "[Service]\n" + fmt.Sprintf(section, "!/usr/bin/extexec run -- ") + "[X-Extexec]\nExtensionImages=" + w.dir + "/" + name + ".raw\n",
		} {
			unit := "images-" + strings.ReplaceAll(name, "_", "-") + "-" + way + ".service"
			w.c.WriteUnit(unit, text)
			w.c.Systemctl("start", unit)
			if got := w.c.ReadFile(w.dir + "/seen"); got != c.want {
				t.Errorf("%s by %s: it saw %q, want %q", name, way, got, c.want)
			}
		}
	}
}

// TestBuiltDDIStarts starts services with a signed disk image. The container has no device mapper, so systemd is told to
// leave the hash tree alone, and extexec checks a copy.
func TestBuiltDDIStarts(t *testing.T) {
	t.Parallel()
	w := newWorkshopIn(t, rig.Boot(t, rig.Forky, rig.Options{}))
	w.do("extexec build sysext -o web_1.raw --key web.key --certificate web.crt")
	start := func(name, text string) rig.Result {
		t.Helper()
		w.c.WriteUnit(name, "[Service]\nType=oneshot\n"+text)
		return w.c.Exec(t.Context(), "systemctl", "start", name)
	}
	read := "/bin/sh -c 'cat /usr/lib/images/link >" + w.dir + "/seen'\n"
	const ignore = "root=unprotected+absent:root-verity=unused+absent:root-verity-sig=unused+absent"
	ours := "ExecStart=!/usr/bin/extexec run -- " + read + "[X-Extexec]\nExtensionImages=" + w.dir + "/web_1.raw\nRequireSignature=yes\n"
	if r := start("ddi-untrusted.service", ours); r.Code == 0 || !strings.Contains(w.c.Journal("ddi-untrusted.service"), "no certificate is trusted") {
		t.Errorf("nobody trusts the key: %s\n%s", r, w.c.Journal("ddi-untrusted.service"))
	}
	w.do("mkdir -p /etc/verity.d; cp web.crt /etc/verity.d/web.crt")
	w.c.Cleanup(func() { w.c.Remove("/etc/verity.d") })
	for name, text := range map[string]string{
		"systemd": "ExecStart=" + read + "ExtensionImages=" + w.dir + "/web_1.raw\nExtensionImagePolicy=" + ignore + "\n",
		"extexec": ours,
	} {
		w.do("rm -f seen")
		if r := start("ddi-"+name+".service", text); r.Code != 0 || w.c.ReadFile(w.dir+"/seen") != "one\n" {
			t.Errorf("%s: %s\n%s", name, r, w.c.Journal("ddi-"+name+".service"))
		}
	}
	if out := w.do("extexec inspect web_1.raw --image-policy root=signed"); !strings.Contains(out, "yes, trusted by /etc/verity.d/web.crt") ||
		!strings.Contains(out, "lets it in") {
		t.Errorf("inspect says\n%s", out)
	}
}

// TestBuildInterrupted ends a build: nothing is left but what was there before.
func TestBuildInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	w.do("mkdir out; echo before >out/web.raw")
	// A program that never ends stands in for mkfs.erofs.
	w.c.WriteFile(w.dir+"/bin/mkfs.erofs", "#!/bin/sh\necho begun >"+w.dir+"/begun\nexec sleep 600\n", 0o755)
	p := w.c.Start(rig.Command{Argv: []string{"/usr/bin/extexec", "build", w.dir + "/sysext", "-o", w.dir + "/out/web.raw"},
		Env: []string{"PATH=" + w.dir + "/bin:/usr/bin"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !w.c.Exists(w.dir + "/begun") {
		if ctx.Err() != nil {
			t.Fatal("it has not begun")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	r, err := p.Wait(ctx)
	if err != nil || r.Code != 1 {
		t.Errorf("%v, %s", err, r)
	}
	if got := w.do("ls -A out; cat out/web.raw"); got != "web.raw\nbefore\n" {
		t.Errorf("left: %q", got)
	}
}

// TestBuildDiskFull builds and composes onto a disk that is too small: one line that says so, and nothing is left.
func TestBuildDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	w.do("mkdir full s; cp -a sysext s/web; mount -t tmpfs -o size=300k none full; echo before >full/web.raw")
	w.c.Cleanup(func() { w.do("umount full") })
	for _, command := range []string{"build s/web --format erofs", "build s/web --format squashfs", "build s/web", "compose s/web --format erofs", "compose s/web"} {
		r := w.c.Exec(t.Context(), "sh", "-c", "cd "+w.dir+"; exec /usr/bin/extexec "+command+" -o full/web.raw")
		if r.Code != 1 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%s: %s", command, r)
		}
		if got := w.do("ls -A full; cat full/web.raw"); got != "web.raw\nbefore\n" {
			t.Errorf("%s left %q", command, got)
		}
	}
}
