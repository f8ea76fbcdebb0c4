package manager

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Version is the version of the systemd that answers: 257 of "257.9-1".
func (m *Manager) Version(ctx context.Context) (int, error) {
	type answer struct {
		text string
		err  error
	}
	// The library has no form of this call that takes a context; what is left
	// waiting ends with the connection.
	answers := make(chan answer, 1)
	go func() {
		text, err := m.conn.GetManagerProperty("Version")
		answers <- answer{text, err}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	v := 0
	if a.err == nil {
		v, a.err = parseVersion(a.text)
	}
	if a.err != nil {
		return 0, fmt.Errorf("ask systemd for its version: %w", plain(ctx, a.err))
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
