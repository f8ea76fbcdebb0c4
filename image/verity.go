package image

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/signature"
)

// verityData is what a volume is verified by, and where it was found, for messages.
type verityData struct {
	designator string // of the data: "root" or "usr"

	root     []byte
	rootFrom string
	sig      []byte // PKCS#7 over the root hash, in DER; nil where there is none
	sigFrom  string

	tree     io.ReaderAt // the hash area
	treeSize int64
	treeFrom string
	treeFile *os.File // where it is, from treeOff on
	treeOff  int64
}

// Bounds of files and attributes, in bytes.
const (
	minRootHash = 16
	maxRootHash = 4096 // its text
	maxSidecar  = 64 << 10
)

// sidecars are the files beside an image, and its attributes.
type sidecars struct {
	known *verityData // nil: no root hash was found
	file  *os.File    // the hash tree; nil: there is none
}

// Close closes the hash tree.
func (s *sidecars) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// readSidecars looks for a root hash, its signature and a hash tree where systemd does, in its order: the first root
// hash says what is to be verified, and the others are not looked at. stems are what the names of the files begin
// with.
func readSidecars(f *os.File, stems []string) (s sidecars, err error) {
	if s.known, err = readRootHash(f, stems); err != nil {
		return s, err
	}
	if s.file, err = openBeside(stems, ".verity"); err != nil {
		return s, err
	}
	if s.known != nil {
		return s, s.known.readSignature(stems)
	}
	// Without the root hash they are of no use, so something was not copied along.
	if s.file != nil {
		return s, fmt.Errorf("%q lies beside it, and there is no root hash to check that by: put it into %q", s.file.Name(), stems[0]+".roothash")
	}
	for _, suffix := range []string{".roothash", ".usrhash"} {
		p7s, err := openBeside(stems, suffix+".p7s")
		if err != nil {
			return s, err
		}
		if p7s != nil {
			return s, errors.Join(fmt.Errorf("%q lies beside it, and there is no root hash that it signs: put it into %q",
				p7s.Name(), stems[0]+suffix), p7s.Close())
		}
	}
	return s, nil
}

// readRootHash looks in the attribute and the file for the root partition, then in those for the usr partition.
func readRootHash(f *os.File, stems []string) (*verityData, error) {
	for _, of := range []struct{ designator, attribute, suffix string }{
		{"root", "user.verity.roothash", ".roothash"},
		{"usr", "user.verity.usrhash", ".usrhash"},
	} {
		text, from, err := attribute(f, of.attribute)
		if err == nil && from == "" {
			text, from, err = firstLine(stems, of.suffix)
		}
		if err != nil {
			return nil, err
		}
		if from == "" {
			continue
		}
		root, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("the root hash in %s is no hex: %w", from, err)
		}
		if len(root) < minRootHash {
			return nil, fmt.Errorf("the root hash in %s has %d bytes, and needs at least %d", from, len(root), minRootHash)
		}
		return &verityData{designator: of.designator, root: root, rootFrom: from}, nil
	}
	return nil, nil
}

// attribute reads an extended attribute; from is empty where there is none.
func attribute(f *os.File, name string) (text, from string, err error) {
	buf := make([]byte, maxRootHash)
	n, err := unix.Fgetxattr(int(f.Fd()), name, buf)
	switch {
	case err == nil:
		return string(buf[:n]), "its attribute " + name, nil
	case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP):
		return "", "", nil
	case errors.Is(err, unix.ERANGE) || errors.Is(err, unix.E2BIG):
		return "", "", fmt.Errorf("its attribute %s has more than %d bytes", name, maxRootHash)
	}
	return "", "", fmt.Errorf("read attribute %s: %w", name, err)
}

func firstLine(stems []string, suffix string) (text, from string, err error) {
	f, err := openBeside(stems, suffix)
	if f == nil || err != nil {
		return "", "", err
	}
	defer f.Close()
	b, err := readAll(f, maxRootHash)
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	return string(line), fmt.Sprintf("%q", f.Name()), err
}

// readSignature reads the signature that belongs to a root hash.
func (d *verityData) readSignature(stems []string) error {
	suffix := ".roothash.p7s"
	if d.designator == "usr" {
		suffix = ".usrhash.p7s"
	}
	f, err := openBeside(stems, suffix)
	if f == nil || err != nil {
		return err
	}
	defer f.Close()
	if d.sig, err = readAll(f, maxSidecar); err != nil {
		return err
	}
	d.sigFrom = fmt.Sprintf("%q", f.Name())
	if len(d.sig) == 0 {
		return fmt.Errorf("the signature in %s is empty", d.sigFrom)
	}
	return nil
}

// openBeside opens the first of these files that exists; nil is none. What cannot be looked for is not taken to be
// absent.
func openBeside(stems []string, suffix string) (*os.File, error) {
	for _, stem := range stems {
		// O_NONBLOCK: it could be a fifo.
		f, err := os.OpenFile(stem+suffix, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for verity data beside it: %w", err)
		}
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = fmt.Errorf("%q lies beside it, and is %s, not a regular file", f.Name(), kind(st.Mode()))
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	return nil, nil
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%q has more than %d bytes", f.Name(), limit)
	}
	return b, err
}

