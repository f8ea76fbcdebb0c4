package signature

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dirs are the directories in which systemd looks for certificates, the most important one first.
func Dirs() []string {
	return []string{"/etc/verity.d", "/run/verity.d", "/usr/local/lib/verity.d", "/usr/lib/verity.d"}
}

// maxCertificate bounds a file with a certificate, in bytes; maxCertificates bounds their number.
const (
	maxCertificate  = 1 << 20
	maxCertificates = 1024
)

// Load reads the certificates in *.crt of these directories. A name that an earlier directory has counts only there;
// a link to /dev/null, or an empty file, hides the ones after it (as systemd does). What cannot be read, or could be
// written by someone else than root, is not trusted; why says so, a line for each.
func Load(dirs []string) (trusted []Certificate, why []error) {
	seen := map[string]bool{}
	for _, dir := range dirs {
		entries, err := readDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			why = append(why, err)
			continue
		}
		for _, name := range entries {
			if seen[name] || !strings.HasSuffix(name, ".crt") || strings.HasPrefix(name, ".") {
				continue
			}
			seen[name] = true
			if len(seen) > maxCertificates {
				return trusted, append(why, fmt.Errorf("only the first %d certificates are read", maxCertificates))
			}
			c, err := load(filepath.Join(dir, name))
			switch {
			case err != nil:
				why = append(why, err)
			case c != nil:
				trusted = append(trusted, *c)
			}
		}
	}
	return trusted, why
}

func readDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := ownedByRoot(d); err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// load reads a certificate; nil is a file that hides others.
func load(path string) (*Certificate, error) {
	// O_NONBLOCK: it could be a fifo.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFCHR:
		if st.Rdev == unix.Mkdev(1, 3) { // /dev/null
			return nil, nil
		}
		fallthrough
	default:
		return nil, fmt.Errorf("certificate %q is not a regular file", path)
	}
	if err := ownedByRoot(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	if err != nil || len(b) == 0 {
		return nil, err
	}
	c, err := parseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("certificate %q: %w", path, err)
	}
	return &Certificate{Certificate: c, Path: path}, nil
}

// parseCertificate reads the first certificate of a file, as systemd does.
func parseCertificate(b []byte) (*x509.Certificate, error) {
	if len(b) > maxCertificate {
		return nil, fmt.Errorf("it has more than %d bytes", maxCertificate)
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	if bytes.HasPrefix(b, []byte{0x30}) {
		return nil, errors.New("it is in DER, and must be in PEM")
	}
	return nil, errors.New("there is none in PEM")
}

// ownedByRoot refuses what someone else than root could have written.
func ownedByRoot(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		return fmt.Errorf("%q is not root's alone to write (owner %d, mode %#o): what is in it is not trusted", f.Name(), st.Uid, st.Mode&0o7777)
	}
	return nil
}
