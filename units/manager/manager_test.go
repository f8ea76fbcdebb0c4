package manager_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/extexec/extexec/units/manager"
)

func TestConnectNowhere(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
	if _, err := os.Stat("/run/systemd/private"); err == nil {
		t.Log("systemd runs here: it answers without a bus")
		return
	}
	if m, err := manager.Connect(t.Context()); !errors.Is(err, manager.ErrNoManager) {
		t.Errorf("connected to %v, %v", m, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	told := errors.New("told to end")
	cancel(told)
	if m, err := manager.Connect(ctx); !errors.Is(err, told) {
		t.Errorf("connected to %v, %v; want %v", m, err, told)
	}
}
