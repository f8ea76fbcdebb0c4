package gpt

import (
	"encoding/binary"
	"fmt"
)

// UUID is a GUID as it is stored in a table: the first three fields in little endian.
type UUID [16]byte

// String gives the usual form, in lower case.
func (u UUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(u[0:]), binary.LittleEndian.Uint16(u[4:]),
		binary.LittleEndian.Uint16(u[6:]), u[8:10], u[10:16])
}

// Kind is what a partition type stands for.
type Kind struct {
	// Designator is the name that systemd gives to it, whatever the architecture: "root", "usr-verity-sig", "esp";
	// "linux-generic" for the type that says nothing, and "" for a type that is not known.
	Designator string
	// Arch is systemd's name of the architecture, "" for the types that belong to none.
	Arch string
}

// perArch is the order of the types in linuxTypes.
var perArch = [...]string{"root", "root-verity", "root-verity-sig", "usr", "usr-verity", "usr-verity-sig"}

var plainTypes = map[string]string{
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "esp",
	"bc13c2ff-59e6-4262-a352-b275fd6f7172": "xbootldr",
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "swap",
	"933ac7e1-2eb4-4f13-b844-0e14e2aef915": "home",
	"3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "srv",
	"4d21b016-b534-45c2-a9fb-5c16e091fd2d": "var",
	"7ec6f557-3bc5-4aca-b293-16ef5df639d1": "tmp",
	"0fc63daf-8483-4772-8e79-3d69d8477de4": "linux-generic",
}

// KindOf finds out what a partition type stands for.
func KindOf(u UUID) Kind {
	s := u.String()
	if d, ok := plainTypes[s]; ok {
		return Kind{Designator: d}
	}
	for _, a := range linuxTypes {
		for i, t := range a.types {
			if t == s {
				return Kind{Designator: perArch[i], Arch: a.arch}
			}
		}
	}
	return Kind{}
}
