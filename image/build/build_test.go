package build_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/image/build"
	"github.com/extexec/extexec/image/gpt"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/image/verity"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var early = time.Unix(1_500_000_000, 0)

// tree makes a directory. The order in which its files are made is not that of their names where backwards.
func tree(t *testing.T, backwards bool) string {
	t.Helper()
	dir := t.TempDir()
	names := []string{"usr/lib/a", "usr/lib/b/c", "usr/bin/tool", "opt/x/y", "usr/share/z/1", "usr/share/z/2", "usr/share/z/3"}
	for i := range names {
		if backwards {
			i = len(names) - 1 - i
		}
		path := filepath.Join(dir, names[i])
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, bytes.Repeat([]byte(names[i]), 100*(i+1)), 0o644))
	}
	must(t, os.Link(filepath.Join(dir, "usr/bin/tool"), filepath.Join(dir, "usr/bin/link")))
	must(t, os.Symlink("tool", filepath.Join(dir, "usr/bin/symlink")))
	return dir
}

func signer(t *testing.T, key any) (*build.Signer, []byte) {
	t.Helper()
	keyPEM, certPEM := pair(t, key, time.Now().Add(time.Hour))
	s, err := build.NewSigner(keyPEM, certPEM)
	must(t, err)
	return s, certPEM
}

func pair(t *testing.T, key any, until time.Time) (keyPEM, certPEM []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "extexec test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), certificate(t, template, key)
}

func certificate(t *testing.T, template *x509.Certificate, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.(crypto.Signer).Public(), key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return k
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

// The same tree, made again in another order and at another time, gives the same bytes, and nothing else is left.
func TestReproducible(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "mksquashfs")
	sign, _ := signer(t, ecKey(t))
	for _, o := range []build.Options{
		{Format: build.Erofs},
		{Format: build.Erofs, Compression: "lz4hc:9"},
		{Format: build.Squashfs},
		{Format: build.Squashfs, Compression: "none", AllRoot: true},
		{Format: build.DDI, Designator: "root", Arch: "x86-64", Signer: sign},
		{Format: build.DDI, Designator: "usr", Arch: "arm64"},
	} {
		o.Time, o.Seed = early, build.SeedOf("test")
		var images [2][]byte
		for i := range images {
			out := t.TempDir()
			r, err := build.Build(t.Context(), tree(t, i == 1), out+"/x.raw", o)
			must(t, err)
			images[i], err = os.ReadFile(out + "/x.raw")
			must(t, err)
			if entries, err := os.ReadDir(out); err != nil || len(entries) != 1 || r.Size != int64(len(images[i])) {
				t.Errorf("%+v: %v, %v, %+v", o, entries, err, r)
			}
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("%s %s: the images differ", o.Format, o.Compression)
		}
	}
}

// A disk image has the partitions that its root hash stands for, and the hash tree is that of the data.
func TestDDI(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	key := rsaKey(t)
	sign, certPEM := signer(t, key)
	out := t.TempDir() + "/x.raw"
	o := build.Options{Format: build.DDI, Designator: "root", Arch: "x86-64", Signer: sign, Time: early, Seed: build.SeedOf("a")}
	r, err := build.Build(t.Context(), tree(t, false), out, o)
	must(t, err)
	image, err := os.ReadFile(out)
	must(t, err)
	table, err := gpt.Read(bytes.NewReader(image), int64(len(image)))
	must(t, err)
	if d := cmp.Diff(r.Table, table); d != "" {
		t.Error(d)
	}
	if len(table.Partitions) != 3 || len(image)%4096 != 0 {
		t.Fatalf("%d bytes, %+v", len(image), table)
	}
	part := func(i int) *io.SectionReader {
		p := table.Partitions[i]
		if p.Offset%4096 != 0 || p.Attrs != gpt.ReadOnly {
			t.Errorf("partition %d: %+v", i, p)
		}
		return io.NewSectionReader(bytes.NewReader(image), p.Offset, p.Size)
	}
	ids := table.Partitions[0].ID.Bytes()
	more := table.Partitions[1].ID.Bytes()
	if !bytes.Equal(append(ids[:], more[:]...), r.RootHash) {
		t.Errorf("the UUIDs %x %x are not the root hash %x", ids, more, r.RootHash)
	}
	sb, err := verity.Read(part(1), part(1).Size())
	must(t, err)
	must(t, verity.Copy(t.Context(), sb, r.RootHash, part(1), part(0), nil))

	var s struct {
		RootHash, CertificateFingerprint string
		Signature                        []byte
	}
	text, err := io.ReadAll(part(2))
	must(t, err)
	must(t, json.Unmarshal(bytes.TrimRight(text, "\x00"), &s))
	if s.RootHash != hex.EncodeToString(r.RootHash) || len(s.CertificateFingerprint) != 64 {
		t.Errorf("%+v", s)
	}
	verifies(t, certPEM, s.RootHash, s.Signature)
}

