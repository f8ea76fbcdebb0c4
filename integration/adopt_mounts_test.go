package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestAdoptFollowers shows that processes of the service that have taken a mount namespace of their own, which
// follows the service's, see the new version too: at the first exchange, which covers systemd's tree because of
// the mount below it, and at the next, which replaces ours.
func TestAdoptFollowers(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "followers")
		const file, bound = "/usr/share/adopt-followers", "/usr/share/adopt-followers-bound"
		a.ship("tool", files{file: "0\n", bound: "shipped\n"})
		c.WriteFile(a.dir+"/bound", "bound\n", 0o644)
		text := a.text("ExtensionDirectories=%D/tool\nBindReadOnlyPaths=%D/bound:"+bound+"\n"+keepOffLine+reloadLine, file)
		sleepers := "unshare -m --propagation slave sleep infinity & unshare -m --propagation unchanged sleep infinity & exec "
		text = strings.Replace(text, "ExecStart=", "ExecStart=sh -c '"+sleepers, 1)
		text = strings.Replace(text, file+"\n", file+"'\n", 1)
		c.WriteUnit(a.unit, text)
		c.Systemctl("start", a.unit)
		a.pid = c.MainPID(a.unit)
		var pids []string
		eventually(t, "the followers have their namespaces", func() bool {
			pids = strings.Fields(c.Script(`main=$(readlink /proc/` + fmt.Sprint(a.pid.Inside) + `/ns/mnt)
				for p in $(cat /sys/fs/cgroup/system.slice/` + a.unit + `/cgroup.procs); do
					[ "$(readlink /proc/$p/ns/mnt)" = "$main" ] || [ "$(cat /proc/$p/comm)" != sleep ] || echo $p; done`))
			return len(pids) == 2
		})
		for _, version := range []string{"1\n", "2\n", "3\n"} {
			c.Rename(a.dir+"/tool", a.dir+"/old-"+strings.TrimSpace(version))
			a.ship("tool", files{file: version, bound: "shipped\n"})
			a.reload()
			a.sees(file, version)
			a.unharmed()
			for _, pid := range pids {
				for path, want := range map[string]string{file: version, bound: "bound\n"} {
					if got := c.Must("cat", "/proc/"+pid+"/root"+path) + "\n"; got != want {
						t.Errorf("follower %s reads %q in %s, want %q", pid, got, path, want)
					}
				}
			}
		}
	})
}

// TestAdoptBoundFileReplaced replaces the source of a bind mount by rename, as programs write files: from the next
// reload on the service sees what stands there now.
func TestAdoptBoundFileReplaced(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "replaced")
		const bound = "/usr/share/adopt-replaced"
		a.ship("tool", files{bound: "shipped\n"})
		c.WriteFile(a.dir+"/bound", "bound 0\n", 0o644)
		a.start("ExtensionDirectories=%D/tool\nBindReadOnlyPaths=%D/bound:"+bound+"\n", bound)
		for i := range 3 {
			text := fmt.Sprintf("bound %d\n", i+1)
			c.WriteFile(a.dir+"/bound.new", text, 0o644)
			c.Rename(a.dir+"/bound.new", a.dir+"/bound")
			c.Must("extexec", "reload", "--force", a.unit)
			a.sees(bound, text)
			if f := a.ask("forget").File(bound); f.Failed > 0 || f.Contents["shipped\n"] > 0 {
				t.Errorf("what the mount hides was seen, or nothing: %+v", f)
			}
		}
	})
}
