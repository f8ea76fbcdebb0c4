package bench

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/extexec/extexec/image"
	imagebuild "github.com/extexec/extexec/image/build"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/integration/rig"
)

// verified compares a verified copy of an image of 64 MiB, from opening the file to
// the mounted tree and its end, in a process that runs already, with veritysetup
// verify of the same data; and the memory that the copy holds with the data.
func verified(k *kit) []row {
	tool := rig.RequireTool(k.t, "veritysetup")
	dir := k.t.TempDir()
	path := filepath.Join(dir, "bench.raw")
	k.check(buildTree(filepath.Join(dir, "tree")))
	made, err := imagebuild.Build(context.Background(), filepath.Join(dir, "tree"), path, imagebuild.Options{
		Format: imagebuild.DDI, Designator: "root", Arch: "x86-64", Compression: "none",
	})
	k.check(err)
	// veritysetup wants data and hash tree as files of their own.
	whole, err := os.ReadFile(path)
	k.check(err)
	var parts []string
	for _, p := range made.Table.Partitions {
		parts = append(parts, filepath.Join(dir, "part"+strconv.Itoa(p.Number)))
		b, err := io.ReadAll(io.NewSectionReader(bytes.NewReader(whole), p.Offset, p.Size))
		k.check(err)
		k.check(os.WriteFile(parts[len(parts)-1], b, 0o600))
	}
	open := func() *image.Image {
		f, err := os.Open(path)
		k.check(err)
		defer f.Close()
		i, err := image.Open(context.Background(), f, path, image.Options{Policy: policy.Default(), CopyMax: 256 << 20, NoDeviceMapper: true})
		k.check(err)
		return i
	}
	s := k.inTurn(func() float64 {
		began := time.Now()
		k.check(open().Close())
		return time.Since(began).Seconds() * 1000
	}, func() float64 {
		began := time.Now()
		if out, err := exec.Command(tool, "verify", parts[0], parts[1], hex.EncodeToString(made.RootHash)).CombinedOutput(); err != nil {
			k.t.Fatalf("veritysetup: %v: %s", err, out)
		}
		return time.Since(began).Seconds() * 1000
	})
	size := float64(made.Table.Partitions[0].Size)
	held := k.inTurnFor(min(*runs, 11), func() float64 {
		before := k.shared()
		i := open()
		now := k.shared()
		k.check(i.Close())
		return (now - before) / size
	})[0]
	const goal = 1.05
	return []row{
		ratio{a: s[0], b: s[1]}.row("verified copy of 64 MiB / veritysetup verify of the same data, warm", 1,
			fmt.Sprintf("copy %s, veritysetup %s", ms(s[0]), ms(s[1]))),
		{
			figure: "shared memory held by a verified copy / its data", goal: "<= 1.05", met: quantile(held, 0.5) <= goal,
			value: fmt.Sprintf("%.2f", quantile(held, 0.5)), spread: fmt.Sprintf("%.2f–%.2f", quantile(held, 0.1), quantile(held, 0.9)),
			seen: fmt.Sprintf("%.0f MiB of data, Shmem of /proc/meminfo", size/(1<<20)),
		},
	}
}

// shared is the machine's shared memory in bytes: Shmem of /proc/meminfo.
func (k *kit) shared() float64 {
	k.t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	k.check(err)
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "Shmem:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
			k.check(err)
			return kib * 1024
		}
	}
	k.t.Fatal("no Shmem in /proc/meminfo")
	return 0
}
