package image

import (
	"errors"
	"fmt"
	"os"

	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/image/verity"
)

// Report says what an image is, as far as that can be said when nothing of it is mounted.
type Report struct {
	Size    int64      // of the file, in bytes
	Format  string     // "gpt" or "bare"; "" where it is neither
	Table   *gpt.Table // nil for a bare file system
	Volumes []Volume   // what would be mounted
	// Refused says why Open would not take it; nil where it would, if its data is what its hash tree says.
	Refused error
}

// Volume is a file system in an image.
type Volume struct {
	Designator   string // "root" or "usr"; a bare file system is "root"
	FSType       string
	Offset, Size int64 // in bytes
	Verity       *VerityReport
}

// VerityReport says what a volume is verified by.
type VerityReport struct {
	RootHash   []byte
	RootFrom   string // where it was found, in words
	TreeFrom   string
	Superblock *verity.Superblock // nil where Problem says why
	SignedIn   string             // where the signature was found; "" where there is none
	Signer     string             // the path of the trusted certificate of its signer; "" where there is none
	Problem    error              // why the signature, or the hash tree, does not count
}

// Inspect looks at the image in f, which must be a regular file and open for reading only, as Open would with the same
// options; it mounts nothing and reads no data. What is no image is in Refused; an error is one of reading the file.
func Inspect(f *os.File, name string, o Options) (*Report, error) {
	size, err := checkFile(f)
	if err != nil {
		return nil, fmt.Errorf("inspect image %q: %w", name, err)
	}
	r := &Report{Size: size}
	if table, err := gpt.Read(f, size); err == nil {
		r.Table = table
	}
	x, err := look(f, name, o)
	if err != nil {
		if r.Table != nil {
			r.Format = "gpt"
		}
		r.Refused = err
		return r, nil
	}
	defer x.Close()
	r.Format = x.format
	for i := range x.volumes {
		r.Volumes = append(r.Volumes, x.volumes[i].report(o))
	}
	r.Refused = x.decide(f, o)
	return r, nil
}

func (v *volume) report(o Options) Volume {
	r := Volume{Designator: v.designator(), FSType: string(v.fsType), Offset: v.offset, Size: v.size}
	if v.verity == nil {
		return r
	}
	d := v.verity
	r.Verity = &VerityReport{RootHash: d.root, RootFrom: d.rootFrom, TreeFrom: d.treeFrom, SignedIn: d.sigFrom}
	r.Verity.Superblock, r.Verity.Problem = v.superblock()
	if d.sig != nil {
		// Whatever the policy wants to know: who has signed it is what somebody inspects it for.
		untrusted := v.checkSignature(o)
		r.Verity.Signer, r.Verity.Problem = v.signer, errors.Join(r.Verity.Problem, untrusted)
		v.signer, v.untrusted = "", nil
	}
	return r
}

// Denied says whether it is the policy alone that refuses the image.
func (r *Report) Denied() bool { return errors.Is(r.Refused, policy.ErrDenied) }
