package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// An imager is a program of this machine that makes an image of a directory.
type imager []string

var (
	squashfs = imager{"mksquashfs", "DIR", "FILE", "-noappend", "-quiet", "-no-progress", "-xattrs", "-noD", "-noF"} // not compressed: quick
	erofs    = imager{"mkfs.erofs", "--quiet", "FILE", "DIR"}
)

// image makes an image file of an extension directory of a, and puts it into place by rename. Both paths are
// below a.dir.
func (a *adoptee) image(dir, file string, with imager) {
	a.t.Helper()
	rig.RequireTool(a.t, with[0])
	made := filepath.Join(a.t.TempDir(), "image")
	argv := append([]string{}, with...)
	for i, w := range argv {
		switch w {
		case "DIR":
			argv[i] = a.c.Root() + a.dir + "/" + dir
		case "FILE":
			argv[i] = made
		}
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		a.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	a.c.CopyIn(made, a.dir+"/incoming.raw")
	a.install(a.dir+"/incoming.raw", file)
	if err := os.Remove(made); err != nil {
		a.t.Fatal(err)
	}
}

// TestAdoptImages does with images what TestAdopt does with directories. The sandbox has no device nodes: an
// image is opened in the host's view.
func TestAdoptImages(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		a := newAdoptee(t, c, "images")
		const usr, etc = "/usr/share/adopt-images", "/etc/adopt-images"
		settings, reads, sysext := "ExtensionImages=%D/tool.raw\n", []string{usr}, "tool.raw"
		if confexts(c) {
			settings, reads = "ExtensionImages=%D/tool.raw.v\nExtensionImages=%D/conf.raw.v\n", append(reads, etc)
		}
		ship := func(version string, with imager) {
			a.writeExtension(a.dir+"/made", "tool", "ID=_any\n", files{usr: version})
			a.writeExtension(a.dir+"/made-conf", "conf", "ID=_any\n", files{etc: version})
			if confexts(c) {
				sysext = "tool.raw.v/tool_" + version + ".raw"
				a.image("made-conf", "conf.raw.v/conf_"+version+".raw", with)
			}
			a.image("made", sysext, with)
		}
		ship("1", squashfs)
		a.start(settings+"PrivateDevices=yes\n"+deviceLines, reads...)
		for i, with := range []imager{erofs, squashfs, erofs} {
			version := string(rune('2' + i))
			ship(version, with)
			a.reload()
			for _, r := range reads {
				a.sees(r, version)
			}
			a.unharmed()
			a.status()
		}
		a.oursOn("/usr")
	})
}

// deviceLines let a unit with PrivateDevices= have systemd's own ExtensionImages=: as systemd adds them for
// RootImage=, and forgets to for these.
const deviceLines = `DeviceAllow=/dev/loop-control rw
DeviceAllow=block-loop rwm
DeviceAllow=block-blkext rwm
DeviceAllow=block-device-mapper rwm
`
