package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
	"github.com/extexec/extexec/reload/status"
)

// TestNamespacesUnit: a service has children in mount namespaces of their own, a plain copy and one that belongs
// to a user namespace. With Namespaces=unit a reload is for all three of them; without it, status names those
// that it is not for.
func TestNamespacesUnit(t *testing.T) {
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, setting := range []string{"unit", "main"} {
			t.Run(setting, func(t *testing.T) {
				c := c.For(t)
				a := newAdoptee(t, c, "elsewhere-"+setting)
				file := "/etc/elsewhere-" + setting
				ship := func(version int) {
					a.ship(fmt.Sprintf("conf.v/conf_%d", version), files{file: fmt.Sprintf("%d\n", version)})
				}
				ship(1)
				run := "/run/" + strings.TrimSuffix(a.unit, ".service")
				child := func(how, socket string) string {
					return fmt.Sprintf("unshare %s --propagation private testservice -pause 200us -control %s/%s -read %s & ", how, run, socket, file)
				}
				c.WriteUnit(a.unit, strings.ReplaceAll(`[Service]
Type=notify
NotifyAccess=all
RuntimeDirectory=`+strings.TrimPrefix(run, "/run/")+`
ExecStart=!/usr/bin/extexec run -- /bin/sh -c "`+child("-m", "copy")+child("-m -U -r", "userns")+`exec testservice -notify -pause 200us -control `+run+`/control -read `+file+`"
ExecReload=+/usr/bin/extexec reload
[X-Extexec]
Namespaces=`+setting+`
ExtensionDirectories=%D/conf.v
`, "%D", a.dir))
				c.Systemctl("start", a.unit)
				a.pid = c.MainPID(a.unit)
				last := func(socket string) string {
					if !c.Exists(run + "/" + socket) {
						return "no child"
					}
					r := c.AskService(run+"/"+socket, "report").File(file)
					if r == nil || r.Failed > 0 {
						t.Fatalf("%s: %+v", socket, r)
					}
					return r.Last
				}
				for _, socket := range []string{"control", "copy", "userns"} {
					eventually(t, socket+" reads version 1", func() bool { return last(socket) == "1\n" })
				}
				for version := 2; version <= 3; version++ {
					ship(version)
					a.reload()
					a.sees(file, fmt.Sprintf("%d\n", version))
					for _, socket := range []string{"copy", "userns"} {
						if setting == "unit" {
							eventually(t, fmt.Sprintf("%s reads version %d", socket, version), func() bool { return last(socket) == fmt.Sprintf("%d\n", version) })
						} else if got := last(socket); got != "1\n" {
							t.Errorf("%s reads %q", socket, got)
						}
					}
				}
				wantElsewhere(t, a.status(), setting)
			})
		}
	})
}

func wantElsewhere(t *testing.T, s *status.Status, setting string) {
	t.Helper()
	if len(s.Namespaces) != 2 {
		t.Fatalf("status has the namespaces %+v, want 2", s.Namespaces)
	}
	for _, n := range s.Namespaces {
		if n.Stale != (setting == "main") || len(n.PIDs) == 0 {
			t.Errorf("namespace %+v with Namespaces=%s", n, setting)
		}
	}
	if (s.Stale > 0) != (setting == "main") {
		t.Errorf("%d processes are stale with Namespaces=%s", s.Stale, setting)
	}
}
