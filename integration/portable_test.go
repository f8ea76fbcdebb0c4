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
	// extension is a confext in a ".v/"; on 252, which knows neither, a plain sysext.
	extension, read string
}

// newPortable makes the image: a directory, or of it a file.
func newPortable(t *testing.T, c *rig.Container, name string, raw bool) *portable {
	t.Helper()
	p := &portable{adoptee: newAdoptee(t, c, name), name: "adopt-" + name}
	p.flags = "-pause 1ms"
	p.extension, p.read = p.dir+"/conf.v", "/etc/"+p.name
	if !confexts(c) {
		p.extension, p.read = p.dir+"/conf", "/usr/share/"+p.name
	}
	root := p.dir + "/" + p.name
	// What systemd wants of an image with the default profile, PORTABLE_SERVICES.
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "var/tmp", "opt"} {
		c.WriteFile(root+"/"+d+"/.keep", "", 0o644)
	}
	// 252 binds /dev/log in its profile, and has no /dev of its own for the ExecReload= line.
	for _, f := range []string{"etc/machine-id", "etc/resolv.conf", "dev/log"} {
		c.WriteFile(root+"/"+f, "", 0o644)
	}
	c.WriteFile(root+"/usr/lib/os-release", "ID=rooted\nVERSION_ID=7\nPORTABLE_PREFIXES="+p.name+"\n", 0o644)
	c.WriteFile(root+"/usr/lib/systemd/system/"+p.unit, p.text("", p.read), 0o644)
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
		c.Exec(ctx, "extexec", "portable", "detach", "--now", "--extension", p.extension, p.image)
		c.Remove("/run/systemd/system.attached")
		c.Remove("/run/portables")
		c.Remove("/run/extexec/portable.lock")
		c.Remove("/run/extexec/extexec")
	})
	return p
}

// release puts a version of the extension into its ".v/", or in the place of the old one.
func (p *portable) release(version int) string {
	text := fmt.Sprintf("version %d\n", version)
	at := fmt.Sprintf("conf.v/conf_%d", version)
	if !confexts(p.c) {
		at = "conf"
		if version > 1 {
			p.c.Rename(p.extension, fmt.Sprintf("%s/old-%d", p.dir, version))
		}
	}
	p.shipFor("ID=rooted\nVERSION_ID=7\n", at, files{p.read: text})
	return text
}

// TestPortable attaches an image with a confext in a ".v/": a reload exchanges it inside the running service,
// whose root is the image. portablectl sees what we attached, and takes it away; what it attached we do.
func TestPortable(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		for _, k := range []struct {
			name, profile string
			raw           bool
		}{{"directory", "trusted", false}, {"image", "default", true}} {
			t.Run(k.name, func(t *testing.T) {
				p := newPortable(t, c.For(t), "portable-"+k.name, k.raw)
				p.reloads(k.profile)
				if text := c.ReadFile("/run/systemd/system.attached/" + p.unit + ".d/20-portable.conf"); k.raw && c.SystemdVersion() >= 254 && !strings.Contains(text, "\nRootImagePolicy=root=unprotected\n") {
					t.Errorf("the policy of the image is not pinned:\n%s", text)
				}
				p.interop()
			})
		}
	})
}

func (p *portable) reloads(profile string) {
	c, t := p.c, p.t
	t.Helper()
	text := p.release(1)
	attach := []string{"extexec", "portable", "attach", "--runtime", "--now", "--profile", profile, "--extension", p.extension, p.image}
	plan := c.Must(append([]string{attach[0], attach[1], attach[2], "--dry-run"}, attach[3:]...)...)
	if done := c.Must(attach...); done != plan {
		t.Errorf("done is\n%s\nand planned was\n%s", done, plan)
	}
	p.pid = c.MainPID(p.unit)
	p.sees(p.read, text)
	if s := c.Must("extexec", "portable", "is-attached", "--extension", "conf", p.name); s != "running-runtime" {
		t.Errorf("is-attached says %q", s)
	}
	for version := 2; version < 4; version++ {
		text = p.release(version)
		if r := p.tryReload(); r.Code != 0 {
			t.Fatalf("not reloaded:\n%s", c.Journal(p.unit))
		}
		p.sees(p.read, text)
		p.unharmed()
		// systemd's own overlay stays below the first: the mounts of the profile below it are not locked to it.
		hierarchy := "/" + strings.Split(p.read, "/")[1]
		if s := p.sources(hierarchy); len(s) == 0 || !strings.HasPrefix(s[len(s)-1], "extexec:") {
			t.Errorf("%s has the overlays %q on it", hierarchy, s)
		}
	}
}

func (p *portable) interop() {
	c, t := p.c, p.t
	t.Helper()
	if list := c.Must("portablectl", "list", "--no-legend"); !strings.Contains(list, p.name) || !strings.Contains(list, "running-runtime") {
		t.Errorf("portablectl lists %q", list)
	}
	if s := c.Must("portablectl", "is-attached", "--extension", p.extension, p.image); s != "running-runtime" {
		t.Errorf("portablectl says it is %q", s)
	}
	c.Must("portablectl", "detach", "--runtime", "--now", "--extension", p.extension, p.image)
	if c.Exists("/run/systemd/system.attached/"+p.unit) || c.Exists("/run/systemd/system.attached/"+p.unit+".d") {
		t.Error("portablectl leaves something behind")
	}
	c.Must("portablectl", "attach", "--runtime", "--profile", "trusted", "--extension", p.extension, p.image)
	list := c.Must("extexec", "portable", "list")
	if !strings.Contains(list, p.unit) || !strings.Contains(list, "attached-runtime") {
		t.Errorf("extexec lists\n%s", list)
	}
	c.Must("extexec", "portable", "detach", "--extension", "conf", p.name)
	if c.Exists("/run/systemd/system.attached/" + p.unit) {
		t.Error("extexec leaves what portablectl attached")
	}
}
