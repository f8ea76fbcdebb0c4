package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// attach compares attaching an image with ten services, the image opened, its units
// written, and systemd told. Each detaches again what the other has attached, so that
// what is timed is the same for both.
func attach(k *kit) []row {
	const units = 10
	image := k.portable(k.c.TempDir(), "bench", units)
	k.c.Cleanup(func() {
		k.c.Remove("/run/portables")
		k.c.Remove("/run/extexec/portable.lock")
	})
	detach := func() {
		for i := range units {
			if unit := fmt.Sprintf("/run/systemd/system.attached/bench-%d.service.d/20-portable.conf", i); !k.c.Exists(unit) {
				k.t.Errorf("%s is not there", unit)
			}
		}
		k.c.Must("extexec", "portable", "detach", image)
		rest()
	}
	ours, theirs := []string{"/usr/bin/extexec", "portable", "attach", "--runtime"}, []string{"/usr/bin/portablectl", "attach", "--runtime", "--quiet"}
	timed := func(argv ...string) func() float64 {
		return func() float64 {
			took := k.run(append(argv, image)...)
			detach()
			return took
		}
	}
	s := k.inTurn(timed(ours...), timed(theirs...), timed(append(ours, "--no-reload")...), timed(append(theirs, "--no-reload")...))
	return []row{ratio{a: s[0], b: s[1]}.row(fmt.Sprintf("portable attach of an image with %d units / portablectl attach", units), 1,
		fmt.Sprintf("extexec %s, portablectl %s; with --no-reload %s and %s", ms(s[0]), ms(s[1]), ms(s[2]), ms(s[3])))}
}

// portable makes an image with services.
func (k *kit) portable(dir, name string, units int) string {
	k.t.Helper()
	tree := filepath.Join(k.t.TempDir(), name)
	write := func(path, text string) {
		path = filepath.Join(tree, path)
		k.check(os.MkdirAll(filepath.Dir(path), 0o755))
		k.check(os.WriteFile(path, []byte(text), 0o644))
	}
	write("usr/lib/os-release", "ID=bench\nVERSION_ID=1\n")
	for i := range units {
		write(fmt.Sprintf("usr/lib/systemd/system/%s-%d.service", name, i), "[Service]\nExecStart=/usr/bin/sleep infinity\n")
	}
	out := filepath.Join(k.t.TempDir(), "image")
	if b, err := exec.Command("mksquashfs", tree, out, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		k.t.Fatalf("mksquashfs: %v\n%s", err, b)
	}
	k.c.CopyIn(out, dir+"/"+name+".raw")
	return dir + "/" + name + ".raw"
}
