package signature

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// maxSignature bounds a signature, in bytes. With an RSA key of 16384 bits and its certificate it has 7000.
const maxSignature = 64 << 10

// The structures of RFC 2315, as far as they are taken.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      contentInfo
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version         int
	Issuer          issuerAndSerial
	Digest          pkix.AlgorithmIdentifier
	Attributes      asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm       pkix.AlgorithmIdentifier
	Signature       []byte
	OtherAttributes asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Name   asn1.RawValue
	Serial *big.Int
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// parse reads a signature. It is taken only if writing it again gives the same bytes: so it is DER, has no elements
// that are not known, and nothing behind its end.
func parse(der []byte) (*signerInfo, error) {
	if len(der) > maxSignature {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(der), maxSignature)
	}
	var outer contentInfo
	rest, err := asn1.Unmarshal(der, &outer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no PKCS#7 in DER: %w", err)
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes follow its end", len(rest))
	case !outer.Type.Equal(oidSignedData):
		return nil, fmt.Errorf("it is PKCS#7 of type %s, not signed data", outer.Type)
	}
	var data signedData
	if rest, err = asn1.Unmarshal(outer.Content.Bytes, &data); err != nil {
		return nil, fmt.Errorf("it is no PKCS#7 signed data in DER: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow its signed data", len(rest))
	}
	inner, err := asn1.Marshal(data)
	if err != nil {
		return nil, err
	}
	outer.Content.FullBytes = nil
	outer.Content.Bytes = inner
	again, err := asn1.Marshal(outer)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, der) {
		return nil, errors.New("it has elements that PKCS#7 does not, or is not in DER")
	}
	return data.signer()
}

// signer gives the only signer, after it has seen that nothing else is in there that could matter.
func (d *signedData) signer() (*signerInfo, error) {
	if d.Version != 1 {
		return nil, fmt.Errorf("it is PKCS#7 of version %d, not 1", d.Version)
	}
	if !d.Content.Type.Equal(oidData) || len(d.Content.Content.FullBytes) > 0 {
		return nil, errors.New("it has content of its own: sign detached")
	}
	if len(d.Signers) != 1 {
		return nil, fmt.Errorf("it has %d signers, not one", len(d.Signers))
	}
	s := &d.Signers[0]
	switch {
	case s.Version != 1:
		return nil, fmt.Errorf("its signer is of version %d, not 1", s.Version)
	case len(s.Attributes.FullBytes) > 0 || len(s.OtherAttributes.FullBytes) > 0:
		return nil, errors.New("it has attributes: sign with openssl smime -noattr")
	case len(d.Digests) != 1 || !d.Digests[0].Algorithm.Equal(s.Digest.Algorithm) || !plain(d.Digests[0]):
		return nil, errors.New("it has other digests than that of its signer")
	}
	return s, nil
}

// plain says whether an algorithm has no parameters, or NULL, which means the same.
func plain(a pkix.AlgorithmIdentifier) bool {
	p := a.Parameters.FullBytes
	return len(p) == 0 || bytes.Equal(p, asn1.NullBytes)
}
