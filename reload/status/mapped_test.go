package status

import "testing"

// FuzzMaps: what a process has mapped is under its own control, names included.
func FuzzMaps(f *testing.F) {
	f.Add([]byte("55d0-55d1 r-xp 00000000 00:2a 1234   /usr/bin/web\n"))
	f.Add([]byte("55d0-55d1 r-xp 00000000 fd:00 1234   /usr/bin/a b (deleted)\n7f00-7f01 rw-p 0 00:00 0\n"))
	f.Add([]byte("x x x 0:1 1 /memfd:x"))
	f.Fuzz(func(_ *testing.T, maps []byte) { mapsUnmounted(maps, map[string]bool{"0:42": true}) })
}
