package main

import (
	"context"

	"github.com/extexec/extexec/units/manager"
)

// A bus asks systemd, and connects when it is asked: most calls never need it, and
// the bus may not be there.
type bus struct{}

// MainPID makes it a service.MainPIDer.
func (bus) MainPID(ctx context.Context, unit string) (int, error) {
	m, err := manager.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.MainPID(ctx, unit)
}
