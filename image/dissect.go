package image

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/probe"
)

// volume is a file system inside an image.
type volume struct {
	root         string // the path that its top stands for: "/" or "/usr"
	fsType       probe.Type
	whole        bool // it is the whole file, not a partition
	offset, size int64
	sectorSize   uint32 // in bytes
	arch, label  string
}

// dissect finds the volumes of an image of size bytes, the root one first, and says whether there is a partition
// table ("gpt") or not ("bare"). archs are the architectures of partition types, most wanted first.
func dissect(r io.ReaderAt, size int64, archs []string) ([]volume, string, error) {
	if size == 0 {
		return nil, "", explain(probe.Found{}, probe.ErrEmpty)
	}
	table, err := gpt.Read(r, size)
	if errors.Is(err, gpt.ErrNone) {
		v, err := identify(r, volume{root: "/", whole: true, size: size, sectorSize: 512})
		return []volume{v}, "bare", err
	}
	if err != nil {
		return nil, "", explain(probe.Found{Type: probe.GPT}, err)
	}
	if err := onlyTable(r, size); err != nil {
		return nil, "", err
	}
	volumes, err := choose(table, archs)
	if err != nil {
		return nil, "", err
	}
	for i, v := range volumes {
		volumes[i], err = identify(io.NewSectionReader(r, v.offset, v.size), v)
		if err != nil {
			return nil, "", fmt.Errorf("%s partition: %w", v.designator(), err)
		}
	}
	return volumes, "gpt", nil
}

func (v volume) designator() string {
	if v.root == "/usr" {
		return "usr"
	}
	return "root"
}

// onlyTable refuses a table with a file system around it: one of the two is left over, and different readers would
// see different files. iso9660 is made that way, and there the table wins.
func onlyTable(r io.ReaderAt, size int64) error {
	found, err := probe.Identify(r, size)
	var several *probe.AmbiguousError
	if errors.As(err, &several) {
		return explain(found, several)
	}
	if found.Type.Mountable() {
		return explain(found, &probe.AmbiguousError{Types: []probe.Type{probe.GPT, found.Type}})
	}
	return nil
}

// choose picks the partitions that are mounted: a root, a usr, or both of one architecture.
func choose(t *gpt.Table, archs []string) ([]volume, error) {
	usable := slices.DeleteFunc(slices.Clone(t.Partitions), func(p gpt.Partition) bool {
		return p.Label == "_empty" || p.Attrs.NoAuto()
	})
	if err := checkVolumes(usable); err != nil {
		return nil, err
	}
	var volumes []volume
	for _, want := range []struct{ designator, root string }{{"root", "/"}, {"usr", "/usr"}} {
		p, err := best(usable, want.designator, archs)
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		volumes = append(volumes, volume{
			root: want.root, offset: p.Offset, size: p.Size, sectorSize: uint32(t.SectorSize),
			arch: p.Kind.Arch, label: p.Label,
		})
	}
	switch {
	case len(volumes) == 0:
		return nil, noPartition(t.Partitions)
	case len(volumes) == 2 && volumes[0].arch != volumes[1].arch:
		return nil, fmt.Errorf("its root partition is for %s and its usr partition for %s: give both the same architecture",
			volumes[0].arch, volumes[1].arch)
	}
	return volumes, nil
}

