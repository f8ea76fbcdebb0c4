package architecture

import (
	"encoding/binary"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var words = []string{
	"alpha", "arc", "arc-be", "arm", "arm-be", "arm64", "arm64-be", "cris", "ia64", "loongarch64", "m68k", "mips", "mips-le",
	"mips64", "mips64-le", "nios2", "parisc", "parisc64", "ppc", "ppc-le", "ppc64", "ppc64-le", "riscv32", "riscv64", "s390",
	"s390x", "sh", "sh64", "sparc", "sparc64", "tilegx", "x86", "x86-64",
}

// Known says whether word names an architecture.
func Known(word string) bool { return slices.Contains(words, word) }

// Native is the architecture that this program was built for, which is what
// systemd picks versions by.
func Native() string { return native(runtime.GOARCH) }

func native(goarch string) string {
	switch goarch {
	case "amd64":
		return "x86-64"
	case "386":
		return "x86"
	case "loong64":
		return "loongarch64"
	case "ppc64le", "mipsle", "mips64le":
		return strings.TrimSuffix(goarch, "le") + "-le"
	}
	return goarch // arm, arm64, mips, mips64, ppc64, riscv64, s390x
}

// Secondary is the 32 bit architecture whose programs run on the given one, as
// systemd has it; "" where there is none.
func Secondary(of string) string {
	switch of {
	case "x86-64":
		return "x86"
	case "arm64":
		return "arm"
	case "ppc64":
		return "ppc"
	case "ppc64-le":
		return "ppc-le"
	case "s390x":
		return "s390"
	}
	return ""
}

// Uname is the architecture of the running kernel as this thread sees it
// (personality(2) changes it), which is what systemd matches ARCHITECTURE= with.
func Uname() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Native() // uname(2) fails on a bad pointer only.
	}
	word := fromMachine(unix.ByteSliceToString(u.Machine[:]), littleEndian())
	if !Known(word) {
		return Native()
	}
	return word
}

// fromMachine maps the machine field of uname(2).
func fromMachine(machine string, little bool) string {
	switch machine {
	case "x86_64":
		return "x86-64"
	case "i386", "i486", "i586", "i686":
		return "x86"
	case "aarch64":
		return "arm64"
	case "aarch64_be":
		return "arm64-be"
	case "ppcle", "ppc64le":
		return strings.TrimSuffix(machine, "le") + "-le"
	case "riscv":
		return "riscv64"
	case "arceb":
		return "arc-be"
	case "crisv32":
		return "cris"
	case "sh5":
		return "sh64"
	case "mips", "mips64":
		// The kernel has one word for both byte orders.
		if little {
			return machine + "-le"
		}
		return machine
	}
	switch {
	case strings.HasPrefix(machine, "armv") && strings.HasSuffix(machine, "b"):
		return "arm-be"
	case strings.HasPrefix(machine, "armv"):
		return "arm"
	case strings.HasPrefix(machine, "sh") && len(machine) <= len("sh4a"):
		return "sh"
	}
	return machine // s390x, riscv64, loongarch64 and others are the same word.
}

func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }
