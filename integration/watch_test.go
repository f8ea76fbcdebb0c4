package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/extexec/extexec/integration/rig"
)

// TestWatch has systemd watch the extensions of units, by the unit files that are
// shipped.
func TestWatch(t *testing.T) {
	t.Parallel()
	rig.Each(t, func(t *testing.T, c *rig.Container) {
		c.WriteGenerator("extexec-generator")
		c.WriteShipped("extexec-reload@.path", "extexec-trigger@.service", "extexec-reload@.service")
		t.Run("bursts", func(t *testing.T) { watchBursts(t, c.For(t)) })
		t.Run("daemon-reload", func(t *testing.T) { watchReloaded(t, c.For(t)) })
		t.Run("nginx", func(t *testing.T) { watchNginx(t, c.For(t)) })
		t.Run("copied", func(t *testing.T) { watchCopied(t, c.For(t)) })
		t.Run("other extensions", func(t *testing.T) { watchOthers(t, c.For(t)) })
		t.Run("adopted", func(t *testing.T) { watchAdopted(t, c.For(t)) })
		t.Run("root image", func(t *testing.T) { watchRootImage(t, c.For(t)) })
		t.Run("tries", func(t *testing.T) { watchTries(t, c.For(t)) })
		t.Run("refused", func(t *testing.T) { watchRefused(t, c.For(t)) })
	})
}

// bursts is how many there are: EXTEXEC_BURSTS=300 is for a machine that has time.
func bursts(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("EXTEXEC_BURSTS"))
	if os.Getenv("EXTEXEC_BURSTS") == "" {
		return 20
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// overloaded says that more than two processes wait for each processor: then two
// seconds are nobody's to promise.
func overloaded(t *testing.T) bool {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		t.Fatal(err)
	}
	return load > float64(2*runtime.NumCPU())
}

// newWatched starts a service with version 1 of a confext, and has it watched.
func newWatched(t *testing.T, c *rig.Container, name, more string) *watched {
	w := &watched{adoptee: newAdoptee(t, c, name), file: "/etc/" + name}
	w.ship("conf.v/conf_1", files{w.file: "1\n"})
	w.startRun(more)
	c.Must("extexec", "watch", "--enable", w.unit)
	t.Cleanup(func() { c.Must("extexec", "watch", "--disable", w.unit) })
	return w
}

type watched struct {
	*adoptee
	file string
}

// startRun starts the service by the wrapper, which every systemd knows.
func (w *watched) startRun(more string) {
	w.t.Helper()
	text := strings.Replace(w.text("", w.file), "ExecStart=testservice", "ExecStart=!/usr/bin/extexec run -- /usr/bin/testservice", 1)
	w.c.WriteUnit(w.unit, text+reloadLine+"[X-Extexec]\nExtensionDirectories="+w.dir+"/conf.v\n"+strings.ReplaceAll(more, "%D", w.dir))
	w.c.Systemctl("start", w.unit)
	w.pid = w.c.MainPID(w.unit)
}

// shows says whether the service reads this now.
func (w *watched) shows(text string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", w.pid.Host, w.file))
	return err == nil && string(b) == text
}

// watchBursts renames versions into place, some at a time, with pauses of about as
// long as a reload takes: the last one is live within two seconds, each time.
func watchBursts(t *testing.T, c *rig.Container) {
	w := newWatched(t, c, "watch-bursts", "")
	const seed = 6
	random := rand.New(rand.NewPCG(seed, seed))
	version, longest := 1, time.Duration(0)
	for burst := range bursts(t) {
		for range 1 + random.IntN(5) {
			version++
			w.ship(fmt.Sprintf("conf.v/conf_%d", version), files{w.file: fmt.Sprintf("%d\n", version)})
			if version > 3 {
				c.Remove(fmt.Sprintf("%s/conf.v/conf_%d", w.dir, version-3))
			}
			time.Sleep(time.Duration(random.IntN(120)) * time.Millisecond)
		}
		from := time.Now()
		eventually(t, fmt.Sprintf("version %d, the last of burst %d (seed %d), is live", version, burst, seed), func() bool {
			return w.shows(fmt.Sprintf("%d\n", version))
		})
		if took := time.Since(from); took > 2*time.Second && !overloaded(t) {
			t.Errorf("version %d, the last of burst %d (seed %d), was live after %v only", version, burst, seed, took)
		}
		longest = max(longest, time.Since(from))
	}
	w.unharmed()
	if now := c.MainPID(w.unit); now != w.pid {
		t.Errorf("main process %v, was %v", now, w.pid)
	}
	t.Logf("%d versions, the slowest live after %v", version, longest)
}

