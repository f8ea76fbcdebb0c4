package build

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
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

// sign gives a detached PKCS#7 signature, in DER, of the root hash as text: what
// "openssl smime -sign -noattr -binary -outform der" and systemd-repart write, byte for byte. The certificate is in it
// as in theirs; nobody trusts it for that.
func (s *Signer) sign(hash []byte) ([]byte, error) {
	digest := sha256.Sum256([]byte(hex.EncodeToString(hash)))
	// Without a source of randomness ECDSA does as RFC 6979 says (Go 1.24), and RSA needs none for PKCS #1 v1.5: the
	// same signature each time.
	signature, err := s.key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	how := pkix.AlgorithmIdentifier{Algorithm: oidECDSAWithSHA256}
	if _, ok := s.key.(*rsa.PrivateKey); ok {
		how = pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}
	}
	hashed := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	signed := signedData{Version: 1, Digests: []pkix.AlgorithmIdentifier{hashed}}
	signed.Content.Type = oidData
	signed.Certificates = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: s.certificate.Raw}
	signed.Signers = []signerInfo{{Version: 1, Digest: hashed, How: how, Signature: signature}}
	signed.Signers[0].Signer.Issuer.FullBytes = s.certificate.RawIssuer
	signed.Signers[0].Signer.Serial = s.certificate.SerialNumber
	return asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content signedData `asn1:"explicit,tag:0"`
	}{oidSignedData, signed})
}

// Object identifiers of RFC 2315 (PKCS #7), 8017 (PKCS #1), 5754 (SHA-2) and 5758 (ECDSA).
var (
	oidData            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidRSA             = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// signedData is SignedData of RFC 2315, 9.1, without what is not needed.
type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      struct{ Type asn1.ObjectIdentifier }
	Certificates asn1.RawValue
	Signers      []signerInfo `asn1:"set"`
}

// signerInfo is SignerInfo of RFC 2315, 9.2.
type signerInfo struct {
	Version int
	Signer  struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	Digest, How pkix.AlgorithmIdentifier
	Signature   []byte
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
