package settings

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// dynamicUserName is the user that DynamicUser= makes where User= is not set:
// the unit's name without instance and type, or, where that is no user name, a
// hash of it (systemd's user_from_unit_name).
func dynamicUserName(prefix string) string {
	if strictUserName(prefix) {
		return prefix
	}
	key := [16]byte{
		0x58, 0x1a, 0xaf, 0xe6, 0x28, 0x58, 0x4e, 0x96,
		0xb4, 0x4e, 0xf5, 0x3b, 0x8c, 0x92, 0x07, 0xec,
	}
	return fmt.Sprintf("_du%016x", sipHash24(key, []byte(prefix)))
}

// strictUserName is valid_user_group_name without its flags: at most 31
// characters (what fits into utmp), letters, digits, "_" and "-", no digit or
// dash first.
func strictUserName(s string) bool {
	if s == "" || len(s) > 31 {
		return false
	}
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

// sipHash24 is SipHash-2-4 (Aumasson, Bernstein 2012), the hash that systemd
// derives such names with.
func sipHash24(key [16]byte, data []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	v := [4]uint64{
		k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573,
	}
	round := func() {
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
	mix := func(m uint64) {
		v[3] ^= m
		round()
		round()
		v[0] ^= m
	}
	length := uint64(len(data))
	for ; len(data) >= 8; data = data[8:] {
		mix(binary.LittleEndian.Uint64(data))
	}
	var last [8]byte
	copy(last[:], data)
	mix(binary.LittleEndian.Uint64(last[:]) | length<<56)
	v[2] ^= 0xff
	for range 4 {
		round()
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}
