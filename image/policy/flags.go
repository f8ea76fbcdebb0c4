package policy

import "strings"

// Flags is what a policy says about one partition: the ways in which it may be there (the use flags), the states
// that its GPT attributes may have, and the file systems that it may hold.
type Flags uint32

// The use flags. A partition may be there in any one of the ways whose flag is set.
const (
	Verity                 Flags = 1 << iota // used, with dm-verity
	Signed                                   // used, with dm-verity and a signature of the root hash
	Encrypted                                // used, with LUKS
	EncryptedWithIntegrity                   // used, with LUKS and dm-integrity
	Unprotected                              // used, with neither
	Unused                                   // there, and not used
	Absent                                   // not there
)

// The states of the GPT attributes "read-only" and "growfs" that are allowed. Neither of a pair means both.
const (
	ReadOnlyOff Flags = 1 << (iota + 7)
	ReadOnlyOn
	GrowFSOff
	GrowFSOn
)

// The file systems. None means any.
const (
	Btrfs Flags = 1 << (iota + 11)
	Erofs
	Ext4
	F2FS
	Squashfs
	Vfat
	Xfs
)

// Shortcuts and masks.
const (
	Open   = Verity | Signed | Encrypted | EncryptedWithIntegrity | Unprotected | Unused | Absent
	Ignore = Unused | Absent

	UseMask      = Open
	ReadOnlyMask = ReadOnlyOff | ReadOnlyOn
	GrowFSMask   = GrowFSOff | GrowFSOn
	FSTypeMask   = Btrfs | Erofs | Ext4 | F2FS | Squashfs | Vfat | Xfs

	attrMask = ReadOnlyMask | GrowFSMask
)

// flagNames is in the order in which systemd prints them.
var flagNames = []struct {
	name string
	flag Flags
}{
	{"verity", Verity},
	{"signed", Signed},
	{"encrypted", Encrypted},
	{"encryptedwithintegrity", EncryptedWithIntegrity},
	{"unprotected", Unprotected},
	{"unused", Unused},
	{"absent", Absent},
	{"read-only-on", ReadOnlyOn},
	{"read-only-off", ReadOnlyOff},
	{"growfs-off", GrowFSOff},
	{"growfs-on", GrowFSOn},
	{"btrfs", Btrfs},
	{"erofs", Erofs},
	{"ext4", Ext4},
	{"f2fs", F2FS},
	{"squashfs", Squashfs},
	{"vfat", Vfat},
	{"xfs", Xfs},
}

func flagNamed(s string) (Flags, bool) {
	switch s {
	case "open":
		return Open, true
	case "ignore":
		return Ignore, true
	}
	for _, n := range flagNames {
		if n.name == s {
			return n.flag, true
		}
	}
	return 0, false
}

// String gives the flags as a policy string would have them, in the shortest form: the shortcuts "open" and
// "ignore", and no attribute flag where both states are allowed.
func (f Flags) String() string {
	var words []string
	rest := f
	for _, m := range []Flags{ReadOnlyMask, GrowFSMask} {
		if rest&m == m {
			rest &^= m
		}
	}
	switch f & UseMask {
	case Open:
		words, rest = append(words, "open"), rest&^UseMask
	case Ignore:
		words, rest = append(words, "ignore"), rest&^UseMask
	}
	for _, n := range flagNames {
		if rest&n.flag != 0 {
			words = append(words, n.name)
		}
	}
	if words == nil {
		return "-"
	}
	return strings.Join(words, "+")
}

// extend fills in what is left open: no use flag means all of them, and so for each attribute.
func (f Flags) extend() Flags {
	for _, m := range []Flags{UseMask, ReadOnlyMask, GrowFSMask} {
		if f&m == 0 {
			f |= m
		}
	}
	return f
}

// FSTypes gives the names of the file systems among the flags.
func (f Flags) FSTypes() []string {
	var names []string
	for _, n := range flagNames {
		if f&n.flag&FSTypeMask != 0 {
			names = append(names, n.name)
		}
	}
	return names
}
