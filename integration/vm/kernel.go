package vm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/extexec/extexec/integration/vm/wire"
)

// A Kernel is that of a Debian release.
type Kernel struct {
	Name   string // the series that the release is known for
	suite  string
	moving bool // the release still gets newer series
}

// The kernels, oldest first.
var (
	Linux6_1  = Kernel{Name: "6.1", suite: "bookworm"}
	Linux6_12 = Kernel{Name: "6.12", suite: "trixie"}
	Linux7_2  = Kernel{Name: "7.2", suite: "forky", moving: true}
)

// Kernels lists all kernels, oldest first.
func Kernels() []Kernel { return []Kernel{Linux6_1, Linux6_12, Linux7_2} }

// String is the series.
func (k Kernel) String() string { return "Linux " + k.Name }

// modules are loaded in every machine, with what they depend on. What the kernel has
// built in is no module, and left out.
var modules = []string{
	"virtio_pci", "virtio_blk", "virtio_rng", "ext4",
	"overlay", "loop", "erofs", "squashfs", "xfs", "btrfs", "fuse", "autofs4",
	"dm_mod", "dm_verity",
}

// systemdModules are loaded in their place where systemd is process 1: without the file
// systems that no test there mounts.
var systemdModules = []string{
	"virtio_pci", "virtio_blk", "virtio_rng", "ext4", "overlay", "loop", "erofs", "squashfs", "dm_mod", "dm_verity",
}

// A kernelTree is an unpacked kernel package.
type kernelTree struct {
	image   string // the kernel
	modules string // directory of modules.dep
}

// open finds its way in the kernel's tree, which is not the same in all releases.
func (k Kernel) open() (kernelTree, error) {
	dir, err := k.artifact().path()
	if err != nil {
		return kernelTree{}, err
	}
	var found []string
	for _, pattern := range []string{"lib/modules/*/modules.dep", "usr/lib/modules/*/modules.dep", "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return kernelTree{}, err
		}
		found = append(found, paths...)
	}
	if len(found) != 2 {
		return kernelTree{}, fmt.Errorf("look for kernel and modules in %q: found %q", dir, found)
	}
	return kernelTree{modules: filepath.Dir(found[0]), image: found[1]}, nil
}

// order is what to load, dependencies first, and where each lies.
func (t kernelTree) order(wanted []string) ([]wire.Module, map[string]string, error) {
	needs, err := t.dependencies()
	if err != nil {
		return nil, nil, err
	}
	var order []wire.Module
	paths := map[string]string{}
	for _, name := range wanted {
		files := needs[name] // none for what is built in
		for i := len(files) - 1; i >= 0; i-- {
			m := wire.Module{File: filepath.Base(files[i]), Name: moduleName(files[i]), Compressed: !strings.HasSuffix(files[i], ".ko")}
			if paths[m.File] == "" {
				paths[m.File] = filepath.Join(t.modules, files[i])
				order = append(order, m)
			}
		}
	}
	if len(order) == 0 {
		return nil, nil, errors.New("none of the modules is there")
	}
	return order, paths, nil
}

// dependencies reads modules.dep: by name, the file of the module and of all that
// it depends on, that which is to be loaded first at the end (depmod(8)).
func (t kernelTree) dependencies() (map[string][]string, error) {
	f, err := os.Open(filepath.Join(t.modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needs := map[string][]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		file, deps, ok := strings.Cut(lines.Text(), ":")
		if ok {
			needs[moduleName(file)] = append([]string{file}, strings.Fields(deps)...)
		}
	}
	return needs, nil
}

func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
