package manager

import "testing"

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]int{`"252 (252.38-1~deb12u1)"`: 252, `"252.38-1"`: 252, `"262~rc1-1"`: 262, `"v255"`: 255, "249": 249} {
		if v, err := parseVersion(text); err != nil || v != want {
			t.Errorf("%s: %d, %v; want %d", text, v, err, want)
		}
	}
	for _, text := range []string{"", `""`, `"x252"`, `"~1"`} {
		if v, err := parseVersion(text); err == nil {
			t.Errorf("%s: %d, want an error", text, v)
		}
	}
}
