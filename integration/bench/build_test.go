package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// build compares how long it takes to make a disk image with a hash tree and a
// signature of one directory: some large files, many small ones. Both have the file
// system made by the same mkfs.erofs, without compression.
func build(k *kit) []row {
	dir := k.c.TempDir()
	k.inside(func() error { return buildTree(dir + "/bench") })
	k.c.Script("cd " + dir + ` && openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out crt -days 30 -subj /CN=bench 2>/dev/null`)
	remove := func(name string) { k.inside(func() error { return os.Remove(filepath.Join(dir, name)) }) }
	s := k.inTurn(func() float64 {
		took := k.run("/usr/bin/extexec", "build", dir+"/bench", "-o", dir+"/bench.raw", "--key", dir+"/key", "--certificate", dir+"/crt")
		remove("bench.raw")
		return took
	}, func() float64 {
		took := k.run("/usr/bin/systemd-repart", "--make-ddi=sysext", "--offline=yes", "--copy-source="+dir+"/bench", "--private-key="+dir+"/key",
			"--certificate="+dir+"/crt", "--seed=random", "--pretty=no", dir+"/repart.raw")
		remove("repart.raw")
		return took
	})
	return []row{ratio{a: s[0], b: s[1]}.row("build --format ddi, signed, 64 MiB in 2,000 files / systemd-repart --make-ddi of the same tree", 1,
		fmt.Sprintf("extexec %s, repart %s", ms(s[0]), ms(s[1])))}
}

// buildTree makes a sysext of 64 MiB that cannot be compressed.
func buildTree(dir string) error {
	const small, large = 2000, 4
	random := rand.NewChaCha8([32]byte{1})
	write := func(path string, content []byte) error {
		path = filepath.Join(dir, "usr", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o644)
	}
	content := make([]byte, 14<<20)
	for i := range small + large {
		n := 4 << 10
		if i < large {
			n = len(content)
		}
		_, _ = random.Read(content[:n])
		if err := write(fmt.Sprintf("share/bench/%d/%d", i/100, i), bytes.Clone(content[:n])); err != nil {
			return err
		}
	}
	return write("lib/extension-release.d/extension-release.bench", []byte("ID=_any\n"))
}
