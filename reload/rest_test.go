package reload

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/extexec/extexec/service"
	"golang.org/x/sys/unix"
)

// TestReloadCommandMayStartADaemon: what ReloadCommand= starts and detaches stays,
// as after an ExecReload= line of systemd's; what a check or a verify starts does not.
func TestReloadCommandMayStartADaemon(t *testing.T) {
	b := newBed(t)
	line := func(setting string) string {
		return fmt.Sprintf(`%s=/bin/sh -c "setsid sleep 1000 >/dev/null 2>&1 & echo $! >%s/%s"`, setting, b.dir, setting)
	}
	b.write(line("ReloadCheck"), line("ReloadCommand"), line("ReloadVerify"))
	b.start()
	b.install("2")
	if _, err := b.reload(Options{}); err != nil {
		t.Fatal(err)
	}
	for setting, stays := range map[string]bool{"ReloadCheck": false, "ReloadCommand": true, "ReloadVerify": false} {
		text, err := os.ReadFile(b.dir + "/" + setting)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		p, err := service.Open(pid)
		if (err == nil) != stays {
			t.Errorf("what %s= started: %v, want it to be left: %v", setting, err, stays)
		}
		if err != nil {
			continue
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		p.Close()
	}
}
