package manager

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Version is the version of the systemd that answers: 257 of "257.9-1".
func (m *Manager) Version(_ context.Context) (int, error) {
	// The library has no form of this call that takes a context.
	text, err := m.conn.GetManagerProperty("Version")
	if err != nil {
		return 0, fmt.Errorf("ask systemd for its version: %w", plain(err))
	}
	v, err := parseVersion(text)
	if err != nil {
		return 0, fmt.Errorf("ask systemd for its version: %w", err)
	}
	return v, nil
}

// parseVersion reads what the property says, which comes with quotes: "262~rc1",
// "v252.3".
func parseVersion(text string) (int, error) {
	digits := strings.TrimLeft(text, `"v`)
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		digits = digits[:end]
	}
	v, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("%q is no version", text)
	}
	return v, nil
}
