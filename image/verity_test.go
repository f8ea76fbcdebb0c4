package image_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/devmapper"
	"github.com/extexec/extexec/image/gpt/gpttest"
	"github.com/extexec/extexec/image/policy"
	"github.com/extexec/extexec/image/verity"
	"github.com/extexec/extexec/nsmount/nsmounttest"
)

const usrVeritySig = "e7bb33fb-06cf-4e81-8273-e543b413e2e2"

// imageName is known to loops, also as the name of a copy in memory.
const imageName = "ImageTest.raw"

// protected is a file system with its hash tree.
type protected struct{ data, tree, root []byte }

func protect(t testing.TB, data []byte) protected {
	t.Helper()
	return protectBlocks(t, data, 4096)
}

func protectBlocks(t testing.TB, data []byte, block int) protected {
	t.Helper()
	data = append(bytes.Clone(data), make([]byte, (block-len(data)%block)%block)...)
	s := &verity.Superblock{Algorithm: "sha256", DataBlockSize: uint32(block), HashBlockSize: 4096, DataBlocks: uint64(len(data) / block), Salt: noise(32)}
	w, err := os.Create(filepath.Join(dir(t), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	root, err := verity.Format(context.Background(), s, bytes.NewReader(data), w)
	if err != nil {
		t.Fatal(err)
	}
	return protected{data, content(t, w.Name()), root}
}

func (p protected) hex() string { return hex.EncodeToString(p.root) }

// write puts files into a new directory and gives the path of the image, which is the one without a name.
func write(t testing.TB, files map[string][]byte) string {
	t.Helper()
	d := dir(t)
	for name, b := range files {
		if name == "" {
			name = ".raw"
		}
		if err := os.WriteFile(filepath.Join(d, strings.TrimSuffix(imageName, ".raw")+name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(d, imageName)
}

// bare puts the hash tree beside the image.
func (p protected) bare(t testing.TB, more map[string][]byte) string {
	t.Helper()
	files := map[string][]byte{"": p.data, ".verity": p.tree, ".roothash": []byte(p.hex() + "\n")}
	for name, b := range more {
		if files[name] = b; b == nil {
			delete(files, name)
		}
	}
	return write(t, files)
}

// partitions are data and hash partition, with the UUIDs that the root hash demands.
func (p protected) partitions(data, tree string) []gpttest.Partition {
	h := p.hex()
	return []gpttest.Partition{{Type: data, ID: h[:32], Data: p.data}, {Type: tree, ID: h[32:], Data: p.tree}}
}

func (p protected) disk(t testing.TB, more ...gpttest.Partition) string {
	t.Helper()
	b := gpttest.Image{SectorSize: 512, Partitions: append(p.partitions(rootX86, verityX86), more...)}.Bytes()
	return write(t, map[string][]byte{"": b})
}

// signatureJSON is the content of a signature partition.
func signatureJSON(root, der []byte) []byte {
	text := fmt.Sprintf(`{"rootHash":"%x","certificateFingerprint":"00","signature":"%s"}`, root, base64.StdEncoding.EncodeToString(der))
	return append([]byte(text), make([]byte, 4096)...)
}

// authority is a key, and the directory that has its certificate.
type authority struct{ key, certificate, dir string }

func newAuthority(t testing.TB, edit func(*x509.Certificate)) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d := dir(t)
	a := authority{filepath.Join(dir(t), "key"), filepath.Join(d, fmt.Sprintf("%x.crt", serial)), d}
	if err := errors.Join(os.Chmod(d, 0o755),
		os.WriteFile(a.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		os.WriteFile(a.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a authority) sign(t testing.TB, root []byte, more ...authority) []byte {
	t.Helper()
	gpttest.Tool(t, "openssl")
	argv := []string{"smime", "-sign", "-nocerts", "-noattr", "-binary", "-outform", "der"}
	for _, a := range append([]authority{a}, more...) {
		argv = append(argv, "-signer", a.certificate, "-inkey", a.key)
	}
	cmd := exec.Command("openssl", argv...)
	cmd.Stdin = strings.NewReader(hex.EncodeToString(root))
	der, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// trusting are options that take anything, by a copy, and trust these.
func trusting(as ...authority) image.Options {
	o := image.Options{Policy: policy.Default(), CopyMax: 64 << 20, Certificates: []string{}, NoDeviceMapper: true}
	for _, a := range as {
		o.Certificates = append(o.Certificates, a.dir)
	}
	return o
}

func withPolicy(t testing.TB, o image.Options, text string) image.Options {
	t.Helper()
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	o.Policy = p
	return o
}

// found is an image with verity data.
type found struct {
	name, path string
	attribute  string // that gets the root hash
	want       string // what is said of it, behind "verified (copy), "
	root       []byte
}

// everywhere makes images with verity data in every place that it can be in.
func everywhere(t *testing.T, a authority) []found {
	erofs := protect(t, content(t, makerNamed(t, "erofs").make(t, source(t, ""))))
	squash := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	usr := protect(t, content(t, makerNamed(t, "erofs").make(t, source(t, "usr"))))
	sig := a.sign(t, erofs.root)
	upper := []byte(strings.ToUpper(erofs.hex()))
	sigPartition := gpttest.Partition{Type: veritySig, Data: signatureJSON(erofs.root, sig)}
	otherUUIDs := []gpttest.Partition{{Type: rootX86, Data: erofs.data}, {Type: verityX86, Data: erofs.tree}, sigPartition}
	const signed, plain = "signed: ", "not signed"
	all := []found{
		{"beside", erofs.bare(t, nil), "", plain, erofs.root},
		{"beside, squashfs", squash.bare(t, nil), "", plain, squash.root},
		{"beside, signed", erofs.bare(t, map[string][]byte{".roothash.p7s": sig}), "", signed, erofs.root},
		{"upper case, no newline", erofs.bare(t, map[string][]byte{".roothash": upper, ".roothash.p7s": sig}), "", signed, erofs.root},
		{"more lines", erofs.bare(t, map[string][]byte{".roothash": append(bytes.Clone(upper), "\nmore\n"...)}), "", plain, erofs.root},
		{"attribute", erofs.bare(t, map[string][]byte{".roothash": nil}), "user.verity.roothash", plain, erofs.root},
		{"attribute before the file", erofs.bare(t, map[string][]byte{".roothash": []byte("junk")}), "user.verity.roothash", plain, erofs.root},
		{"root before usr", erofs.bare(t, map[string][]byte{".usrhash": []byte("junk")}), "", plain, erofs.root},
		{"UUIDs", erofs.disk(t), "", plain, erofs.root},
		{"signature partition", erofs.disk(t, sigPartition), "", signed, erofs.root},
		{"signature partition alone", write(t, map[string][]byte{"": gpttest.Image{Partitions: otherUUIDs}.Bytes()}), "", signed, erofs.root},
		{"4096", write(t, map[string][]byte{"": gpttest.Image{SectorSize: 4096, Partitions: erofs.partitions(rootX86, verityX86)}.Bytes()}), "", plain, erofs.root},
		{"usr", write(t, map[string][]byte{"": gpttest.Image{Partitions: usr.partitions(usrX86, usrVerity)}.Bytes()}), "", plain, usr.root},
		{"usr hash beside", write(t, map[string][]byte{"": gpttest.Image{Partitions: usr.partitions(usrX86, usrVerity)}.Bytes(),
			".usrhash": []byte(usr.hex()), ".usrhash.p7s": a.sign(t, usr.root)}), "", signed, usr.root},
		{"root hash beside a disk", write(t, map[string][]byte{"": gpttest.Image{Partitions: append(
			// The first two are for another version: what is known says which are meant.
			squash.partitions(rootX86, verityX86), erofs.partitions(rootX86, verityX86)...)}.Bytes(),
			".roothash": []byte(erofs.hex()), ".roothash.p7s": sig}), "", signed, erofs.root},
	}
	for _, c := range all {
		if c.attribute == "" {
			continue
		}
		if err := unix.Setxattr(c.path, c.attribute, []byte(erofs.hex()), 0); err != nil {
			t.Fatalf("temporary files need a file system with extended attributes: %v", err)
		}
	}
	return all
}

// TestVerified opens images with verity data from every place that it can be in.
func TestVerified(t *testing.T) {
	setUp(t)
	a := newAuthority(t, nil)
	for _, c := range everywhere(t, a) {
		t.Run(c.name, func(t *testing.T) {
			setUp(t)
			i := mustOpen(t, c.path, trusting(a))
			checkVerified(t, i, "copy", c.want)
			if !bytes.Equal(i.Info.RootHash, c.root) {
				t.Errorf("root hash %x, want %x", i.Info.RootHash, c.root)
			}
			checkUsr(t, i)
			closeImage(t, i)
			f, err := os.Open(c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got, err := image.RootHash(f, c.path, nil); err != nil || !bytes.Equal(got, c.root) {
				t.Errorf("root hash %x, %v, want %x", got, err, c.root)
			}
		})
	}
}

func checkVerified(t *testing.T, i *image.Image, how, want string) {
	t.Helper()
	if (i.Info.Device != "") != (how == "kernel") {
		t.Errorf("it is verified by %q", i.Info.Device)
	}
	if got := i.Info.Verified; !strings.HasPrefix(got, "verified ("+how+"), "+want) || i.Info.Backing != how {
		t.Errorf("%q, from %q, want %q", got, i.Info.Backing, want)
	}
}

// TestRefusedVerity shows what is said of images that were meant to be verified, and cannot be.
func TestRefusedVerity(t *testing.T) {
	setUp(t)
	a := newAuthority(t, nil)
	p := protect(t, content(t, makerNamed(t, "erofs").make(t, source(t, ""))))
	other := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	long := protect(t, append(bytes.Clone(p.data), make([]byte, 8192)...))
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	disk := func(files map[string][]byte, ps ...gpttest.Partition) string {
		files[""] = gpttest.Image{Partitions: ps}.Bytes()
		return write(t, files)
	}
	none := map[string][]byte{}
	spread := make([]byte, 80<<10) // one of two devices, the other of which has no hash tree
	copy(spread[64<<10+0x40:], "_BHRfS_M")
	spread[64<<10+0x88] = 2
	two := protect(t, spread)
	ps := p.partitions(rootX86, verityX86)
	sig := gpttest.Partition{Type: veritySig, Data: signatureJSON(p.root, a.sign(t, p.root))}
	sigOf := func(b []byte) gpttest.Partition { return gpttest.Partition{Type: veritySig, Data: b} }
	for _, c := range []struct {
		name, path string
		words      []string
	}{
		{"data", p.bare(t, map[string][]byte{"": flip(p.data, 8192+5)}), []string{"data block 2 (at byte 8192) was changed", "ImageTest.roothash", "ImageTest.verity"}},
		{"tree", p.bare(t, map[string][]byte{".verity": flip(p.tree, 4096+7)}), []string{"does not have the root hash"}},
		{"root hash", p.bare(t, map[string][]byte{".roothash": []byte(hex.EncodeToString(flip(p.root, 31)))}), []string{"does not have the root hash"}},
		{"superblock: salt", p.bare(t, map[string][]byte{".verity": flip(p.tree, 88)}), []string{"does not have the root hash"}},
		{"superblock: version", p.bare(t, map[string][]byte{".verity": flip(p.tree, 8)}), []string{"ImageTest.verity", "version 0, want 1"}},
		{"superblock: block size", p.bare(t, map[string][]byte{".verity": flip(p.tree, 65)}), []string{"data blocks of 4352 bytes"}},
		{"superblock: blocks", p.bare(t, map[string][]byte{".verity": flip(p.tree, 78)}), []string{"cut off"}},
		{"tree of another image", p.bare(t, map[string][]byte{".verity": other.tree}), []string{"does not have the root hash"}},
		{"tree and root hash of another image", p.bare(t, map[string][]byte{".verity": other.tree, ".roothash": []byte(other.hex())}), []string{"data block"}},
		{"tree that is no tree", p.bare(t, map[string][]byte{".verity": p.data}), []string{"read verity superblock: there is none"}},
		{"empty tree", p.bare(t, map[string][]byte{".verity": {}}), []string{"hash area is cut off"}},
		{"short data", long.bare(t, map[string][]byte{"": long.data[:len(long.data)-4096]}), []string{"bytes of data, and its file system has"}},
		{"btrfs of two devices", two.bare(t, nil), []string{"its btrfs has 2 devices"}},
		{"disk: btrfs of two devices", two.disk(t), []string{"root partition", "its btrfs has 2 devices"}},
		{"no tree", p.bare(t, map[string][]byte{".verity": nil}), []string{"no hash tree to check it by", "ImageTest.roothash"}},
		{"no root hash", p.bare(t, map[string][]byte{".roothash": nil}), []string{"ImageTest.verity", "no root hash to check that by"}},
		{"signature alone", p.bare(t, map[string][]byte{".roothash": nil, ".verity": nil, ".roothash.p7s": {1}}), []string{"ImageTest.roothash.p7s", "no root hash that it signs"}},
		{"usr signature alone", p.bare(t, map[string][]byte{".roothash": nil, ".verity": nil, ".usrhash.p7s": {1}}), []string{"ImageTest.usrhash.p7s"}},
		{"empty signature", p.bare(t, map[string][]byte{".roothash.p7s": {}}), []string{"is empty"}},
		{"large signature", p.bare(t, map[string][]byte{".roothash.p7s": make([]byte, 64<<10+1)}), []string{"more than 65536 bytes"}},
		{"short root hash", p.bare(t, map[string][]byte{".roothash": []byte("00112233445566778899aabbccddee")}), []string{"has 15 bytes, and needs at least 16"}},
		{"root hash of another algorithm", p.bare(t, map[string][]byte{".roothash": []byte(p.hex() + p.hex())}), []string{"has 64 bytes, and sha256 has 32"}},
		{"no hex", p.bare(t, map[string][]byte{".roothash": []byte("hello\n")}), []string{"ImageTest.roothash", "no hex"}},
		{"empty root hash", p.bare(t, map[string][]byte{".roothash": {}}), []string{"has 0 bytes"}},
		{"large root hash", p.bare(t, map[string][]byte{".roothash": make([]byte, 5000)}), []string{"more than 4096 bytes"}},
		{"usr hash of a bare image", p.bare(t, map[string][]byte{".roothash": nil, ".usrhash": []byte(p.hex())}), []string{"no partitions"}},

		{"hash device", write(t, map[string][]byte{"": p.tree}), []string{"dm-verity hash device, not the data"}},
		{"disk: data", disk(none, gpttest.Partition{Type: rootX86, ID: ps[0].ID, Data: flip(p.data, 4096*3)}, ps[1]), []string{"root partition", "the UUIDs of its partitions", "data block 3"}},
		{"disk: UUID", disk(none, gpttest.Partition{Type: rootX86, Data: p.data}, ps[1]), []string{"does not have the root hash"}},
		{"disk: tree beside", disk(map[string][]byte{".verity": p.tree, ".roothash": []byte(p.hex())}, ps...), []string{"ImageTest.verity", "partition table"}},
		{"disk: no tree", disk(map[string][]byte{".roothash": []byte(p.hex())}, ps[0]), []string{"no hash partition of the UUID that it demands"}},
		{"disk: root hash of another", disk(map[string][]byte{".roothash": []byte(other.hex())}, ps...), []string{"no root partition of the UUID that it demands"}},
		{"disk: no verity at all", disk(map[string][]byte{".roothash": []byte(p.hex())}, gpttest.Partition{Type: rootX86, Data: p.data}), []string{"that of another image"}},
		{"disk: two trees", disk(none, ps[0], ps[1], ps[1]), []string{"partitions 2 and 3 are both root-verity"}},
		{"disk: two signatures", disk(none, ps[0], ps[1], sig, sig), []string{"partitions 3 and 4 are both root-verity-sig"}},
		{"disk: signature without tree", disk(none, ps[0], sig), []string{"partition 2 is root-verity-sig", "no hash tree"}},
		{"disk: tree without data", disk(none, gpttest.Partition{Type: usrX86, Data: p.data}, ps[1]), []string{"partition 2 is root-verity for x86-64", "no root partition"}},
		{"disk: renamed data", disk(none, gpttest.Partition{Type: rootARM, Data: p.data}, ps[1]), []string{"no root partition that it protects"}},
		{"disk: signature of another", disk(map[string][]byte{".roothash": []byte(p.hex())}, ps[0], ps[1], sigOf(signatureJSON(other.root, a.sign(t, other.root)))),
			[]string{"partition 3 (root-verity-sig) signs the root hash"}},
		{"disk: signed root hash of another", disk(none, ps[0], ps[1], sigOf(signatureJSON(other.root, a.sign(t, other.root)))), []string{"does not have the root hash"}},
		{"disk: no JSON", disk(none, ps[0], ps[1], sigOf([]byte("hello"))), []string{"partition 3 (root-verity-sig)", "no JSON"}},
		{"disk: JSON of 10 MiB", disk(none, ps[0], ps[1], sigOf(bytes.Repeat([]byte("["), 10<<20))), []string{"more than 4194304"}},
		{"disk: deep JSON", disk(none, ps[0], ps[1], sigOf(bytes.Repeat([]byte("["), 1<<20))), []string{"no JSON"}},
		{"disk: short signed hash", disk(none, ps[0], ps[1], sigOf(signatureJSON([]byte{1}, []byte{1}))), []string{"has 1 bytes"}},
		{"disk: root verity and usr", disk(none, ps[0], ps[1], gpttest.Partition{Type: usrX86, Data: p.data}), []string{"usr partition: systemd takes no such image"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			setUp(t)
			_, err := openPath(t, c.path, trusting(a))
			checkError(t, c.name, err, append(c.words, c.path)...)
		})
	}
}

// TestFlippedBits flips bits all over a disk image and its signature. Where there is no error, the file system is the
// same as before: what was hit is not used, or there are two of it.
func TestFlippedBits(t *testing.T) {
	setUp(t)
	a := newAuthority(t, nil)
	o := withPolicy(t, trusting(a), "root=signed+absent:usr=signed+absent")
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	path := p.disk(t, gpttest.Partition{Type: veritySig, Data: signatureJSON(p.root, a.sign(t, p.root))})
	b := content(t, path)
	closeImage(t, mustOpen(t, path, o))
	// Everything that is written down, but of the data a part.
	var places []int
	for i, c := range b {
		if c != 0 && (i%4999 == 0 || i < 2048 && i%7 == 0 || i > len(b)-128<<10 && i%1009 == 0) {
			places = append(places, i)
		}
	}
	refused := 0
	for _, at := range places {
		b[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := openPath(t, path, o)
		if err != nil {
			refused++
			checkError(t, fmt.Sprintf("byte %d", at), err, path)
		} else {
			if got := read(t, i, "/usr/hello"); got != hello {
				t.Errorf("byte %d: %q", at, got)
			}
			closeImage(t, i)
		}
		b[at] ^= 1 << (at % 8)
	}
	if refused < len(places)/2 {
		t.Errorf("%d of %d were refused", refused, len(places))
	}
}

// TestBothTables damages the partition tables: with one left, whichever that is, it is used.
func TestBothTables(t *testing.T) {
	setUp(t)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	path := p.disk(t)
	b := content(t, path)
	b[512+60] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	i := mustOpen(t, path, trusting())
	checkUsr(t, i)
	closeImage(t, i)
	b[len(b)-512+60] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openPath(t, path, trusting())
	checkError(t, "both", err, "GUID partition table")
	b[512+60] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	i = mustOpen(t, path, trusting())
	checkUsr(t, i)
	closeImage(t, i)
}

// TestRefusedSignatures shows what is said of images whose signature does not count, where one is required.
func TestRefusedSignatures(t *testing.T) {
	setUp(t)
	a, stranger := newAuthority(t, nil), newAuthority(t, nil)
	expired := newAuthority(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	server := newAuthority(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	damaged, exchanged := newAuthority(t, nil), newAuthority(t, nil)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	sig := a.sign(t, p.root)
	last := bytes.Clone(sig)
	last[len(last)-1] ^= 1
	header := 2 + int(sig[1]&0x7f)*int(sig[1]>>7)
	ber := slices.Concat([]byte{sig[0], 0x80}, sig[header:], []byte{0, 0}) // a length that only BER has
	byDamaged, byExchanged := damaged.sign(t, p.root), exchanged.sign(t, p.root)
	text := content(t, damaged.certificate)
	text[len(text)/2] = '*'
	other := newAuthority(t, nil)
	if err := errors.Join(os.WriteFile(damaged.certificate, text, 0o644),
		os.WriteFile(exchanged.certificate, content(t, other.certificate), 0o644)); err != nil {
		t.Fatal(err)
	}
	o := trusting(a, expired, server, damaged, exchanged)
	o.RequireSignature = true
	for _, c := range []struct {
		name  string
		sig   []byte
		words []string
	}{
		{"flipped bit", last, []string{"not that of the root hash"}},
		{"trailing byte", append(bytes.Clone(sig), 0), []string{"1 bytes follow its end"}},
		{"BER", ber, []string{"no PKCS#7 in DER"}},
		{"two signers", a.sign(t, p.root, stranger), []string{"2 signers"}},
		{"of another root hash", a.sign(t, bytes.Repeat([]byte{1}, 32)), []string{"not that of the root hash"}},
		{"stranger", stranger.sign(t, p.root), []string{"none of those that are trusted"}},
		{"expired", expired.sign(t, p.root), []string{expired.certificate, "expired on"}},
		{"wrong purpose", server.sign(t, p.root), []string{server.certificate, "extended key usage lacks codeSigning"}},
		{"damaged certificate", byDamaged, []string{"none of those that are trusted", damaged.certificate, "there is none in PEM"}},
		{"exchanged certificate", byExchanged, []string{"none of those that are trusted"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			setUp(t)
			path := p.bare(t, map[string][]byte{".roothash.p7s": c.sig})
			_, err := openPath(t, path, o)
			checkError(t, c.name, err, append(c.words, path, "RequireSignature=yes", "ImageTest.roothash.p7s")...)
			if !errors.Is(err, policy.ErrDenied) {
				t.Errorf("%v is not ErrDenied", err)
			}
		})
	}
}

// TestPolicy shows which images a policy lets in, and how it says no.
func TestPolicy(t *testing.T) {
	setUp(t)
	a, stranger := newAuthority(t, nil), newAuthority(t, nil)
	expired := newAuthority(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	p7s := func(a authority) string { return p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)}) }
	images := map[string]string{
		"plain":    write(t, map[string][]byte{"": p.data}),
		"verity":   p.bare(t, nil),
		"signed":   p7s(a),
		"stranger": p7s(stranger),
		"expired":  p7s(expired),
		"disk":     write(t, map[string][]byte{"": gpttest.Image{Partitions: []gpttest.Partition{{Type: rootX86, Attrs: 1 << 60, Data: p.data}, {Type: homeType}}}.Bytes()}),
		"usr": write(t, map[string][]byte{"": gpttest.Image{Partitions: []gpttest.Partition{{Type: rootX86, Data: p.data},
			{Type: usrX86, Data: content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, "usr")))}}}.Bytes()}),
	}
	for _, c := range []struct {
		policy string
		taken  string            // words: which images are taken, "name" or "name=what Verified says"
		says   map[string]string // what is said of others
	}{
		{"*", "plain verity=not signed signed=signed: stranger=not trusted expired=not trusted disk usr", nil},
		{policy.Default().String(), "plain verity signed stranger expired disk usr", nil},
		{"root=verity+signed+absent", "verity signed stranger expired", map[string]string{"plain": "wants its file system protected by verity: it has no hash tree"}},
		{"root=verity", "verity=not signed signed=signature not looked at stranger expired", map[string]string{"disk": "wants its root partition protected by verity"}},
		{"root=signed+absent:usr=signed+absent", "signed=signed:", map[string]string{
			"plain": "wants its file system signed: it has no hash tree", "verity": "has no signature",
			"stranger": "none of those that are trusted", "expired": "expired on", "usr": "wants its root partition signed"}},
		{"root=unprotected:usr=absent", "plain verity=not signed signed stranger expired disk", map[string]string{"usr": "forbids a usr partition"}},
		{"root=unprotected:usr=unused+absent", "plain verity signed stranger expired disk usr", nil},
		{"root=unprotected+absent:usr=unprotected", "usr", map[string]string{"plain": "demands a usr partition, and it has none"}},
		{"root=open:home=absent", "plain verity signed stranger expired usr", map[string]string{"disk": "forbids a home partition"}},
		{"root=open:home=unprotected", "disk", map[string]string{"plain": "demands a home partition"}},
		{"root=encrypted+absent", "", map[string]string{"plain": "wants its file system encrypted, which is not supported"}},
		{"-", "", map[string]string{"plain": "ignores all its partitions"}},
		{"~", "", map[string]string{"plain": "forbids a root partition"}},
		{"root=open+erofs", "", map[string]string{"plain": "to be erofs, and it is squashfs"}},
		{"root=open+erofs+squashfs", "plain verity signed stranger expired disk usr", nil},
		{"root=open+read-only-off", "plain verity signed stranger expired usr", map[string]string{"disk": "forbids the attribute read-only"}},
		{"root=open+read-only-on", "plain verity signed stranger expired disk", map[string]string{"usr": "wants the attribute read-only"}},
		{"root=open:root-verity=unprotected", "verity signed stranger expired", map[string]string{"plain": "demands a root-verity partition"}},
		{"root=open:root-verity=absent", "plain disk usr", map[string]string{"verity": "forbids a root-verity partition"}},
	} {
		taken := map[string]string{}
		for _, w := range strings.Split(strings.NewReplacer("=not ", "=not_", "=signature not looked at", "=not_looked").Replace(c.taken), " ") {
			name, verified, _ := strings.Cut(w, "=")
			taken[name] = strings.ReplaceAll(verified, "_", " ")
		}
		for name, path := range images {
			i, err := openPath(t, path, withPolicy(t, trusting(a, expired), c.policy))
			verified, want := taken[name]
			switch {
			case err == nil && !want:
				t.Errorf("%s: %s is taken, as %q", c.policy, name, i.Info.Verified)
			case err != nil && (want || !errors.Is(err, policy.ErrDenied)):
				t.Errorf("%s: %s: %v", c.policy, name, err)
			case err == nil && !strings.Contains(i.Info.Verified, verified):
				t.Errorf("%s: %s: %q, want %q", c.policy, name, i.Info.Verified, verified)
			case err == nil && (i.Info.Untrusted != nil) != strings.Contains(i.Info.Verified, "not trusted"):
				t.Errorf("%s: %s: %q, %v", c.policy, name, i.Info.Verified, i.Info.Untrusted)
			case err != nil && c.says[name] != "":
				checkError(t, c.policy+": "+name, err, c.says[name])
			}
			if err == nil {
				closeImage(t, i)
			}
		}
	}
	o := trusting(a, expired)
	o.RequireSignature = true
	for name, words := range map[string]string{"plain": "no hash tree", "verity": "has no signature", "signed": "", "stranger": "trusted", "expired": "expired", "disk": "no hash tree", "usr": "no hash tree"} {
		i, err := openPath(t, images[name], o)
		if words == "" {
			if err != nil {
				t.Errorf("RequireSignature=yes: %s: %v", name, err)
				continue
			}
			closeImage(t, i)
			continue
		}
		checkError(t, name, err, "RequireSignature=yes", words)
		if !errors.Is(err, policy.ErrDenied) {
			t.Errorf("%s: %v is not ErrDenied", name, err)
		}
	}
	f, err := os.Open(images["signed"])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if root, err := image.Judge(f, images["signed"], o); err != nil || !bytes.Equal(root, p.root) {
		t.Errorf("judge: %x, %v", root, err)
	}
	if err := os.Remove(a.certificate); err != nil {
		t.Fatal(err)
	}
	if _, err := image.Judge(f, images["signed"], o); !errors.Is(err, policy.ErrDenied) {
		t.Errorf("without its certificate: %v", err)
	}
}

// TestJudgeAsksTheKernel shows that a signature that is not trusted does not count because the kernel might know the key:
// here is a device mapper that knows nothing.
func TestJudgeAsksTheKernel(t *testing.T) {
	setUp(t)
	a := newAuthority(t, nil)
	p := protect(t, content(t, makerNamed(t, "erofs").make(t, source(t, ""))))
	path := p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)})
	o := trusting()
	o.RequireSignature, o.NoDeviceMapper = true, false
	deafDeviceMapper(t)
	if err := devmapper.Available(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := image.Judge(f, path, o); !errors.Is(err, policy.ErrDenied) {
		t.Errorf("judge: %v", err)
	}
	r, err := image.Inspect(f, path, o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Denied() {
		t.Errorf("inspect: %v", r.Refused)
	}
}

// deafDeviceMapper puts a file in the place of the device mapper, which knows no ioctl: like one before Linux 5.2, which
// cannot be asked for its targets, and takes no table. It is the test binary's own /dev alone that is hidden.
func deafDeviceMapper(t *testing.T) {
	t.Helper()
	if err := nsmounttest.Mount("tmpfs", "/dev", "tmpfs", 0); err != nil {
		t.Fatal(err)
	}
	nsmounttest.Unmount(t, "/dev")
	if err := errors.Join(os.Mkdir("/dev/mapper", 0o700), os.WriteFile("/dev/mapper/control", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestUpstreamPolicies is what systemd's TEST-50-DISSECT tries on a signed disk image, for a root and a usr partition.
func TestUpstreamPolicies(t *testing.T) {
	setUp(t)
	a := newAuthority(t, nil)
	for designator, c := range map[string]struct{ data, tree, sig, below string }{
		"root": {rootX86, verityX86, veritySig, ""}, "usr": {usrX86, usrVerity, usrVeritySig, "usr"},
	} {
		p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, c.below))))
		ps := append(p.partitions(c.data, c.tree), gpttest.Partition{Type: c.sig, Data: signatureJSON(p.root, a.sign(t, p.root))})
		path := write(t, map[string][]byte{"": gpttest.Image{Partitions: ps}.Bytes()})
		for text, want := range map[string]bool{
			policy.Default().String(): true, "*": true, "X=unprotected": true, "X=verity": true, "X=verity:X-verity-sig=unused+absent": true,
			"X=verity:swap=absent": true, "X=verity:swap=absent+unprotected": true, "X=signed": true, "X=verity+signed": true,
			"~": false, "-": false, "X=absent": false, "X=verity:swap=unprotected+encrypted+verity": false,
			"X=verity:X-verity=unused+absent": false, "X=signed:X-verity-sig=unused+absent": false, "X=signed:X-verity=unused+absent": false,
			"X=encrypted": false,
		} {
			text = strings.ReplaceAll(text, "X", designator)
			i, err := openPath(t, path, withPolicy(t, trusting(a), text))
			if (err == nil) != want || err != nil && !errors.Is(err, policy.ErrDenied) {
				t.Errorf("%s: %v, want it taken: %v", text, err, want)
			}
			if err == nil {
				if i.Info.Verified == "" {
					t.Errorf("%s: not verified", text)
				}
				closeImage(t, i)
			}
		}
	}
}

// TestCopyMax shows that nothing is read before it is known that there is room for it.
func TestCopyMax(t *testing.T) {
	setUp(t)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	path := p.bare(t, nil)
	o := trusting()
	o.CopyMax = int64(len(p.data)) - 1
	_, err := openPath(t, path, o)
	checkError(t, "one less", err, fmt.Sprintf("VerifiedCopyMax= allows %d", o.CopyMax), "dm-verity")
	o.CopyMax++
	closeImage(t, mustOpen(t, path, o))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := image.Open(ctx, f, path, o); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// TestCopyIsSealed shows that the copy cannot be written to, not by the way to it that root has either.
func TestCopyIsSealed(t *testing.T) {
	setUp(t)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	i := mustOpen(t, p.bare(t, nil), trusting())
	defer closeImage(t, i)
	d, err := i.Dir("/usr")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	dev := fmt.Sprintf("/dev/loop%d", unix.Minor(st.Dev))
	if backing := strings.TrimSpace(string(content(t, fmt.Sprintf("/sys/block/loop%d/loop/backing_file", unix.Minor(st.Dev))))); !strings.Contains(backing, "memfd:"+imageName) {
		t.Errorf("%s shows %q", dev, backing)
	}
	if ro := strings.TrimSpace(string(content(t, fmt.Sprintf("/sys/block/loop%d/ro", unix.Minor(st.Dev))))); ro != "1" {
		t.Errorf("%s: ro is %s", dev, ro)
	}
	if f, err := os.OpenFile(dev, os.O_RDWR, 0); err == nil {
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Errorf("%s could be written to", dev)
		}
		_ = f.Close()
	}
}

// raced is how often TestReplaced tries.
const raced = 10000

// TestReplaced changes an image while it is opened: by rename, through another descriptor, by cutting it off. What is
// mounted has the root hash, or nothing is.
func TestReplaced(t *testing.T) {
	setUp(t)
	a := newAuthority(t, nil)
	src := dir(t)
	if err := os.WriteFile(filepath.Join(src, "hello"), []byte(hello), 0o644); err != nil {
		t.Fatal(err)
	}
	m := makerNamed(t, "squashfs-gzip")
	p := protect(t, content(t, m.make(t, src)))
	if err := os.WriteFile(filepath.Join(src, "hello"), []byte("HELLO FROM SOMEWHERE\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	evil := protect(t, content(t, m.make(t, src)))
	path := p.bare(t, map[string][]byte{".roothash.p7s": a.sign(t, p.root)})
	d := filepath.Dir(path)
	stop, stopped := make(chan struct{}), make(chan error)
	go func() { stopped <- replaceUntil(stop, d, path, p.data, evil.data) }()
	o := withPolicy(t, trusting(a), "root=signed")
	taken, refused := 0, 0
	for range raced {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		i, err := image.Open(context.Background(), f, path, o)
		_ = f.Close()
		if err != nil {
			refused++
			continue
		}
		taken++
		if got := read(t, i, "/hello"); got != hello {
			t.Fatalf("%q is shown, and never was signed", got)
		}
		closeImage(t, i)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	t.Logf("%d taken, %d refused", taken, refused)
	if taken == 0 || refused == 0 {
		t.Error("nothing was raced")
	}
}

// replaceUntil changes the image in all ways, and back, until it is told to stop.
func replaceUntil(stop chan struct{}, d, path string, good, evil []byte) error {
	other := filepath.Join(d, "other")
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		var err error
		switch n % 4 {
		case 0, 1: // by rename
			b := evil
			if n%4 == 1 {
				b = good
			}
			err = errors.Join(os.WriteFile(other, b, 0o600), os.Rename(other, path))
		case 2: // in place
			err = errors.Join(writeAt(path, evil), writeAt(path, good))
		case 3: // shorter
			err = errors.Join(os.Truncate(path, int64(len(good)/2)), writeAt(path, good))
		}
		if err != nil {
			return err
		}
	}
}

func writeAt(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Close())
}

// TestShrinks cuts an image off while it is mounted: a copy does not mind.
func TestShrinks(t *testing.T) {
	setUp(t)
	p := protect(t, content(t, makerNamed(t, "squashfs-gzip").make(t, source(t, ""))))
	path := p.bare(t, nil)
	i := mustOpen(t, path, trusting())
	defer closeImage(t, i)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	checkUsr(t, i)
}
