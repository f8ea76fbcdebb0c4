package main

import (
	"os"
	"strings"
	"testing"

	"github.com/extexec/extexec/service"
)

// TestExecStaysOffTheHost has a process that is where the caller is: a unit that
// is only being started is in the host's namespace like that.
func TestExecStaysOffTheHost(t *testing.T) {
	p, err := service.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := apart(p); err == nil || !strings.Contains(err.Error(), "is in the host's mount namespace") {
		t.Errorf("error %v, want a refusal", err)
	}
}
