package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/extexec/extexec/image/gpt"
)

// Format is what an image is.
type Format string

// The formats.
const (
	Erofs    Format = "erofs"
	Squashfs Format = "squashfs"
	DDI      Format = "ddi" // GPT, erofs, dm-verity
)

// Formats lists them.
func Formats() []Format { return []Format{Erofs, Squashfs, DDI} }

// Options say which image to make.
type Options struct {
	Format Format
	// Compression is the name of an algorithm that the program knows, or that and a level, as in "zstd:19"; "none";
	// empty for what the program does by itself.
	Compression string
	AllRoot     bool      // all files belong to root, whoever has them in the directory
	Time        time.Time // no time stamp in the image is later
	Seed        Seed

	// The rest is for DDI.
	Designator string  // "root" or "usr": which partition the directory becomes
	Arch       string  // for the partition types, in systemd's words
	Signer     *Signer // nil: the root hash is not signed
}

// Result says what was made.
type Result struct {
	Size     int64  // of the image, in bytes
	RootHash []byte // of a DDI
	Table    *gpt.Table
}

// Build makes an image of the directory source at output, and replaces what is there.
// Its caller says in an error which image it is.
func Build(ctx context.Context, source, output string, o Options) (r *Result, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	// A directory of our own beside the output: the programs want paths, and a rename wants one file system.
	aside, err := os.MkdirTemp(filepath.Dir(output), ".extexec-build-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	made := filepath.Join(aside, "fs")
	if err := create(made); err != nil {
		return nil, err
	}
	if err := o.makeFS(ctx, source, made); err != nil {
		return nil, err
	}
	r = &Result{}
	if o.Format == DDI {
		fs := made
		made = filepath.Join(aside, "image")
		if err := o.assemble(ctx, fs, made, r); err != nil {
			return nil, err
		}
	}
	r.Size, err = place(made, output)
	return r, err
}

func (o *Options) check() error {
	if o.Format != DDI {
		if o.Signer != nil {
			return fmt.Errorf("a bare %s has no place for a signature: use the format %s", o.Format, DDI)
		}
		return nil
	}
	_, err := o.types()
	return err
}

// create makes an empty file, with the mode that the image is to have: the programs keep it.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	return f.Close()
}

// place syncs the image and renames it to where it belongs.
func place(made, output string) (int64, error) {
	f, err := os.OpenFile(made, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	if err := os.Rename(made, output); err != nil {
		return 0, err
	}
	dir, err := os.Open(filepath.Dir(output))
	if err != nil {
		return 0, err
	}
	return st.Size(), errors.Join(dir.Sync(), dir.Close())
}

// copyAt copies all of a file to a place in another.
func copyAt(to *os.File, offset int64, from *os.File) error {
	if _, err := to.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(to, from) // copy_file_range(2), where it can
	return err
}
