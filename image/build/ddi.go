package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/verity"
)

const (
	blockSize     = 4096     // of data, tree and alignment, as systemd-repart has them
	signatureSize = 16 << 10 // of the signature partition, as systemd-repart makes it
)

// partition types of one image.
type types struct{ data, verity, signature gpt.UUID }

func (o *Options) types() (t types, err error) {
	for _, want := range []struct {
		uuid   *gpt.UUID
		suffix string
	}{{&t.data, ""}, {&t.verity, "-verity"}, {&t.signature, "-verity-sig"}} {
		var ok bool
		if *want.uuid, ok = gpt.TypeOf(gpt.Kind{Designator: o.Designator + want.suffix, Arch: o.Arch}); !ok {
			return t, fmt.Errorf("there is no type of %s partition for the architecture %q", o.Designator, o.Arch)
		}
	}
	return t, nil
}

// assemble puts a disk image together of the file system in fs.
func (o *Options) assemble(ctx context.Context, fs, image string, r *Result) (err error) {
	data, err := os.OpenFile(fs, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer data.Close()
	st, err := data.Stat()
	if err != nil {
		return err
	}
	size := align(st.Size())
	if err := data.Truncate(size); err != nil {
		return err
	}
	out, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return o.write(ctx, out, data, size, r)
}

func align(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// write writes the partitions, the first of which is data, and the table around them.
func (o *Options) write(ctx context.Context, out, data *os.File, size int64, r *Result) error {
	t, err := o.types()
	if err != nil {
		return err
	}
	sb := &verity.Superblock{
		UUID: o.Seed.uuid("verity-uuid"), Algorithm: "sha256", DataBlockSize: blockSize, HashBlockSize: blockSize,
		DataBlocks: uint64(size / blockSize), Salt: o.Seed.hmac([]byte("verity-salt")),
	}
	at := align(gpt.HeadSize)
	if err := copyAt(out, at, data); err != nil {
		return fmt.Errorf("copy file system: %w", err)
	}
	hash, err := verity.Format(ctx, sb, data, io.NewOffsetWriter(out, at+size))
	if err != nil {
		return err
	}
	partitions := []gpt.Partition{
		{Type: t.data, ID: gpt.FromBytes([16]byte(hash[:16])), Offset: at, Size: size},
		{Type: t.verity, ID: gpt.FromBytes([16]byte(hash[16:])), Offset: at + size, Size: align(sb.HashSize())},
	}
	at += size + align(sb.HashSize())
	if o.Signer != nil {
		text, err := o.Signer.partition(hash)
		if err != nil {
			return err
		}
		if _, err := out.WriteAt(text, at); err != nil {
			return fmt.Errorf("write signature: %w", err)
		}
		partitions = append(partitions, gpt.Partition{
			Type: t.signature, ID: gpt.FromBytes(o.Seed.partition(t.signature)), Offset: at, Size: signatureSize,
		})
		at += signatureSize
	}
	r.RootHash = hash
	r.Table, err = o.writeTable(out, at, partitions)
	return err
}

// writeTable writes the table of an image whose partitions end at end.
func (o *Options) writeTable(out *os.File, end int64, partitions []gpt.Partition) (*gpt.Table, error) {
	for i := range partitions {
		p := &partitions[i]
		p.Number, p.Kind, p.Attrs = i+1, gpt.KindOf(p.Type), gpt.ReadOnly
		p.Label = label(p.Kind)
	}
	size := align(end + gpt.TailSize)
	id := gpt.FromBytes(o.Seed.uuid("disk-uuid"))
	head, tail, err := gpt.Encode(id, size, partitions)
	if err != nil {
		return nil, err
	}
	if err := out.Truncate(size); err != nil {
		return nil, err
	}
	_, err = out.WriteAt(head, 0)
	if _, err2 := out.WriteAt(tail, size-int64(len(tail))); err == nil {
		err = err2
	}
	if err != nil {
		return nil, fmt.Errorf("write partition table: %w", err)
	}
	return &gpt.Table{ID: id, SectorSize: 512, Partitions: partitions}, nil
}

// label is systemd's name of a partition type: "root-x86-64-verity".
func label(k gpt.Kind) string {
	data, protection := k.Designator, ""
	for _, suffix := range []string{"-verity-sig", "-verity"} {
		if n := len(data) - len(suffix); n > 0 && data[n:] == suffix {
			data, protection = data[:n], suffix
			break
		}
	}
	return data + "-" + k.Arch + protection
}
