package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/extexec/extexec/integration/rig"
)

// systemdDisk is the root disk of machines with systemd as process 1: the rig's root of
// Debian forky for machines, as a file system. It is made when the cache has none.
func systemdDisk() (string, error) {
	root, err := rig.Root(rig.ForkyMachine)
	if err != nil {
		return "", err
	}
	recipe := sha256.Sum256([]byte(systemdDiskScript + rootSize))
	key := "vm-" + strings.TrimSuffix(filepath.Base(root), ".tar") + ".ext4-" + hex.EncodeToString(recipe[:])[:12]
	path, err := rig.Cached(key, func(path string) error {
		return script(systemdDiskScript, root, path, rootSize)
	})
	if err != nil {
		return "", fmt.Errorf("disk with systemd: %w", err)
	}
	return path, nil
}

// systemdDiskScript makes an ext4 image of a root's tarball. What containers have to do
// without is switched on, what only takes time is masked, and the files get the labels
// that SELinux wants, for the machine that enforces it.
const systemdDiskScript = `set -eu
PATH=$PATH:/usr/sbin:/sbin
tree=$(dirname "$2")/.tree-$(basename "$2")
trap 'rm -rf "$tree" "$2.part"' EXIT
rm -rf "$tree"
mkdir "$tree"
tar -C "$tree" -xf "$1"
cd "$tree"
rm etc/systemd/system/systemd-udevd.service
for unit in apparmor.service dev-hugepages.mount dev-mqueue.mount e2scrub_all.timer fstrim.timer proc-sys-fs-binfmt_misc.automount \
	sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	systemd-logind.service systemd-networkd.service systemd-pstore.service systemd-random-seed.service systemd-resolved.service \
	systemd-tpm2-setup-early.service systemd-tpm2-setup.service systemd-udev-load-credentials.service systemd-udev-trigger.service \
	systemd-user-sessions.service; do
	ln -sf /dev/null "etc/systemd/system/$unit"
done
sed -i 's/^SELINUX=.*/SELINUX=enforcing/' etc/selinux/config
mkdir payload
chroot . setfiles -F -m /etc/selinux/default/contexts/files/file_contexts /
mke2fs -q -t ext4 -E lazy_itable_init=1,nodiscard -O ^has_journal -m 0 -d . "$2.part" "$3"
mv "$2.part" "$2"
`
