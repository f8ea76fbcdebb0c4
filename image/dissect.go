package image

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	id           gpt.UUID
	attrs        gpt.Attributes

	verity    *verityData // nil: it has none
	signer    string      // the certificate that its root hash is signed with, once that was checked
	untrusted error       // why the signature that it has does not count

	// needsKernel is why it is refused, if the kernel does not take the signature with a key of its own; nil where
	// that does not matter.
	needsKernel error
	byKernel    bool   // the kernel has taken the signature
	verifier    string // the device by which the kernel verifies it; "" where that does not
}

// examine finds the volumes of an image of size bytes, the root one first, and their verity data. stems are what the
// names of files beside it begin with. The caller closes what it gets.
func examine(f *os.File, size int64, stems []string) (_ *examined, err error) {
	x := &examined{}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	if x.beside, err = readSidecars(f, stems); err != nil {
		return x, err
	}
	if size == 0 {
		return x, explain(probe.Found{}, probe.ErrEmpty)
	}
	table, err := gpt.Read(f, size)
	if errors.Is(err, gpt.ErrNone) {
		x.format = "bare"
		v := volume{root: "/", whole: true, size: size, sectorSize: 512}
		if v.verity, err = x.beside.bare(); err != nil {
			return x, err
		}
		v, err = identify(f, v)
		x.volumes = []volume{v}
		return x, err
	}
	if err != nil {
		return x, explain(probe.Found{Type: probe.GPT}, err)
	}
	x.format = "gpt"
	if err := onlyTable(f, size); err != nil {
		return x, err
	}
	return x, x.dissect(f, table, architectures())
}

// dissect finds the volumes in a partition table. archs are the architectures of partition types, most wanted first.
func (x *examined) dissect(f *os.File, table *gpt.Table, archs []string) (err error) {
	if x.beside.file != nil {
		return fmt.Errorf("%q lies beside it, and it has a partition table: its hash tree has to be a partition", x.beside.file.Name())
	}
	if x.volumes, x.partitions, err = choose(table, x.beside.known, archs); err != nil {
		return err
	}
	for i, v := range x.volumes {
		known := x.beside.known
		if known != nil && known.designator != v.designator() {
			known = nil
		}
		if v.verity, err = ofPartition(f, v, x.partitions, known); err != nil {
			return err
		}
		x.volumes[i], err = identify(io.NewSectionReader(f, v.offset, v.size), v)
		if err != nil {
			return fmt.Errorf("%s partition: %w", v.designator(), err)
		}
	}
	if len(x.volumes) == 2 && x.volumes[0].verity != nil {
		return errors.New("its root partition has a hash tree, and it has a usr partition: systemd takes no such image, since " +
			"the root partition can hold all")
	}
	return nil
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

// choose picks the partitions that are mounted: a root, a usr, or both of one architecture. The second result is all
// partitions that are not to be ignored. With a root hash that is known already, those are ignored, too, that belong
// to another one.
func choose(t *gpt.Table, known *verityData, archs []string) ([]volume, []gpt.Partition, error) {
	usable := slices.DeleteFunc(slices.Clone(t.Partitions), func(p gpt.Partition) bool {
		return p.Label == "_empty" || p.Attrs.NoAuto()
	})
	if known != nil {
		all := len(usable)
		usable = slices.DeleteFunc(usable, func(p gpt.Partition) bool { return !known.wants(p) })
		if !slices.ContainsFunc(usable, func(p gpt.Partition) bool { return p.Kind.Designator == known.designator }) && all > 0 {
			return nil, nil, fmt.Errorf("it has a root hash (in %s), and no %s partition of the UUID that it demands, %s: it is that of another image",
				known.rootFrom, known.designator, gpt.FromBytes([16]byte(known.root[:16])))
		}
	}
	if err := orphans(usable); err != nil {
		return nil, nil, err
	}
	var volumes []volume
	for _, want := range []struct{ designator, root string }{{"root", "/"}, {"usr", "/usr"}} {
		p, err := best(usable, want.designator, archs)
		if err != nil {
			return nil, nil, err
		}
		if p == nil {
			continue
		}
		volumes = append(volumes, volume{
			root: want.root, offset: p.Offset, size: p.Size, sectorSize: uint32(t.SectorSize),
			arch: p.Kind.Arch, label: p.Label, id: p.ID, attrs: p.Attrs,
		})
	}
	switch {
	case len(volumes) == 0:
		return nil, nil, noPartition(t.Partitions)
	case len(volumes) == 2 && volumes[0].arch != volumes[1].arch:
		return nil, nil, fmt.Errorf("its root partition is for %s and its usr partition for %s: give both the same architecture",
			volumes[0].arch, volumes[1].arch)
	}
	return volumes, usable, nil
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
	var elsewhere *probe.ElsewhereError
	var table *gpt.FormatError
	switch {
	case errors.Is(err, probe.ErrEmpty), errors.Is(err, probe.ErrZeros), errors.As(err, &table):
		return fmt.Errorf("%w: copy or build it again", err)
	case errors.Is(err, probe.ErrUnknown):
		return fmt.Errorf("%w: an image is %s", err, takes)
	case errors.As(err, &several):
		return fmt.Errorf("%w: remove what is left over, with wipefs, or build it again", err)
	case errors.As(err, &elsewhere):
		return fmt.Errorf("%w: build it without", err)
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
		return fmt.Errorf("it is a %s, not the data that one protects: name that", t)
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