// watchReloaded renames versions into place while systemd reads its units anew: it watches nothing then.
func watchReloaded(t *testing.T, c *rig.Container) {
	w := newWatched(t, c, "watch-reloaded", "")
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	for version := 2; version < 2+bursts(t)/2; version++ {
		reload := c.Start(rig.Command{Argv: []string{"systemctl", "daemon-reload"}})
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		w.ship(fmt.Sprintf("conf.v/conf_%d", version), files{w.file: fmt.Sprintf("%d\n", version)})
		if r, err := reload.Wait(t.Context()); err != nil || r.Code != 0 {
			t.Fatalf("%v, %s", err, r)
		}
		eventually(t, fmt.Sprintf("version %d (seed %d) is live", version, seed), func() bool { return w.shows(fmt.Sprintf("%d\n", version)) })
	}
	w.unharmed()
}

// watchNginx: a page is renamed into the directory, and served; no request fails.
func watchNginx(t *testing.T, c *rig.Container) {
	const name, port = "watch-nginx", 8391
	a := newAdoptee(t, c, name)
	a.unit = name + ".service"
	ship := func(version int) {
		a.ship(fmt.Sprintf("nginx.v/nginx_%d", version), files{
			"/etc/nginx/nginx.conf":                fmt.Sprintf(nginxConf, name, version, port),
			"/etc/nginx/extexec-" + name + "/page": fmt.Sprintf("page %d\n", version),
		})
	}
	ship(1)
	shipped, _, _ := strings.Cut(c.ReadFile("/usr/lib/systemd/system/nginx.service"), "[Install]")
	shipped = strings.ReplaceAll(shipped, "/run/nginx.pid", "/run/"+name+".pid")
	shipped = strings.ReplaceAll(shipped, "ExecStart=", "ExecStart=/usr/bin/extexec run -- ")
	c.WriteUnit(a.unit, shipped+"ExecReload=\n"+reloadLine+"[X-Extexec]\nReloadSignal=HUP\nReloadCheck=/usr/sbin/nginx -t\nExtensionDirectories="+a.dir+"/nginx.v\n")
	c.Must("extexec", "watch", "--enable", a.unit)
	t.Cleanup(func() { c.Must("extexec", "watch", "--disable", a.unit) })
	c.Systemctl("start", a.unit) // and with it what watches
	load := startLoad(t, c, fmt.Sprintf("http://127.0.0.1:%d/page", port))
	load.await(1)
	for version := 2; version <= 4; version++ {
		ship(version)
		load.await(version)
	}
	load.stop()
}

// watchCopied copies a directory into place, slowly: until it is complete it is never
// served, and it is then once it is touched.
func watchCopied(t *testing.T, c *rig.Container) {
	w := newWatched(t, c, "watch-copied", "")
	looks := "extexec-reload@" + strings.TrimSuffix(w.unit, ".service") + ".service"
	to := w.dir + "/conf.v/conf_2"
	look := func() { c.Exec(t.Context(), "systemctl", "start", looks) }
	c.Mkdir(to)
	look()
	for _, dir := range []string{"/etc", "/etc/extension-release.d"} {
		c.Mkdir(to + dir)
		look()
	}
	c.WriteFile(to+"/etc/extension-release.d/extension-release.conf", "ID=_any\n", 0o644)
	look()
	c.WriteFile(to+w.file, "half", 0o644)
	look()
	c.WriteFile(to+w.file, "2\n", 0o644)
	look()
	if got := w.generation(); got != 1 {
		t.Errorf("generation %d is live, want 1", got)
	}
	if log := c.Journal(looks); !strings.Contains(log, "newer than the directory itself") || !strings.Contains(log, "conf_2") {
		t.Errorf("the version is not refused by its name:\n%s", log)
	}
	w.unharmed()
	c.Must("touch", to)
	w.sees(w.file, "2\n")
}

