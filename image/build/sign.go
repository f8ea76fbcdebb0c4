package build

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/extexec/extexec/image/signature"
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

// partition gives the content of a signature partition, zeros at its end.
func (s *Signer) partition(hash []byte) ([]byte, error) {
	text, err := signature.JSON(s.key, s.certificate, hash)
	if err != nil {
		return nil, fmt.Errorf("sign root hash: %w", err)
	}
	if len(text) > signatureSize {
		return nil, fmt.Errorf("the signature takes %d bytes, and there is room for %d: the certificate is too large", len(text), signatureSize)
	}
	return append(text, make([]byte, signatureSize-len(text))...), nil
}
