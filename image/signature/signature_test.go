package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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

	"github.com/extexec/extexec/image/gpt/gpttest"
)

// signer is a key with its certificate, as files and as values.
type signer struct {
	key, crt string // paths
	trusted  Certificate
}

var serial int64 = 1000

// newSigner makes a self-signed certificate. edit may change what is in it.
func newSigner(t testing.TB, key crypto.Signer, edit func(*x509.Certificate)) signer {
	t.Helper()
	serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: t.Name()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d := t.TempDir()
	s := signer{filepath.Join(d, "key"), filepath.Join(d, "x.crt"), Certificate{c, filepath.Join(d, "x.crt")}}
	err = errors.Join(os.WriteFile(s.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		os.WriteFile(s.crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ecdsaKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var root = sum("some tree")

func sum(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

// usual is how the man page of systemd.image-policy(7) and mkosi sign.
var usual = []string{"-nocerts", "-noattr", "-binary"}

// sign signs with openssl(1).
func (s signer) sign(t testing.TB, content string, options ...string) []byte {
	t.Helper()
	gpttest.Tool(t, "openssl")
	d := t.TempDir()
	in, out := filepath.Join(d, "in"), filepath.Join(d, "out")
	if err := os.WriteFile(in, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"smime", "-sign", "-in", in, "-out", out, "-outform", "der", "-inkey", s.key, "-signer", s.crt}, options...)
	if b, err := exec.Command("openssl", argv...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %q: %v: %s", argv, err, b)
	}
	der, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func text(root []byte) string { return hex.EncodeToString(root) }

// TestVerify takes what openssl makes with the keys and digests that there are.
func TestVerify(t *testing.T) {
	rsa := newSigner(t, rsaKey(t), nil)
	p256 := newSigner(t, ecdsaKey(t, elliptic.P256()), nil)
	p384 := newSigner(t, ecdsaKey(t, elliptic.P384()), nil)
	code := newSigner(t, ecdsaKey(t, elliptic.P256()), func(c *x509.Certificate) {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	})
	future := newSigner(t, ecdsaKey(t, elliptic.P256()), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	trusted := []Certificate{p384.trusted, rsa.trusted, p256.trusted, code.trusted, future.trusted}
	for _, c := range []struct {
		name    string
		s       signer
		options []string
	}{
		{"rsa", rsa, usual},
		{"rsa sha384", rsa, append([]string{"-md", "sha384"}, usual...)},
		{"rsa sha512", rsa, append([]string{"-md", "sha512"}, usual...)},
		{"p256", p256, usual},
		{"p256 sha512", p256, append([]string{"-md", "sha512"}, usual...)},
		{"p384", p384, usual},
		{"with its certificate, as systemd-repart", p256, usual[1:]},
		{"for code", code, usual},
		{"not yet valid: the clock may be wrong", future, usual},
	} {
		got, err := Verify(c.s.sign(t, text(root), c.options...), root, trusted, time.Now())
		if err != nil || got.Path != c.s.crt {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// TestRefused shows what is refused, and with which words.
func TestRefused(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	good, other := newSigner(t, key, nil), newSigner(t, ecdsaKey(t, elliptic.P256()), nil)
	// The same name and serial number as good, but a key of its own.
	twin := newSigner(t, ecdsaKey(t, elliptic.P256()), func(c *x509.Certificate) { c.SerialNumber = good.trusted.SerialNumber })
	with := func(edit func(*x509.Certificate)) signer { return newSigner(t, ecdsaKey(t, elliptic.P256()), edit) }
	expired := with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	issuer := with(func(c *x509.Certificate) { c.KeyUsage, c.IsCA = x509.KeyUsageCertSign, true })
	server := with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	exotic := with(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99}} })
	pss := newSigner(t, rsaKey(t), nil)
	trusted := []Certificate{good.trusted, expired.trusted, issuer.trusted, server.trusted, exotic.trusted, pss.trusted}
	sig := good.sign(t, text(root), usual...)
	for _, c := range []struct {
		name  string
		der   []byte
		words string
	}{
		{"another root hash", good.sign(t, text(sum("another")), usual...), "not that of the root hash"},
		{"upper case", good.sign(t, strings.ToUpper(text(root)), usual...), "not that of the root hash"},
		{"with a newline", good.sign(t, text(root)+"\n", usual...), "not that of the root hash"},
		{"the bytes", good.sign(t, string(root), usual...), "not that of the root hash"},
		{"untrusted", other.sign(t, text(root), usual...), "none of those that are trusted"},
		{"untrusted, with its certificate", other.sign(t, text(root), usual[1:]...), "none of those that are trusted"},
		{"same name, other key", twin.sign(t, text(root), usual...), "not that of the root hash by the key of"},
		{"expired", expired.sign(t, text(root), usual...), "expired on "},
		{"for certificates", issuer.sign(t, text(root), usual...), "key usage lacks digitalSignature"},
		{"for servers", server.sign(t, text(root), usual...), "extended key usage lacks codeSigning"},
		{"for something else", exotic.sign(t, text(root), usual...), "extended key usage lacks codeSigning"},
		{"SHA-1", good.sign(t, text(root), append([]string{"-md", "sha1"}, usual...)...), "digest 1.3.14.3.2.26 is not good enough"},
		{"MD5", pss.sign(t, text(root), append([]string{"-md", "md5"}, usual...)...), "is not good enough"},
		{"attributes", good.sign(t, text(root), "-nocerts", "-binary"), "has attributes"},
		{"content", good.sign(t, text(root), append([]string{"-nodetach"}, usual...)...), "content of its own"},
		{"two signers", good.sign(t, text(root), append([]string{"-signer", other.crt, "-inkey", other.key}, usual...)...), "2 signers"},
		{"no signers", edited(t, sig, func(d *signedData) { d.Signers = nil }), "0 signers"},
		{"the same signer twice", edited(t, sig, func(d *signedData) { d.Signers = append(d.Signers, d.Signers[0]) }), "2 signers"},
		{"trailing byte", append(bytes.Clone(sig), 0), "1 bytes follow its end"},
		{"trailing newline", append(bytes.Clone(sig), '\n'), "1 bytes follow its end"},
		{"empty", nil, "no PKCS#7 in DER"},
		{"text", []byte("-----BEGIN PKCS7-----\n"), "no PKCS#7 in DER"},
		{"cut off", sig[:len(sig)-1], "no PKCS#7 in DER"},
		{"large", make([]byte, maxSignature+1), "more than 65536"},
		{"certificate", good.trusted.Raw, "no PKCS#7"},
		{"indefinite length", indefinite(sig), "no PKCS#7 in DER"},
		{"long form of a length", longForm(t, sig), "no PKCS#7"},
		{"version", edited(t, sig, func(d *signedData) { d.Version = 3 }), "version 3"},
		{"version of the signer", edited(t, sig, func(d *signedData) { d.Signers[0].Version = 3 }), "signer is of version 3"},
		{"digests", edited(t, sig, func(d *signedData) { d.Digests[0].Algorithm = oidSHA2(3) }), "other digests"},
		{"parameters", edited(t, sig, func(d *signedData) { d.Signers[0].Algorithm.Parameters = raw(t, 5) }), "has parameters"},
		{"RSA with ECDSA's key", edited(t, sig, func(d *signedData) { d.Signers[0].Algorithm.Algorithm = oidRSA(1) }), "not that of the root hash"},
		{"unknown algorithm", edited(t, sig, func(d *signedData) { d.Signers[0].Algorithm.Algorithm = oidECDSA(3) }), "goes with another digest"},
		{"unsigned attributes", edited(t, sig, func(d *signedData) {
			d.Signers[0].OtherAttributes = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: []byte{0x30, 0}}
		}), "has attributes"},
		{"an element more", more(t, sig), "elements that PKCS#7 does not"},
	} {
		got, err := Verify(c.der, root, trusted, time.Now())
		if err == nil || got != nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
	}
	if _, err := Verify(sig, root, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "no certificate is trusted") {
		t.Errorf("nothing trusted: %v", err)
	}
	// A certificate that was replaced by one of the same name may still lie beside it.
	if _, err := Verify(sig, root, []Certificate{twin.trusted, good.trusted}, time.Now()); err != nil {
		t.Errorf("second of one name: %v", err)
	}
}

func raw(t *testing.T, v any) asn1.RawValue {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: b}
}

func unpack(t *testing.T, der []byte) (contentInfo, signedData) {
	t.Helper()
	var outer contentInfo
	var data signedData
	_, err := asn1.Unmarshal(der, &outer)
	if err == nil {
		_, err = asn1.Unmarshal(outer.Content.Bytes, &data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return outer, data
}

func pack(t *testing.T, outer contentInfo, inner []byte) []byte {
	t.Helper()
	outer.Content.FullBytes, outer.Content.Bytes = nil, inner
	return raw(t, outer).FullBytes
}

// edited changes a signature and writes it again in DER.
func edited(t *testing.T, der []byte, edit func(*signedData)) []byte {
	t.Helper()
	outer, data := unpack(t, der)
	edit(&data)
	return pack(t, outer, raw(t, data).FullBytes)
}

// more adds an element to the end of the signed data, which encoding/asn1 lets through.
func more(t *testing.T, der []byte) []byte {
	t.Helper()
	outer, data := unpack(t, der)
	type longer struct {
		Version int
		Digests []pkix.AlgorithmIdentifier `asn1:"set"`
		Content contentInfo
		Signers []signerInfo `asn1:"set"`
		More    string
	}
	return pack(t, outer, raw(t, longer{data.Version, data.Digests, data.Content, data.Signers, "more"}).FullBytes)
}

// indefinite writes the outer length in the way that only BER has.
func indefinite(der []byte) []byte {
	header := 2 + int(der[1]&0x7f)*int(der[1]>>7)
	return slices.Concat([]byte{der[0], 0x80}, der[header:], []byte{0, 0})
}

// longForm writes the outer length with a zero in front.
func longForm(t *testing.T, der []byte) []byte {
	t.Helper()
	if der[1] < 0x80 {
		t.Fatalf("the signature has an unexpected length %#x", der[1])
	}
	return slices.Concat([]byte{der[0], der[1] + 1, 0}, der[2:])
}

// TestFlippedBit flips every bit of a signature, and of the root hash. In ECDSA's two numbers there is no slack either.
func TestFlippedBit(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"ecdsa": ecdsaKey(t, elliptic.P256()), "rsa": rsaKey(t)} {
		s := newSigner(t, key, nil)
		sig, trusted := s.sign(t, text(root), usual...), []Certificate{s.trusted}
		for _, b := range [][]byte{sig, root} {
			for bit := range len(b) * 8 {
				b[bit/8] ^= 1 << (bit % 8)
				if _, err := Verify(sig, root, trusted, time.Now()); err == nil {
					t.Errorf("%s: bit %d of byte %d: not seen", name, bit%8, bit/8)
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
		}
		if _, err := Verify(sig, root, trusted, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFlippedCertificate flips every bit of a trusted certificate. What is still taken has the same key, name and number,
// and is good for as long and for the same: what else was changed does not count, such as who has issued it.
func TestFlippedCertificate(t *testing.T) {
	s := newSigner(t, ecdsaKey(t, elliptic.P256()), nil)
	sig, der, now := s.sign(t, text(root), usual...), bytes.Clone(s.trusted.Raw), time.Now()
	taken := 0
	for bit := range len(der) * 8 {
		der[bit/8] ^= 1 << (bit % 8)
		c, err := x509.ParseCertificate(bytes.Clone(der))
		if err == nil {
			_, err = Verify(sig, root, []Certificate{{c, s.crt}}, now)
		}
		if err == nil {
			taken++
			same := bytes.Equal(c.RawSubjectPublicKeyInfo, s.trusted.RawSubjectPublicKeyInfo) && bytes.Equal(c.RawIssuer, s.trusted.RawIssuer) &&
				c.SerialNumber.Cmp(s.trusted.SerialNumber) == 0
			if !same || now.After(c.NotAfter) {
				t.Errorf("bit %d of byte %d: taken, and is another's", bit%8, bit/8)
			}
		}
		der[bit/8] ^= 1 << (bit % 8)
	}
	if taken == 0 || taken > len(der)*8/2 {
		t.Errorf("%d of %d are taken", taken, len(der)*8)
	}
}

func TestLoad(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("certificates must be root's")
	}
	d := t.TempDir()
	etc, run, usr := filepath.Join(d, "etc"), filepath.Join(d, "run"), filepath.Join(d, "usr")
	certificate := func() []byte {
		b, err := os.ReadFile(newSigner(t, ecdsaKey(t, elliptic.P256()), nil).crt)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	two := slices.Concat([]byte("Subject: CN = one\n"), certificate(), certificate())
	der, _ := pem.Decode(certificate())
	for path, b := range map[string][]byte{
		etc + "/one.crt": certificate(), usr + "/one.crt": certificate(), // the first one counts
		usr + "/two.crt": two, usr + "/hidden.crt": certificate(), etc + "/empty.crt": nil, usr + "/empty.crt": certificate(),
		etc + "/text.crt": []byte("hello\n"), usr + "/text.crt": certificate(), // a bad one hides, too
		usr + "/der.crt": der.Bytes, usr + "/other.pem": certificate(), usr + "/.dot.crt": certificate(),
		usr + "/large.crt":    append(certificate(), make([]byte, maxCertificate)...),
		usr + "/writable.crt": certificate(), usr + "/foreign.crt": certificate(),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.Symlink("/dev/null", etc+"/hidden.crt"), os.Symlink("/dev/zero", etc+"/zero.crt"), os.Symlink("nowhere", etc+"/gone.crt"),
		os.Mkdir(etc+"/dir.crt", 0o755), os.Symlink("two.crt", usr+"/link.crt"),
		os.Chmod(usr+"/writable.crt", 0o664), os.Chown(usr+"/foreign.crt", 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	trusted, why := Load([]string{etc, run, usr})
	var got []string
	for _, c := range trusted {
		got = append(got, strings.TrimPrefix(c.Path, d))
	}
	if want := []string{"/etc/one.crt", "/usr/link.crt", "/usr/two.crt"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	said := fmt.Sprint(why)
	for _, words := range []string{
		`/etc/text.crt": there is none in PEM`, `/etc/zero.crt" is not a regular file`, "/etc/gone.crt: no such file", `/etc/dir.crt" is not a regular`,
		`/usr/der.crt": it is in DER`, `/usr/large.crt": it has more than`, `/usr/writable.crt" is not root's alone`, `/usr/foreign.crt" is not root's alone`,
	} {
		if !strings.Contains(said, words) {
			t.Errorf("%q is not said in %s", words, said)
		}
	}
	if len(why) != 8 {
		t.Errorf("%d things said: %s", len(why), said)
	}
	if err := os.Chmod(etc, 0o777); err != nil {
		t.Fatal(err)
	}
	if trusted, why = Load([]string{etc}); len(trusted) != 0 || len(why) != 1 {
		t.Errorf("a directory that anyone can write to: %v, %v", trusted, why)
	}
}

func TestParseJSON(t *testing.T) {
	sig := base64.StdEncoding.EncodeToString([]byte("signature"))
	good := fmt.Sprintf(`{"rootHash":"%x","certificateFingerprint":"00","signature":"%s"}`, root, sig)
	for _, c := range []struct{ name, in, words string }{
		{"good", good, ""},
		{"padded", good + strings.Repeat("\x00", 4096-len(good)), ""},
		{"spaces", " \n" + good + "\n", ""},
		{"more names", strings.Replace(good, "{", `{"a":{"signature":[]},"b":null,`, 1), ""},
		{"empty", "", "no JSON object"},
		{"zeros", strings.Repeat("\x00", 100), "no JSON object"},
		{"list", "[" + good + "]", "no JSON object"},
		{"cut off", good[:len(good)-1], "no JSON"},
		{"cut off in a name", good[:8], "no JSON"},
		{"behind", good + "{}", "2 bytes follow its JSON object"},
		{"behind the zeros", good + "\x00\x00}", "bytes follow the zeros"},
		{"no root hash", `{"signature":"` + sig + `"}`, "lacks rootHash or signature"},
		{"no signature", `{"rootHash":"00"}`, "lacks rootHash or signature"},
		{"number", `{"rootHash":5,"signature":"` + sig + `"}`, "lacks rootHash or signature"},
		{"other case", strings.Replace(good, "rootHash", "RootHash", 1), "lacks rootHash or signature"},
		{"twice", strings.Replace(good, "{", `{"rootHash":"11",`, 1), `"rootHash" is there twice`},
		{"odd", `{"rootHash":"abc","signature":"` + sig + `"}`, "no hex"},
		{"no hex", `{"rootHash":"zz","signature":"` + sig + `"}`, "no hex"},
		{"no base64", strings.Replace(good, sig, "*", 1), "no base64"},
		{"deep", strings.Replace(good, "{", `{"a":`+strings.Repeat("[", 100000)+`,`, 1), "no JSON"},
		{"10 MiB", good + strings.Repeat(" ", 10<<20), "more than 4194304"},
	} {
		gotRoot, der, err := ParseJSON([]byte(c.in))
		switch {
		case c.words == "" && (err != nil || !bytes.Equal(gotRoot, root) || string(der) != "signature"):
			t.Errorf("%s: %x, %q, %v", c.name, gotRoot, der, err)
		case c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f, ecdsaKey(f, elliptic.P256()), nil)
	good := s.sign(f, text(root), usual...)
	f.Add(good)
	f.Add(s.sign(f, text(root), "-noattr", "-binary"))
	f.Add(s.sign(f, text(root)))
	f.Fuzz(func(t *testing.T, der []byte) {
		// With embedded certificates, which are not looked at, there are many good ones.
		if _, err := Verify(der, root, []Certificate{s.trusted}, time.Now()); err == nil {
			i, err := parse(der)
			if err != nil || s.trusted.CheckSignature(x509.ECDSAWithSHA256, []byte(text(root)), i.Signature) != nil {
				t.Errorf("taken, but: %v", err)
			}
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"rootHash":"00","signature":"AAAA"}` + "\x00"))
	f.Add([]byte(`{"a":[{}],"rootHash":"00","signature":"AAAA","b":null} `))
	f.Fuzz(func(t *testing.T, b []byte) {
		root, der, err := ParseJSON(b)
		if (err == nil) != (len(root) > 0 && len(der) > 0) {
			t.Errorf("%x, %x, %v", root, der, err)
		}
	})
}

func FuzzCertificate(f *testing.F) {
	for _, s := range []signer{newSigner(f, ecdsaKey(f, elliptic.P256()), nil), newSigner(f, rsaKey(f), nil)} {
		b, err := os.ReadFile(s.crt)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCertificate(b)
		if (c == nil) != (err != nil) {
			t.Errorf("%v, %v", c, err)
		}
	})
}
