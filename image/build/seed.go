package build

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/extexec/extexec/image/gpt"
)

// Seed is a UUID, in the order of its text form, that others are derived from, as systemd-repart does.
type Seed [16]byte

// SeedOf derives a seed from what tells one image from another.
func SeedOf(parts ...string) Seed {
	h := sha256.New()
	for _, p := range parts {
		// The length before it, so that no two lists are written alike.
		_ = binary.Write(h, binary.LittleEndian, uint64(len(p)))
		h.Write([]byte(p))
	}
	return Seed(v4(h.Sum(nil)))
}

// ParseSeed reads a UUID.
func ParseSeed(s string) (Seed, error) {
	u, err := gpt.ParseUUID(s)
	return Seed(u.Bytes()), err
}

// String gives the text form.
func (s Seed) String() string { return gpt.FromBytes(s).String() }

func (s Seed) hmac(message []byte) []byte {
	h := hmac.New(sha256.New, s[:])
	h.Write(message)
	return h.Sum(nil)
}

// uuid derives a UUID for a purpose.
func (s Seed) uuid(token string) [16]byte { return v4(s.hmac([]byte(token))) }

// partition derives the UUID of a partition.
func (s Seed) partition(kind gpt.UUID) [16]byte {
	t := kind.Bytes()
	return v4(s.hmac(t[:]))
}

// v4 makes a random UUID of random bytes: RFC 9562, 5.4.
func v4(b []byte) [16]byte {
	u := [16]byte(b[:16])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