// best picks the partition of that designator whose architecture comes first, as systemd does: this machine's, then
// its secondary one, then any. Two that are equal in this are refused, where systemd compares their labels: which of
// two versions is meant is what the .v/ directories are for.
func best(ps []gpt.Partition, designator string, archs []string) (*gpt.Partition, error) {
	rank := func(p gpt.Partition) int {
		if i := slices.Index(archs, p.Kind.Arch); i >= 0 {
			return i
		}
		return len(archs)
	}
	var found []gpt.Partition
	for _, p := range ps {
		if p.Kind.Designator != designator {
			continue
		}
		if len(found) > 0 && rank(p) < rank(found[0]) {
			found = nil
		}
		if len(found) == 0 || rank(p) == rank(found[0]) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	return nil, fmt.Errorf("partitions %d and %d are both %s partitions (for %s and %s): "+
		"label the one that is not meant \"_empty\", or make an image of each version",
		found[0].Number, found[1].Number, designator, found[0].Kind.Arch, found[1].Kind.Arch)
}

// noPartition explains what there is instead of a root or usr partition.
func noPartition(ps []gpt.Partition) error {
	if len(ps) == 0 {
		return errors.New("its partition table is empty: it needs a root or a usr partition")
	}
	var words []string
	for _, p := range ps {
		name := p.Kind.Designator
		switch {
		case name == "":
			name = "type " + p.Type.String()
		case p.Label == "_empty":
			name += " (labelled _empty)"
		case p.Attrs.NoAuto():
			name += " (with the no-auto attribute)"
		}
		words = append(words, name)
	}
	return fmt.Errorf("it has no root and no usr partition, only %s: set the partition type, "+
		"for instance with systemd-repart or sfdisk --part-type", strings.Join(words, ", "))
}

// identify finds out which file system a volume has.
func identify(r io.ReaderAt, v volume) (volume, error) {
	found, err := probe.Identify(r, v.size)
	if err != nil {
		return volume{}, explain(found, err)
	}
	if !found.Type.Mountable() {
		return volume{}, refuse(found.Type)
	}
	v.fsType = found.Type
	return v, nil
}

// takes is what an image can be, for messages.
const takes = "squashfs, erofs, ext4, btrfs, xfs, or a GPT disk image with a root or usr partition"

// explain adds to the error of a probe, or of reading a table, what can be done.
func explain(found probe.Found, err error) error {
	var several *probe.AmbiguousError
	var cut *probe.TruncatedError
	var table *gpt.FormatError
	switch {
	case errors.Is(err, probe.ErrEmpty), errors.Is(err, probe.ErrZeros), errors.As(err, &table):
		return fmt.Errorf("%w: copy or build it again", err)
	case errors.Is(err, probe.ErrUnknown):
		return fmt.Errorf("%w: an image is %s", err, takes)
	case errors.As(err, &several):
		return fmt.Errorf("%w: remove what is left over, with wipefs, or build it again", err)
	case errors.As(err, &cut) && !found.Type.Mountable():
		return refuse(found.Type)
	case errors.As(err, &cut):
		return fmt.Errorf("%w: copy or build it again", err)
	}
	return err
}

// refuse explains why something that was recognised is not mounted.
func refuse(t probe.Type) error {
	switch {
	case t == probe.LUKS:
		return errors.New("it is a LUKS encrypted volume: encrypted images are not supported, use one that is not")
	case t == probe.Verity:
		return fmt.Errorf("it is a %s, not the data that one protects: %w", t, ErrVerity)
	case t.Compressed():
		return fmt.Errorf("it is a file compressed with %s: unpack it first", t)
	case t == probe.Qcow2:
		return errors.New("it is a qcow2 disk image: convert it first, with qemu-img convert -O raw")
	case t == probe.Tar || t == probe.Zip:
		return fmt.Errorf("it is a %s: unpack it into a directory, and use ExtensionDirectories=", t)
	case t == probe.MBR:
		return errors.New("it has an MBR partition table, which does not say what a partition is for: use a GPT")
	}
	return fmt.Errorf("it is %s, which extexec does not mount: an image is %s", t, takes)
}

// architectures are those of partition types, in systemd's words, most wanted first: that of this program, and the
// 32 bit one whose programs run on it. (Package extension has the whole list of words, and imports this one.)
func architectures() []string {
	switch runtime.GOARCH {
	case "amd64":
		return []string{"x86-64", "x86"}
	case "386":
		return []string{"x86"}
	case "arm64":
		return []string{"arm64", "arm"}
	case "loong64":
		return []string{"loongarch64"}
	case "mipsle", "mips64le", "ppc64le":
		return []string{strings.TrimSuffix(runtime.GOARCH, "le") + "-le"}
	case "ppc64":
		return []string{"ppc64", "ppc"}
	case "s390x":
		return []string{"s390x", "s390"}
	}
	return []string{runtime.GOARCH}
}
