package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

// A portable is an image with the test service in it, and an adoptee for its extension.
type portable struct {
	*adoptee
	name, image string
}

// newPortable makes the image: a directory, or of it a file.
func newPortable(t *testing.T, c *rig.Container, name string, raw bool, profile string) *portable {
	t.Helper()
	p := &portable{adoptee: newAdoptee(t, c, name), name: "adopt-" + name}
	p.flags = "-pause 1ms"
	root := p.dir + "/" + p.name
	// What systemd wants of an image with the default profile, PORTABLE_SERVICES.
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "var/tmp", "opt"} {
		c.WriteFile(root+"/"+d+"/.keep", "", 0o644)
	}
	for _, f := range []string{"etc/machine-id", "etc/resolv.conf"} {
		c.WriteFile(root+"/"+f, "", 0o644)
	}
	c.WriteFile(root+"/usr/lib/os-release", "ID=rooted\nVERSION_ID=7\nPORTABLE_PREFIXES="+p.name+"\n", 0o644)
	c.WriteFile(root+"/usr/lib/systemd/system/"+p.unit, p.text("", "/etc/"+p.name), 0o644)
	c.Must("cp", "-a", "--parents", "-t", root, "/usr/bin/testservice")
	p.image = root
	if raw {
		p.adoptee.image(p.name, p.name+".raw", squashfs)
		p.image += ".raw"
		c.Remove(root)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c.Exec(ctx, "systemctl", "stop", p.unit)
		c.Exec(ctx, "extexec", "portable", "detach", "--now", "--extension", p.dir+"/conf.v", p.image)
		c.Remove("/run/systemd/system.attached")
		c.Remove("/run/portables")
		c.Remove("/run/extexec/portable.lock")
		c.Remove("/run/extexec/extexec")
	})
	return p
}

// release puts a version of the extension into its ".v/".
func (p *portable) release(version int) string {
	text := fmt.Sprintf("version %d\n", version)
	p.shipFor("ID=rooted\nVERSION_ID=7\n", fmt.Sprintf("conf.v/conf_%d", version), files{"/etc/" + p.name: text})
	return text
}

// TestPortable attaches an image with a confext in a ".v/": a reload exchanges it inside the running service,
// whose root is the image. portablectl sees what we attached, and takes it away; what it attached we do.
func TestPortable(t *testing.T) {
	t.Parallel()
	c := rig.Shared(t, rig.Forky)
	for _, k := range []struct {
		name, profile string
		raw           bool
	}{{"directory", "trusted", false}, {"image", "default", true}} {
		t.Run(k.name, func(t *testing.T) {
			p := newPortable(t, c.For(t), "portable-"+k.name, k.raw, k.profile)
			p.reloads(k.profile)
			p.interop()
		})
	}
}

func (p *portable) reloads(profile string) {
	c, t, read := p.c, p.t, "/etc/"+p.name
	t.Helper()
	text := p.release(1)
	attach := []string{"extexec", "portable", "attach", "--runtime", "--now", "--profile", profile, "--extension", p.dir + "/conf.v", p.image}
	plan := c.Must(append([]string{attach[0], attach[1], attach[2], "--dry-run"}, attach[3:]...)...)
	if done := c.Must(attach...); done != plan {
		t.Errorf("done is\n%s\nand planned was\n%s", done, plan)
	}
	p.pid = c.MainPID(p.unit)
	p.sees(read, text)
	if s := c.Must("extexec", "portable", "is-attached", "--extension", "conf", p.name); s != "running-runtime" {
		t.Errorf("is-attached says %q", s)
	}
	for version := 2; version < 4; version++ {
		text = p.release(version)
		if r := p.tryReload(); r.Code != 0 {
			t.Fatalf("not reloaded:\n%s", c.Journal(p.unit))
		}
		p.sees(read, text)
		p.unharmed()
		// systemd's own overlay stays below the first: the mounts of the profile below it are not locked to it.
		if s := p.sources("/etc"); len(s) == 0 || !strings.HasPrefix(s[len(s)-1], "extexec:") {
			t.Errorf("/etc has the overlays %q on it", s)
		}
	}
}

func (p *portable) interop() {
	c, t := p.c, p.t
	t.Helper()
	if list := c.Must("portablectl", "list", "--no-legend"); !strings.Contains(list, p.name) || !strings.Contains(list, "running-runtime") {
		t.Errorf("portablectl lists %q", list)
	}
	if s := c.Must("portablectl", "is-attached", "--extension", p.dir+"/conf.v", p.image); s != "running-runtime" {
		t.Errorf("portablectl says it is %q", s)
	}
	c.Must("portablectl", "detach", "--runtime", "--now", "--extension", p.dir+"/conf.v", p.image)
	if c.Exists("/run/systemd/system.attached/"+p.unit) || c.Exists("/run/systemd/system.attached/"+p.unit+".d") {
		t.Error("portablectl leaves something behind")
	}
	c.Must("portablectl", "attach", "--runtime", "--profile", "trusted", "--extension", p.dir+"/conf.v", p.image)
	list := c.Must("extexec", "portable", "list")
	if !strings.Contains(list, p.unit) || !strings.Contains(list, "attached-runtime") {
		t.Errorf("extexec lists\n%s", list)
	}
	c.Must("extexec", "portable", "detach", "--extension", "conf", p.name)
	if c.Exists("/run/systemd/system.attached/" + p.unit) {
		t.Error("extexec leaves what portablectl attached")
	}
}
