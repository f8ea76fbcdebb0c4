package signature

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
)

// Sign gives a detached signature, in DER, of a root hash: what "openssl smime -sign -noattr -binary -outform der" and
// systemd-repart write, byte for byte. The key is an RSA or ECDSA key, that of the certificate, which is in the
// signature as in theirs; nobody trusts it for that.
func Sign(key crypto.Signer, certificate *x509.Certificate, root []byte) ([]byte, error) {
	digest := sha256.Sum256([]byte(hex.EncodeToString(root)))
	// Without a source of randomness ECDSA does as RFC 6979 says (Go 1.24), and RSA needs none for PKCS #1 v1.5: the
	// same signature each time.
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	how := pkix.AlgorithmIdentifier{Algorithm: digests[0].ecdsa}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		how = pkix.AlgorithmIdentifier{Algorithm: oidRSA(1), Parameters: asn1.NullRawValue}
	}
	hashed := pkix.AlgorithmIdentifier{Algorithm: digests[0].digest, Parameters: asn1.NullRawValue}
	inner, err := asn1.Marshal(signedData{
		Version:      1,
		Digests:      []pkix.AlgorithmIdentifier{hashed},
		Content:      contentInfo{Type: oidData},
		Certificates: contextual(certificate.Raw),
		Signers: []signerInfo{{
			Version:   1,
			Issuer:    issuerAndSerial{Name: asn1.RawValue{FullBytes: certificate.RawIssuer}, Serial: certificate.SerialNumber},
			Digest:    hashed,
			Algorithm: how,
			Signature: signature,
		}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{Type: oidSignedData, Content: contextual(inner)})
}

// contextual is what stands under the tag 0.
func contextual(b []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: b}
}

// JSON signs a root hash, and gives the text that a signature partition begins with (UAPI.2, Discoverable Partitions
// Specification).
func JSON(key crypto.Signer, certificate *x509.Certificate, root []byte) ([]byte, error) {
	der, err := Sign(key, certificate, root)
	if err != nil {
		return nil, err
	}
	fingerprint := sha256.Sum256(certificate.Raw)
	return json.Marshal(struct {
		RootHash               string `json:"rootHash"`
		CertificateFingerprint string `json:"certificateFingerprint"`
		Signature              []byte `json:"signature"` // base64
	}{hex.EncodeToString(root), hex.EncodeToString(fingerprint[:]), der})
}