// bare makes the verity data of an image without a partition table; nil where it has none.
func (s *sidecars) bare() (*verityData, error) {
	d := s.known
	switch {
	case d == nil:
		return nil, nil
	case s.file == nil:
		return nil, fmt.Errorf("it has a root hash (in %s), and no hash tree to check it by: put that beside it as NAME.verity, "+
			"or take the root hash away", d.rootFrom)
	case d.designator != "root":
		return nil, fmt.Errorf("it has a root hash for a usr partition (in %s), and no partitions: use NAME.roothash", d.rootFrom)
	}
	st, err := s.file.Stat()
	if err != nil {
		return nil, err
	}
	d.setTree(s.file, 0, st.Size(), fmt.Sprintf("%q", s.file.Name()))
	return d, nil
}

func (d *verityData) setTree(f *os.File, off, size int64, from string) {
	d.treeFile, d.treeOff, d.treeSize, d.treeFrom = f, off, size, from
	d.tree = io.NewSectionReader(f, off, size)
}

// wants says whether a partition may be used: a root hash that is known is in the UUIDs of data and hash partition.
func (d *verityData) wants(p gpt.Partition) bool {
	n := len(d.root)
	switch p.Kind.Designator {
	case d.designator:
		return p.ID.Bytes() == [16]byte(d.root[:16])
	case d.designator + "-verity":
		return p.ID.Bytes() == [16]byte(d.root[n-16:])
	}
	return true
}

// ofPartition finds the verity data of a volume among the partitions; nil where it has none. known is a root hash from
// beside the image for this volume, or nil.
func ofPartition(f *os.File, v volume, ps []gpt.Partition, known *verityData) (*verityData, error) {
	tree, err := only(ps, v.designator()+"-verity", v.arch)
	if err != nil {
		return nil, err
	}
	sig, err := only(ps, v.designator()+"-verity-sig", v.arch)
	if err != nil {
		return nil, err
	}
	switch {
	case tree == nil && known != nil:
		return nil, fmt.Errorf("it has a root hash (in %s), and no hash partition of the UUID that it demands: it is that of another image, "+
			"or the partition is missing", known.rootFrom)
	case tree == nil && sig != nil:
		return nil, fmt.Errorf("partition %d is %s, and there is no hash tree: the %s-verity partition is missing", sig.Number, sig.Kind.Designator, v.designator())
	case tree == nil:
		return nil, nil
	}
	d := known
	if d == nil {
		// systemd makes images so, and reads them so: data UUID, then hash UUID.
		a, b := v.id.Bytes(), tree.ID.Bytes()
		d = &verityData{designator: v.designator(), root: append(a[:], b[:]...), rootFrom: "the UUIDs of its partitions"}
	}
	d.setTree(f, tree.Offset, tree.Size, fmt.Sprintf("partition %d", tree.Number))
	if sig == nil {
		return d, nil
	}
	return d, d.readPartition(f, *sig, known != nil)
}

// readPartition reads a signature partition. A root hash that is known already must be the same.
func (d *verityData) readPartition(f *os.File, p gpt.Partition, known bool) error {
	from := fmt.Sprintf("partition %d (%s)", p.Number, p.Kind.Designator)
	if p.Size > signature.MaxJSON {
		return fmt.Errorf("%s has %d bytes, more than %d", from, p.Size, signature.MaxJSON)
	}
	text := make([]byte, p.Size)
	if _, err := f.ReadAt(text, p.Offset); err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	root, sig, err := signature.ParseJSON(text)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if known && !bytes.Equal(root, d.root) {
		return fmt.Errorf("%s signs the root hash %x, and in %s it is %x", from, root, d.rootFrom, d.root)
	}
	if len(root) < minRootHash {
		return fmt.Errorf("the root hash in %s has %d bytes, and needs at least %d", from, len(root), minRootHash)
	}
	if !known {
		d.root, d.rootFrom = root, from
	}
	if d.sig == nil {
		d.sig, d.sigFrom = sig, from
	}
	return nil
}

// only finds the partition of that designator and architecture.
func only(ps []gpt.Partition, designator, arch string) (found *gpt.Partition, err error) {
	for i, p := range ps {
		if p.Kind.Designator != designator || p.Kind.Arch != arch {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("partitions %d and %d are both %s partitions: label the one that is not meant \"_empty\"",
				found.Number, p.Number, designator)
		}
		found = &ps[i]
	}
	return found, nil
}

// orphans refuses a hash tree or a signature whose data is not there: something is missing, or was renamed away.
func orphans(ps []gpt.Partition) error {
	for _, p := range ps {
		data, ok := strings.CutSuffix(strings.TrimSuffix(p.Kind.Designator, "-sig"), "-verity")
		if !ok {
			continue
		}
		found := false
		for _, q := range ps {
			found = found || q.Kind.Designator == data && q.Kind.Arch == p.Kind.Arch
		}
		if !found {
			return fmt.Errorf("partition %d is %s for %s, and there is no %s partition that it protects", p.Number, p.Kind.Designator, p.Kind.Arch, data)
		}
	}
	return nil
}
