package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

//go:embed fetch.sh
var fetchScript []byte

// tools is Debian's release that QEMU and the root disk come from.
const tools = "trixie"

// rootPackages are what the tasks in a guest may call.
var rootPackages = []string{
	"base-files", "base-passwd", "bash", "dash", "coreutils", "findutils", "grep", "sed", "util-linux", "mount",
	"e2fsprogs", "erofs-utils", "squashfs-tools", "xfsprogs", "btrfs-progs", "fdisk", "gdisk", "attr",
	"cryptsetup-bin", "dmsetup", "procps", "keyutils", "openssl",
}

// rootSize is that of the root disk; the file is sparse.
const rootSize = "1500M"

// fetchesAtOnce bounds what runs side by side: unpacking takes one core each.
const fetchesAtOnce = 2

// An artifact is one thing in the cache.
type artifact struct {
	what, suite, packages string
}

func (k Kernel) artifact() artifact { return artifact{"kernel-" + k.Name, k.suite, "kernel"} }

var (
	qemuArtifact = artifact{"qemu", tools, "qemu-system-x86"}
	rootArtifact = artifact{"root.ext4", tools, strings.Join(rootPackages, ",")}
)

// key names one state of the thing: it changes with the recipe, and every month, for
// updates.
func (a artifact) key(now time.Time) string {
	h := sha256.New()
	fmt.Fprintln(h, a)
	h.Write(fetchScript)
	if a == rootArtifact {
		fmt.Fprint(h, diskScript, rootSize)
	}
	return "vm-" + a.what + "-" + now.UTC().Format("2006-01") + "-" + hex.EncodeToString(h.Sum(nil))[:12]
}

// path is where the thing is in the cache; it is fetched when it is missing.
func (a artifact) path() (string, error) {
	path, err := rig.Cached(a.key(time.Now()), func(path string) error {
		if a == rootArtifact {
			return a.disk(path)
		}
		return a.fetch(path)
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.what, err)
	}
	return path, nil
}

// fetch runs fetch.sh; its output shows only when it fails.
func (a artifact) fetch(dir string) error {
	mirror, err := rig.Mirror()
	if err != nil {
		return err
	}
	start := time.Now()
	return errors.Join(script(string(fetchScript), a.suite, dir, mirror, a.packages), progress("fetched %s of %s in %s", a.what, a.suite, time.Since(start)))
}

// disk makes the root disk of the packages: as a file, without mounting it.
func (a artifact) disk(path string) error {
	dir := filepath.Join(filepath.Dir(path), ".tree-"+filepath.Base(path))
	defer os.RemoveAll(dir)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := a.fetch(dir); err != nil {
		return err
	}
	return script(diskScript, dir, path, rootSize)
}

// diskScript makes an ext4 image of a directory. What the packages' own scripts would
// have made, and somebody needs, is made here.
const diskScript = `set -eu
PATH=$PATH:/usr/sbin:/sbin
cd "$1"
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
mkdir -p mnt opt payload srv usr/local
trap 'rm -f "$2.part"' EXIT
mke2fs -q -t ext4 -E lazy_itable_init=1,nodiscard -O ^has_journal -m 0 -d . "$2.part" "$3"
mv "$2.part" "$2"
`

// script runs a script that is given as text.
func script(text string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-s"}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("%s: %w\n%s", args[0], err, bytes.Join(lines[max(0, len(lines)-30):], []byte("\n")))
	}
	return nil
}

// Prepare fetches and makes what is missing in the cache: two minutes on two cores.
func Prepare(kernels []Kernel) error {
	for _, tool := range []string{"mmdebstrap", "mke2fs", "depmod"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: run \"make test\" once", err)
		}
	}
	all := []func() (string, error){systemdDisk, rootArtifact.path, qemuArtifact.path} // what takes longest first
	for _, k := range kernels {
		all = append(all, k.artifact().path)
	}
	slots := make(chan struct{}, fetchesAtOnce)
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, path := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, errs[i] = path()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// qemu is the command line of the emulator with its own libraries, whatever this
// machine has.
func qemu() ([]string, error) {
	dir, err := qemuArtifact.path()
	if err != nil {
		return nil, err
	}
	lib := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	return []string{
		filepath.Join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib + ":" + filepath.Join(lib, "pulseaudio"),
		filepath.Join(dir, "usr/bin/qemu-system-x86_64"),
		"-L", filepath.Join(dir, "usr/share/qemu"), "-L", filepath.Join(dir, "usr/share/seabios"),
	}, nil
}

// progress tells a person what takes time.
func progress(format string, args ...any) error {
	_, err := fmt.Fprintf(os.Stderr, "vm: "+format+"\n", args...)
	return err
}
