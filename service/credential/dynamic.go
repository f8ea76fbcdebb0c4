package credential

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// DynamicUserName is the name that systemd gives the dynamic user of a unit
// without User= (user_from_unit_name): the unit's name up to its "@" or type,
// or, where that is no user name, a hash of it.
func DynamicUserName(unit string) string {
	prefix := unit
	if i := strings.LastIndexByte(unit, '.'); i >= 0 {
		prefix = unit[:i]
	}
	prefix, _, _ = strings.Cut(prefix, "@")
	if validUserName(prefix) {
		return prefix
	}
	return fmt.Sprintf("_du%016x", siphash24(dynamicUserKey, []byte(prefix)))
}

// validUserName is systemd's strict rule, of which it wants a name of its own
// making to be (USER_NAMES in systemd.io).
func validUserName(s string) bool {
	if s == "" || len(s) > 31 {
		return false
	}
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		inner := c >= '0' && c <= '9' || c == '-'
		if !letter && (i == 0 || !inner) {
			return false
		}
	}
	return true
}

// dynamicUserKey is the key that systemd hashes with, as two little-endian words.
var dynamicUserKey = [2]uint64{
	binary.LittleEndian.Uint64([]byte{0x58, 0x1a, 0xaf, 0xe6, 0x28, 0x58, 0x4e, 0x96}),
	binary.LittleEndian.Uint64([]byte{0xb4, 0x4e, 0xf5, 0x3b, 0x8c, 0x92, 0x07, 0xec}),
}

// siphash24 is SipHash-2-4 (Aumasson, Bernstein 2012) of data.
func siphash24(key [2]uint64, data []byte) uint64 {
	v := [4]uint64{
		key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573,
	}
	last := uint64(len(data)) << 56
	for len(data) >= 8 {
		word := binary.LittleEndian.Uint64(data)
		v[3] ^= word
		sipRound(&v)
		sipRound(&v)
		v[0] ^= word
		data = data[8:]
	}
	for i, c := range data {
		last |= uint64(c) << (8 * i)
	}
	v[3] ^= last
	sipRound(&v)
	sipRound(&v)
	v[0] ^= last
	v[2] ^= 0xff
	for range 4 {
		sipRound(&v)
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

func sipRound(v *[4]uint64) {
	v[0] += v[1]
	v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
	v[0] = bits.RotateLeft64(v[0], 32)
	v[2] += v[3]
	v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
	v[0] += v[3]
	v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
	v[2] += v[1]
	v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
	v[2] = bits.RotateLeft64(v[2], 32)
}
