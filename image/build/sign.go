package build

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/smallstep/pkcs7"
)

// Signer signs root hashes.
type Signer struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

// NewSigner takes a private key (RSA or ECDSA) and its certificate, both as PEM.
func NewSigner(key, certificate []byte) (*Signer, error) {
	c, err := parseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	k, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	if public, ok := k.Public().(interface{ Equal(x crypto.PublicKey) bool }); !ok || !public.Equal(c.PublicKey) {
		return nil, fmt.Errorf("the private key is not that of the certificate %q", c.Subject)
	}
	// Such a signature would be refused wherever these are looked at.
	if now := time.Now(); now.After(c.NotAfter) || now.Before(c.NotBefore) {
		return nil, fmt.Errorf("the certificate %q is valid from %s to %s only", c.Subject, c.NotBefore.Format(time.DateOnly),
			c.NotAfter.Format(time.DateOnly))
	}
	return &Signer{key: k, certificate: c}, nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it does not begin with a PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("it is %q, and must be an RSA or ECDSA key without a password", block.Type)
	}
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, errors.New("it is neither an RSA nor an ECDSA key, the ones that the kernel and systemd check")
}

// sign gives a detached PKCS#7 signature, in DER, of the root hash as text, as
// "openssl smime -sign -noattr -binary -outform der" makes it: the certificate is in it, as in those of
// systemd-repart. Nobody trusts it for that.
func (s *Signer) sign(hash []byte) ([]byte, error) {
	sd, err := pkcs7.NewSignedData([]byte(hex.EncodeToString(hash)))
	if err != nil {
		return nil, err
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if _, ok := s.key.(*rsa.PrivateKey); ok {
		// As OpenSSL has it, and the only one that the kernel knows for RSA (crypto/asymmetric_keys/pkcs7_parser.c).
		sd.SetEncryptionAlgorithm(pkcs7.OIDEncryptionAlgorithmRSA)
	}
	if err := sd.SignWithoutAttr(s.certificate, repeatable{s.key}, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	sd.Detach()
	return sd.Finish()
}

// repeatable gives the same signature for the same digest: without a source of randomness ECDSA does as RFC 6979 says
// (Go 1.24), and RSA needs none for PKCS #1 v1.5.
type repeatable struct{ crypto.Signer }

func (r repeatable) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return r.Signer.Sign(nil, digest, o)
}

// partition gives the content of a signature partition (UAPI.2, Discoverable Partitions Specification).
func (s *Signer) partition(hash []byte) ([]byte, error) {
	der, err := s.sign(hash)
	if err != nil {
		return nil, fmt.Errorf("sign root hash: %w", err)
	}
	fingerprint := sha256.Sum256(s.certificate.Raw)
	text, err := json.Marshal(struct {
		RootHash               string `json:"rootHash"`
		CertificateFingerprint string `json:"certificateFingerprint"`
		Signature              []byte `json:"signature"` // base64
	}{hex.EncodeToString(hash), hex.EncodeToString(fingerprint[:]), der})
	if err != nil {
		return nil, err
	}
	if len(text) > signatureSize {
		return nil, fmt.Errorf("the signature takes %d bytes, and there is room for %d: the certificate is too large", len(text), signatureSize)
	}
	return append(text, make([]byte, signatureSize-len(text))...), nil
}
