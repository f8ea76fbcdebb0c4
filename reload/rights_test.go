package reload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/nsmount"
)

// nobody is a user that has no rights.
const nobody = 65534

// TestRights executes programs of a layer as a user without rights: whether one that is setuid root, or has a file
// capability, gives them, and whether one is executed at all, is what NoSuid= and NoExec= say; at a start and after a
// reload, for a directory and for an image.
func TestRights(t *testing.T) {
	for _, kind := range []string{"directory", "image"} {
		for _, lines := range []string{"", "NoSuid=yes", "NoExec=yes", "NoSuid=yes\nNoExec=yes"} {
			t.Run(kind+" "+strings.ReplaceAll(lines, "\n", " "), func(t *testing.T) {
				b := newRightsBed(t, kind, lines)
				b.start()
				b.wantRights(lines)
				b.ship("2")
				if res, err := b.reload(Options{}); err != nil || !res.Exchanged {
					t.Fatalf("reload: %+v, %v", res, err)
				}
				b.wantRights(lines)
				// A reload of the same version puts them on, too.
				b.restrict("NoSuid=yes\nNoExec=yes")
				if _, err := b.reload(Options{}); err != nil {
					t.Fatal(err)
				}
				b.wantRights("NoSuid=yes\nNoExec=yes")
			})
		}
	}
}

// rightsBed is a service with an extension that has cat(1) twice: setuid root, and with a capability.
type rightsBed struct {
	*bed
	kind string
}

func newRightsBed(t *testing.T, kind, lines string) *rightsBed {
	b := &rightsBed{newBed(t), kind}
	b.ship("1")
	b.restrict(lines)
	return b
}

// restrict writes the unit. Only /opt is overlaid: what cat itself needs is in /usr.
func (b *rightsBed) restrict(lines string) {
	setting := map[string]string{"directory": "ExtensionDirectories", "image": "ExtensionImages"}[b.kind]
	b.write("Hierarchies=/opt", setting+"="+b.dir+"/rights.v", lines)
}

// ship makes a version appear.
func (b *rightsBed) ship(version string) {
	b.t.Helper()
	tree, v := b.dir+"/rights", b.dir+"/rights.v"
	cat, err := os.ReadFile("/usr/bin/cat")
	must := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	must(err)
	release := tree + "/usr/lib/extension-release.d/extension-release.rights"
	for path, content := range map[string][]byte{release: []byte("ID=_any\n"), tree + "/opt/rights/suid": cat, tree + "/opt/rights/caps": cat, tree + "/opt/rights/version": []byte(version)} {
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, content, 0o755))
	}
	must(os.Chmod(tree+"/opt/rights/suid", 0o755|os.ModeSetuid))
	must(unix.Setxattr(tree+"/opt/rights/caps", "security.capability", fileCapability(unix.CAP_CHOWN), 0))
	must(os.MkdirAll(v, 0o755))
	name := v + "/rights_" + version
	if b.kind == "directory" {
		must(os.Rename(tree, name))
		return
	}
	if out, err := exec.Command("mksquashfs", tree, b.dir+"/part", "-quiet", "-no-progress").CombinedOutput(); err != nil {
		b.t.Fatalf("mksquashfs: %v: %s", err, out)
	}
	must(errors.Join(os.Rename(b.dir+"/part", name+".raw"), os.RemoveAll(tree)))
}

// fileCapability is a capability that a file gives, in effect at once (linux/capability.h, struct vfs_cap_data).
func fileCapability(number int) []byte {
	const revision2, effective = 0x02000000, 0x1
	data := make([]byte, 20)
	binary.LittleEndian.PutUint32(data, revision2|effective)
	binary.LittleEndian.PutUint32(data[4:], 1<<number)
	return data
}

// wantRights executes both as nobody.
func (b *rightsBed) wantRights(lines string) {
	b.t.Helper()
	inert, never := strings.Contains(lines, "NoSuid=yes"), strings.Contains(lines, "NoExec=yes")
	for name, c := range map[string]struct{ line, given, without string }{
		"suid": {"Uid:", "65534\t0\t0\t0", "65534\t65534\t65534\t65534"}, // real, effective, saved, of the file system
		"caps": {"CapEff:", fmt.Sprintf("%016x", 1<<unix.CAP_CHOWN), strings.Repeat("0", 16)},
	} {
		out, err := b.execute("/opt/rights/"+name, "/proc/self/status")
		if never {
			if !errors.Is(err, unix.EACCES) {
				b.t.Errorf("%s with %q: %v, %q; want EACCES", name, lines, err, out)
			}
			continue
		}
		want := c.given
		if inert {
			want = c.without
		}
		if _, rest, _ := strings.Cut(out, "\n"+c.line+"\t"); err != nil || !strings.HasPrefix(rest, want+"\n") {
			b.t.Errorf("%s with %q: %v, %q; want %s %s", name, lines, err, out, c.line, want)
		}
	}
}

// execute executes a program where the service is, as nobody, and gives what that prints.
func (b *rightsBed) execute(argv ...string) (string, error) {
	b.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	live, err := nsmount.Enter(b.svc.MountNS())
	if err != nil {
		b.t.Fatal(err)
	}
	defer live.Close()
	p, err := nsmount.Do(b.t.Context(), live, func() (*os.Process, error) {
		return os.StartProcess(argv[0], argv, &os.ProcAttr{
			Dir: "/", Files: []*os.File{nil, w, w}, Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
		})
	})
	if closed := w.Close(); closed != nil {
		b.t.Fatal(closed)
	}
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(r)
	if _, werr := p.Wait(); err == nil {
		err = werr
	}
	return string(out), err
}