// watchOthers: the unit gets another extension, and that is watched from then on.
func watchOthers(t *testing.T, c *rig.Container) {
	w := newWatched(t, c, "watch-others", "")
	w.ship("more.v/more_1", files{w.file + ".more": "1\n"})
	c.WriteUnit(w.unit+".d/more.conf", "[X-Extexec]\nExtensionDirectories="+w.dir+"/more.v\n")
	path := "/etc/systemd/system/extexec-reload@" + strings.TrimSuffix(w.unit, ".service") + ".path.d/50-extexec.conf"
	eventually(t, "what is watched follows the unit", func() bool { return strings.Contains(c.ReadFile(path), w.dir+"/more.v\n") })
	w.ship("more.v/more_2", files{w.file: "2\n"})
	w.sees(w.file, "2\n")
}

// watchAdopted: systemd has applied the extensions that [Service] lists: a directory, which every systemd knows, an image,
// and a ".v/" directory where it knows those. Each is watched by its own path, and what the unit gets later is, too,
// wherever the line stands.
func watchAdopted(t *testing.T, c *rig.Container) {
	w := &watched{adoptee: newAdoptee(t, c, "watch-adopted"), file: "/usr/share/watch-adopted"}
	ship := func(at, text string) {
		t.Helper()
		c.Remove(w.dir + "/" + at)
		w.ship(at, files{w.file: text})
	}
	image := func(text string) {
		t.Helper()
		w.writeExtension(w.dir+"/tree", "tool", "ID=_any\n", files{w.file + ".image": text})
		w.image("tree", "incoming.raw", squashfs)
		c.Remove(w.dir + "/tree")
		w.install(w.dir+"/incoming.raw", "tool.raw")
	}
	ship("conf", "1\n")
	image("1\n")
	settings, watches := "ExtensionDirectories=%D/conf\nExtensionImages=%D/tool.raw\n", []string{"/conf", "/tool.raw"}
	if confexts(c) {
		w.ship("more.v/more_1", files{w.file + ".more": "1\n"})
		settings, watches = settings+"ExtensionDirectories=%D/more.v\n", append(watches, "/more.v")
	}
	w.start(settings, w.file)
	w.systemdsOn("/usr")
	c.Must("extexec", "watch", "--enable", w.unit)
	t.Cleanup(func() { c.Must("extexec", "watch", "--disable", w.unit) })
	path := "/etc/systemd/system/extexec-reload@" + strings.TrimSuffix(w.unit, ".service") + ".path.d/50-extexec.conf"
	follows := func(ref string) {
		t.Helper()
		eventually(t, ref+" is watched", func() bool { return strings.Contains(c.ReadFile(path), "PathChanged="+w.dir+ref+"\n") })
	}
	shows := func(file, text string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s has %q", file, text), func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", w.pid.Host, file))
			return err == nil && string(b) == text
		})
	}
	for _, ref := range watches {
		follows(ref)
	}
	ship("conf", "2\n")
	w.sees(w.file, "2\n")
	image("2\n")
	shows(w.file+".image", "2\n")
	if confexts(c) {
		w.ship("more.v/more_2", files{w.file + ".more": "2\n"})
		shows(w.file+".more", "2\n")
	}
	w.oursOn("/usr")

	for i, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/"} { // with daemon-reload, and without
		ref := fmt.Sprintf("/later%d", i)
		w.ship(strings.TrimPrefix(ref, "/"), files{w.file + ref[1:]: "1\n"})
		dropIn := dir + w.unit + ".d/70-later" + fmt.Sprint(i) + ".conf"
		c.WriteFile(dropIn, "[Service]\nExtensionDirectories="+w.dir+ref+"\n", 0o644)
		t.Cleanup(func() { c.Remove(dir + w.unit + ".d") })
		if i == 0 {
			c.Systemctl("daemon-reload")
		}
		follows(ref)
		shows(w.file+ref[1:], "1\n")
	}
	w.oursOn("/usr")
	if now := c.MainPID(w.unit); now != w.pid {
		t.Errorf("main process %v, was %v", now, w.pid)
	}
}

