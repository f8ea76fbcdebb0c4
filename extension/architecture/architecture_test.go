package architecture

import "testing"

func TestNative(t *testing.T) {
	for goarch, want := range map[string]string{
		"amd64": "x86-64", "386": "x86", "arm": "arm", "arm64": "arm64", "riscv64": "riscv64", "ppc64": "ppc64",
		"ppc64le": "ppc64-le", "s390x": "s390x", "loong64": "loongarch64", "mips": "mips", "mipsle": "mips-le",
		"mips64": "mips64", "mips64le": "mips64-le",
	} {
		got := native(goarch)
		if got != want || !Known(got) {
			t.Errorf("native(%q) = %q (known: %v), want %q", goarch, got, Known(got), want)
		}
	}
	if !Known(Native()) || !Known(Uname()) {
		t.Errorf("Native() = %q, Uname() = %q: both must be known words", Native(), Uname())
	}
}

func TestFromMachine(t *testing.T) {
	for machine, want := range map[string]string{
		"x86_64": "x86-64", "i686": "x86", "aarch64": "arm64", "aarch64_be": "arm64-be", "armv7l": "arm", "armv5tejb": "arm-be",
		"armv8l": "arm", "ppc64le": "ppc64-le", "ppcle": "ppc-le", "ppc": "ppc", "s390x": "s390x", "riscv64": "riscv64",
		"riscv": "riscv64", "sh4a": "sh", "sh5": "sh64", "loongarch64": "loongarch64", "mips": "mips", "arceb": "arc-be",
	} {
		if got := fromMachine(machine, false); got != want {
			t.Errorf("fromMachine(%q) = %q, want %q", machine, got, want)
		}
	}
	if got := fromMachine("mips64", true); got != "mips64-le" {
		t.Errorf("little-endian mips64 = %q", got)
	}
}

func TestSecondary(t *testing.T) {
	for of, want := range map[string]string{"x86-64": "x86", "arm64": "arm", "s390x": "s390", "riscv64": "", "": ""} {
		if got := Secondary(of); got != want {
			t.Errorf("Secondary(%q) = %q, want %q", of, got, want)
		}
	}
}
