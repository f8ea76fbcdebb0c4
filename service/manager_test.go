package service

import "testing"

func TestLibraryVersion(t *testing.T) {
	const mapping = "7f1c2000-7f1c3000 r--p 00000000 fe:00 1234    "
	for text, want := range map[string]int{
		mapping + "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so\n":                                                             252,
		mapping + "/usr/lib/systemd/libsystemd-core-1.so\n" + mapping + "/usr/lib/systemd/libsystemd-shared-257.13-1~deb13u1.so (deleted)\n": 257,
		mapping + "/usr/lib/systemd/systemd\n":                                   0,
		mapping + "/usr/lib/systemd/libsystemd-shared-git.so\n":                  0,
		mapping + "/usr/lib/systemd/libsystemd-shared-99999999999999999999.so\n": 0,
		"": 0,
	} {
		if got, ok := libraryVersion([]byte(text)); got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %t, want %d", text, got, ok, want)
		}
	}
}