// watchRootImage: the service's root is an image, in which systemd runs the reload that it
// is triggered to. The versions lie on the host, and are watched there.
func watchRootImage(t *testing.T, c *rig.Container) {
	const release, file = "ID=rooted\nVERSION_ID=7\n", "/usr/share/watch-root"
	w := &watched{adoptee: newAdoptee(t, c, "watch-root"), file: file}
	root := w.makeRoot(release)
	w.image("root", "root.raw", squashfs)
	c.Remove(root)
	w.shipFor(release, "tool.v/tool_1", files{file: "1\n"})
	given := "ExtensionDirectories=%D/tool.v\n" + keepOffLine + reloadLine
	if !confexts(c) { // this systemd knows no ".v/"
		w.shipFor(release, "tool", files{file: "1\n"})
		given = "ExtensionDirectories=%D/tool\n" + reloadLine + "[X-Extexec]\nExtensionDirectories=%D/tool.v\n"
	}
	w.startWith("RootImage=%D/root.raw\nMountAPIVFS=yes\n"+given, file)
	c.Must("extexec", "watch", "--enable", w.unit)
	t.Cleanup(func() { c.Must("extexec", "watch", "--disable", w.unit) })
	for _, version := range []string{"2", "3"} {
		w.shipFor(release, "tool.v/tool_"+version, files{file: version + "\n"})
		eventually(t, "version "+version+" is live", func() bool { return w.shows(version + "\n") })
		w.oursOn("/usr")
	}
	w.shipFor("ID=debian\n", "tool.v/tool_4", files{file: "4\n"})
	eventually(t, "a version for the host is refused, by systemd where [Service] names it", func() bool {
		return strings.Contains(c.Journal(w.unit), "Reload failed for "+w.unit)
	})
	w.sees(file, "3\n")
	w.unharmed()
	if now := c.MainPID(w.unit); now != w.pid {
		t.Errorf("main process %v, was %v", now, w.pid)
	}
}

// watchTries: a version that fails is tried once by what its rename triggers, and not
// once more by what the count in its name does.
func watchTries(t *testing.T, c *rig.Container) {
	w := newWatched(t, c, "watch-tries", "CountTries=yes\nReloadVerify=/usr/bin/grep -qv bad /etc/watch-tries\n")
	w.ship("conf.v/conf_2+3", files{w.file: "bad\n"})
	eventually(t, "a try is counted", func() bool { return c.Exists(w.dir + "/conf.v/conf_2+2-1") })
	looks := "extexec-reload@" + strings.TrimSuffix(w.unit, ".service") + ".service"
	w.sees(w.file, "1\n")
	c.Exec(t.Context(), "systemctl", "start", looks)
	wantEntries(t, c, w.dir+"/conf.v", "conf_1 conf_2+2-1")
	w.ship("conf.v/conf_3+3", files{w.file: "3\n"})
	w.sees(w.file, "3\n")
}

// watchRefused: what cannot be watched is refused with a remedy, and nothing is left.
func watchRefused(t *testing.T, c *rig.Container) {
	c.WriteUnit("watch-none.service", "[Service]\nExecStart=sleep infinity\n")
	c.WriteUnit("watch-other.service", "[Service]\nExecStart=sleep infinity\nExecReload=true\nExtensionDirectories=/srv/nothing.v\n")
	for unit, want := range map[string]string{
		"watch-none":     "it lists no extensions: give it some",
		"watch-other":    `no ExecReload= of it is "extexec reload"`,
		"watch-nowhere":  "watch-nowhere.service",
		"dev-null.mount": "wants a service",
	} {
		if r := c.Exec(t.Context(), "extexec", "watch", "--enable", unit); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("watch --enable %s: %v, want %q", unit, r, want)
		}
		if c.Exists("/etc/systemd/system/extexec-reload@" + unit + ".path.d") {
			t.Errorf("a drop-in for %s is left", unit)
		}
	}
}