// verifies asks OpenSSL about a signature.
func verifies(t *testing.T, certPEM []byte, text string, der []byte) {
	t.Helper()
	gpttest.Tool(t, "openssl")
	dir := t.TempDir()
	for name, b := range map[string][]byte{"cert": certPEM, "sig": der, "text": []byte(text)} {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	cmd := exec.Command("openssl", "smime", "-verify", "-binary", "-inform", "der", "-in", "sig", "-content", "text", "-certificate", "cert",
		"-CAfile", "cert", "-purpose", "any", "-out", "/dev/null")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("openssl: %v\n%s\n%s", err, out, base64.StdEncoding.EncodeToString(der))
	}
}

func TestECDSA(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	sign, certPEM := signer(t, ecKey(t))
	out := t.TempDir() + "/x.raw"
	o := build.Options{Format: build.DDI, Designator: "root", Arch: "x86-64", Signer: sign, Time: early, Seed: build.SeedOf("a")}
	r, err := build.Build(t.Context(), tree(t, false), out, o)
	must(t, err)
	image, err := os.ReadFile(out)
	must(t, err)
	p := r.Table.Partitions[2]
	var s struct{ Signature []byte }
	must(t, json.Unmarshal(bytes.TrimRight(image[p.Offset:p.Offset+p.Size], "\x00"), &s))
	verifies(t, certPEM, hex.EncodeToString(r.RootHash), s.Signature)
}

func TestNewSignerRefuses(t *testing.T) {
	key, other := ecKey(t), ecKey(t)
	keyPEM, certPEM := pair(t, key, time.Now().Add(time.Hour))
	otherPEM, _ := pair(t, other, time.Now().Add(time.Hour))
	_, expired := pair(t, key, time.Now().Add(-time.Minute))
	for _, c := range []struct {
		name      string
		key, cert []byte
		want      string
	}{
		{"other key", otherPEM, certPEM, "not that of the certificate"},
		{"expired", keyPEM, expired, "is valid from"},
		{"no certificate", keyPEM, keyPEM, "does not begin with a PEM certificate"},
		{"empty", nil, certPEM, "it is not PEM"},
		{"with a password", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n"), certPEM, "without a password"},
	} {
		if _, err := build.NewSigner(c.key, c.cert); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What fails leaves what was there before, and nothing else.
func TestBuildFails(t *testing.T) {
	gpttest.Tool(t, "mkfs.erofs")
	gpttest.Tool(t, "mksquashfs")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	sign, _ := signer(t, ecKey(t))
	for _, c := range []struct {
		name   string
		ctx    context.Context
		source string
		o      build.Options
		want   string
	}{
		{"no source", t.Context(), "/nonexistent", build.Options{Format: build.Erofs}, "mkfs.erofs fails"},
		{"no source", t.Context(), "/nonexistent", build.Options{Format: build.Squashfs}, "mksquashfs fails"},
		{"compression", t.Context(), tree(t, false), build.Options{Format: build.Erofs, Compression: "nonsense"}, "mkfs.erofs fails"},
		{"compression", t.Context(), tree(t, false), build.Options{Format: build.Squashfs, Compression: "-x"}, "names no compression"},
		{"architecture", t.Context(), tree(t, false), build.Options{Format: build.DDI, Designator: "root", Arch: "vax"}, `architecture "vax"`},
		{"designator", t.Context(), tree(t, false), build.Options{Format: build.DDI, Designator: "home", Arch: "x86-64"}, "no type of home"},
		{"signature", t.Context(), tree(t, false), build.Options{Format: build.Erofs, Signer: sign}, "no place for a signature"},
		{"ended", ended, tree(t, false), build.Options{Format: build.DDI, Designator: "root", Arch: "x86-64"}, "context canceled"},
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(dir+"/x.raw", []byte("before"), 0o600))
		c.o.Time = early
		_, err := build.Build(c.ctx, c.source, dir+"/x.raw", c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.name, err)
		}
		b, err := os.ReadFile(dir + "/x.raw")
		if entries, _ := os.ReadDir(dir); err != nil || string(b) != "before" || len(entries) != 1 {
			t.Errorf("%s: %q, %v, %v", c.name, b, err, entries)
		}
	}
}

func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := os.Stat("/usr/sbin/mksquashfs"); err == nil {
		t.Skip("mksquashfs is in /usr/sbin here, where it is found without PATH")
	}
	_, err := build.Build(t.Context(), t.TempDir(), t.TempDir()+"/x.raw", build.Options{Format: build.Squashfs, Time: early})
	if err == nil || !strings.Contains(err.Error(), "install the package squashfs-tools") {
		t.Error(err)
	}
}
