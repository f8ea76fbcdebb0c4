package vm

import (
	"context"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// verityScript opens a squashfs with veritysetup(8), and reads it. On a kernel that has
// the keyring .dm-verity it does so again with a signature.
const verityScript = `set -eu
cd /var/tmp
export DM_DISABLE_UDEV=1 # there is none that makes the nodes
mkdir tree
echo content >tree/file
mksquashfs tree image -quiet -no-progress
veritysetup format image hashes >format
hash=$(sed -n 's/^Root hash:[[:space:]]*//p' format)

veritysetup open image smoke hashes "$hash"
mount -t squashfs -o ro /dev/mapper/smoke /mnt
grep content /mnt/file
umount /mnt
veritysetup close smoke

keyctl show %:.dm-verity || exit 0
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=smoke -keyout key -out certificate 2>/dev/null
printf %s "$hash" | openssl smime -sign -binary -noattr -nocerts -inkey key -signer certificate -outform der -out signature
openssl x509 -in certificate -outform der | keyctl padd asymmetric '' %:.dm-verity
keyctl restrict_keyring %:.dm-verity # until then nothing in it counts
veritysetup open image signed hashes "$hash" --root-hash-signature=signature
veritysetup status signed
veritysetup close signed
`

// TestVerity shows that a machine can do what the tests of dm-verity need.
func TestVerity(t *testing.T) {
	rig.RequireRoot(t)
	if err := Prepare(Kernels()); err != nil {
		t.Fatal(err)
	}
	guest := t.TempDir() + "/guest"
	if err := Build(guest, "./integration/vm/guest"); err != nil {
		t.Fatal(err)
	}
	for _, k := range Kernels() {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			var out strings.Builder
			status := -1
			_, err := Run(ctx, Config{
				Kernel: k, Guest: guest, Params: []string{"dm_verity.keyring_unsealed=1"},
				Tasks: []Task{{Name: "verity", Argv: []string{"sh", "-c", verityScript}}},
			}, func(e Event) {
				out.WriteString(e.Output)
				if e.Ended {
					status = e.Status
				}
			})
			if err != nil || status != 0 || !strings.Contains(out.String(), "content\n") {
				t.Errorf("exit status %d, %v:\n%s", status, err, out.String())
			}
			if signed := strings.Contains(out.String(), "verified (with signature)"); signed != (k == Linux7_2) {
				t.Errorf("with a signature: %v:\n%s", signed, out.String())
			}
		})
	}
}
