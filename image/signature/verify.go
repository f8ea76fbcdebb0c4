package signature

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Certificate is one that is trusted.
type Certificate struct {
	*x509.Certificate
	Path string // the file that it is in
}

// digests are those that are good enough, with the algorithms that they are part of.
var digests = []struct {
	digest, rsa, ecdsa asn1.ObjectIdentifier
	withRSA, withECDSA x509.SignatureAlgorithm
}{
	{oidSHA2(1), oidRSA(11), oidECDSA(2), x509.SHA256WithRSA, x509.ECDSAWithSHA256},
	{oidSHA2(2), oidRSA(12), oidECDSA(3), x509.SHA384WithRSA, x509.ECDSAWithSHA384},
	{oidSHA2(3), oidRSA(13), oidECDSA(4), x509.SHA512WithRSA, x509.ECDSAWithSHA512},
}

func oidSHA2(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, n}
}
func oidRSA(n int) asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, n} }
func oidECDSA(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, n} }

// Verify checks that der signs a root hash with the key of one of the trusted certificates, and says which.
func Verify(der, root []byte, trusted []Certificate, now time.Time) (*Certificate, error) {
	s, err := parse(der)
	if err != nil {
		return nil, err
	}
	algorithm, err := s.algorithm()
	if err != nil {
		return nil, err
	}
	err = s.unknown(trusted)
	for _, c := range trusted {
		if !bytes.Equal(c.RawIssuer, s.Issuer.Name.FullBytes) || c.SerialNumber.Cmp(s.Issuer.Serial) != 0 {
			continue
		}
		if err = s.check(c, algorithm, root, now); err == nil {
			return &c, nil
		}
	}
	return nil, err
}

// algorithm says what the signature was made with.
func (s *signerInfo) algorithm() (x509.SignatureAlgorithm, error) {
	if !plain(s.Digest) || !plain(s.Algorithm) {
		return 0, fmt.Errorf("its algorithm %s has parameters, as RSASSA-PSS has, which is not supported", s.Algorithm.Algorithm)
	}
	for _, d := range digests {
		if !d.digest.Equal(s.Digest.Algorithm) {
			continue
		}
		switch a := s.Algorithm.Algorithm; {
		case a.Equal(oidRSA(1)), a.Equal(d.rsa):
			return d.withRSA, nil
		case a.Equal(d.ecdsa):
			return d.withECDSA, nil
		}
		return 0, fmt.Errorf("its algorithm %s is not supported, or goes with another digest: use RSA or ECDSA", s.Algorithm.Algorithm)
	}
	return 0, fmt.Errorf("its digest %s is not good enough: use SHA-256, SHA-384 or SHA-512", s.Digest.Algorithm)
}

// check checks the signature with a certificate that says that it is the signer's.
func (s *signerInfo) check(c Certificate, algorithm x509.SignatureAlgorithm, root []byte, now time.Time) error {
	if err := c.CheckSignature(algorithm, []byte(hex.EncodeToString(root)), s.Signature); err != nil {
		return fmt.Errorf("it is not that of the root hash by the key of %q: it or the root hash was changed: %w", c.Path, err)
	}
	// The beginning of its time does not matter: early in the boot the clock may be wrong, and lag behind.
	if now.After(c.NotAfter) {
		return fmt.Errorf("its certificate %q expired on %s", c.Path, c.NotAfter.UTC().Format(time.DateOnly))
	}
	return purpose(c)
}

// purpose refuses a certificate that says what it is for, and does not name signing. Most say nothing.
func purpose(c Certificate) error {
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fmt.Errorf("its certificate %q is not for signatures: its key usage lacks digitalSignature", c.Path)
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return nil
	}
	// openssl smime makes signatures of mail, after its name.
	for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection} {
		if slices.Contains(c.ExtKeyUsage, u) {
			return nil
		}
	}
	return fmt.Errorf("its certificate %q is not for code: its extended key usage lacks codeSigning", c.Path)
}

// unknown says that none of the certificates is the signer's.
func (s *signerInfo) unknown(trusted []Certificate) error {
	if len(trusted) == 0 {
		return errors.New("no certificate is trusted: put the signer's, in PEM, into /etc/verity.d as NAME.crt")
	}
	var paths []string
	for _, c := range trusted[:min(len(trusted), 8)] {
		paths = append(paths, c.Path)
	}
	if len(trusted) > 8 {
		paths = append(paths, fmt.Sprintf("%d more", len(trusted)-8))
	}
	return fmt.Errorf("its signer, serial number %x, is none of those that are trusted (%s): put its certificate, in PEM, into "+
		"/etc/verity.d as NAME.crt", s.Issuer.Serial, strings.Join(paths, ", "))
}
