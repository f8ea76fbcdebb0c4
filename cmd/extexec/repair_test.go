package main

import (
	"os"
	"strings"
	"testing"

	"github.com/extexec/extexec/reload/state"
)

// A name that nothing has is named, and makes the exit code 1; a record whose service
// has ended is nothing to repair. Looking only: the machine may have services.
func TestRepair(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("EXTEXEC_REQUIRE_RIG") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	save(t, dir, "gone.service", &state.Record{MountNS: 1})
	for _, c := range []struct {
		args      []string
		code      int
		out, want string
	}{
		{[]string{"gone"}, exitOK, "Nothing to repair.\n", ""},
		{[]string{"nobody"}, exitFailed, "", `find "nobody": it has no record`},
		{[]string{"--json", "gone"}, exitOK, "{\n  \"schema\": 1,\n  \"services\": []\n}\n", ""},
	} {
		code, out, errOut := call(append([]string{"repair", "--dry-run", "--state-dir", dir}, c.args...)...)
		if code != c.code || out != c.out || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: code %d, output %q, error %q", c.args, code, out, errOut)
		}
	}
}
