package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/extexec/extexec/integration/rig"
)

// TestInstall installs versions of an extension, and shows that what fails leaves
// nothing: neither below the directory nor in the service.
func TestInstall(t *testing.T) {
	for _, s := range []rig.Suite{rig.Bookworm, rig.Forky} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := rig.Shared(t, s)
			t.Run("directories", func(t *testing.T) { installDirectories(t, c.For(t)) })
			t.Run("images", func(t *testing.T) { installImages(t, c.For(t)) })
		})
	}
}

func installDirectories(t *testing.T, c *rig.Container) {
	w := &watched{adoptee: newAdoptee(t, c, "install"), file: "/etc/install"}
	w.ship("conf.v/conf_1", files{w.file: "1\n"})
	w.startRun("ReloadCheck=/usr/bin/grep -qv bad /etc/install\nReloadVerify=/usr/bin/grep -qv worse /etc/install\n")
	install := func(name, release string, f files, want string) {
		t.Helper()
		w.writeExtension(w.dir+"/made/"+name, name, release, f)
		r := c.Exec(t.Context(), "extexec", "install", w.dir+"/made/"+name, w.unit)
		if (r.Code == 0) != (want == "") || !strings.Contains(r.Stderr, want) {
			t.Errorf("install %s: %v, want %q", name, r, want)
		}
	}
	install("conf_2", "ID=_any\n", files{w.file: "2\n"}, "")
	w.sees(w.file, "2\n")
	w.status()
	const there = "conf_1 conf_2"
	install("conf_2", "ID=_any\n", files{w.file: "2\n"}, "is there already")
	install("conf_3", "ID=other\n", files{w.file: "3\n"}, "ID")
	c.WriteFile(w.dir+"/made/conf_4"+w.file, "4\n", 0o644)
	if r := c.Exec(t.Context(), "extexec", "install", w.dir+"/made/conf_4", w.unit); r.Code != 1 || !strings.Contains(r.Stderr, "extension-release") {
		t.Errorf("install without a release file: %v", r)
	}
	// What was live, and is not there any more, keeps nobody from taking a bad copy back.
	c.Rename(w.dir+"/conf.v/conf_2", w.dir+"/kept")
	install("conf_2", "ID=other\n", files{w.file: "2\n"}, "ID")
	if r := c.Exec(t.Context(), "ls", "-A", w.dir+"/conf.v"); r.Stdout != "conf_1\n" {
		t.Errorf("after a bad copy of what is live there is %q", r.Stdout)
	}
	c.Rename(w.dir+"/kept", w.dir+"/conf.v/conf_2")
	install("conf_5", "ID=_any\n", files{w.file: "bad\n"}, "reload unit")
	install("conf_6", "ID=_any\n", files{w.file: "worse\n"}, "reload unit")
	install("web_7", "ID=_any\n", files{w.file: "7\n"}, `has no ".v" directory for a directory with this name`)
	install("conf_8.tmp", "ID=_any\n", files{w.file: "8\n"}, "has the name of an unfinished file")
	if got := strings.Join(strings.Fields(c.Must("ls", "-A", w.dir+"/conf.v")), " "); got != there {
		t.Errorf("the directory has %q, want %q", got, there)
	}
	c.Systemctl("reload", w.unit)
	w.sees(w.file, "2\n")
	w.unharmed()
}

func installImages(t *testing.T, c *rig.Container) {
	e := newWrapExts(t, c, wrapSquashfs)
	w := startWrapped(t, c, e, "install-images", "User=www-data", "")
	image := e.dir + "/made/conf_2.raw"
	c.CopyIn(wrapImage(t, e.kind, "conf", "two\n"), image)
	var writer *os.File
	if err := c.Inside(func() (err error) {
		writer, err = os.OpenFile(image, os.O_WRONLY, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r := c.Exec(t.Context(), "extexec", "install", image, w.unit)
	writer.Close()
	if r.Code != 1 || !strings.Contains(r.Stderr, "is open for writing in another process") {
		t.Errorf("install while it is written: %v", r)
	}
	wantEntries(t, c, e.ref("conf"), "conf_1.raw")
	c.Must("extexec", "install", image, w.unit)
	wantEntries(t, c, e.ref("conf"), "conf_1.raw conf_2.raw")
	if got := c.Must("extexec", "exec", w.unit, "--", "cat", wrapConf); got != "two" {
		t.Errorf("the service reads %q, want two", got)
	}
}
