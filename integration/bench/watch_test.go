package bench

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// watch compares what happens by itself when a version appears with the least that it can be made of: a path unit that
// starts a command, and a reload. Both end with the first page of the version that nginx serves.
func watch(k *kit) []row {
	const watched, reloaded = "bench-watched.service", "bench-reloaded.service"
	k.c.WriteShipped("extexec-reload@.path", "extexec-trigger@.service", "extexec-reload@.service")
	dir := k.c.TempDir()
	a, b := k.site(dir+"/a", 8401, watched), k.site(dir+"/b", 8402, reloaded)
	k.c.Must("extexec", "watch", "--enable", watched)
	k.c.Cleanup(func() { k.c.Must("extexec", "watch", "--disable", watched) })

	const bare, ran = "/run/bench-bare", "/run/bench-ran"
	k.c.Mkdir(bare)
	k.c.Cleanup(func() { k.c.Remove(bare); k.c.Remove(ran) })
	k.unit("bench-bare-path.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/touch "+ran+"\n") // by which it is seen to have run
	k.unit("bench-bare-path.path", "[Path]\nPathChanged="+bare+"\nTriggerLimitIntervalSec=0\n")
	k.c.Systemctl("start", "bench-bare-path.path")
	rename := func() float64 {
		k.c.Remove(ran)
		k.c.WriteFile("/run/bench-new", "", 0o644)
		k.watches("bench-bare-path.path")
		began := time.Now()
		k.c.Rename("/run/bench-new", bare+"/new")
		k.until("the path unit's command has run", func() bool { return k.c.Exists(ran) })
		return since(began)
	}
	s := k.inTurn(
		func() float64 {
			k.watches("extexec-reload@bench-watched.path")
			return a.turn(func() {})
		},
		func() float64 {
			rest()
			return b.turn(func() { k.run("/usr/bin/systemctl", "reload", reloaded) })
		},
		rename)
	least := make([]float64, len(s[0]))
	for i := range least {
		least[i] = s[1][i] + s[2][i]
	}
	return []row{ratio{a: s[0], b: least}.row("rename into .v/ to the first new page / path unit of /bin/true, and systemctl reload", 1.2,
		fmt.Sprintf("watch %s, path unit %s, reload %s", ms(s[0]), ms(s[2]), ms(s[1])))}
}

func since(began time.Time) float64 { return float64(time.Since(began).Nanoseconds()) / 1e6 }

// watches waits until a path unit does: while what it has triggered runs, it sees nothing.
func (k *kit) watches(path string) {
	k.t.Helper()
	k.until(path+" watches", func() bool { rest(); return k.c.Show(path, "SubState") == "waiting" })
}

// until looks again and again, without a pause that would show in a figure.
func (k *kit) until(what string, seen func() bool) {
	k.t.Helper()
	for end := time.Now().Add(20 * time.Second); !seen(); {
		if time.Now().After(end) {
			k.t.Fatalf("in vain: %s", what)
		}
	}
}

// site is an nginx with a page in a confext.
type site struct {
	k       *kit
	dir     string
	url     string
	version int
}

func (k *kit) site(dir string, port int, unit string) *site {
	k.t.Helper()
	s := &site{k: k, dir: dir, url: fmt.Sprintf("http://127.0.0.1:%d/page", port)}
	k.c.WriteFile(dir+"/nginx.conf", fmt.Sprintf("user www-data;\nworker_processes 1;\npid %s/pid;\nerror_log stderr;\nevents {}\nhttp {\n\taccess_log off;\n\tserver { listen 127.0.0.1:%d; root /etc/bench.site; }\n}\n", dir, port), 0o644)
	k.c.Mkdir(dir + "/site.v")
	s.make()
	s.install()
	k.unit(unit, "[Service]\nExecStart=!/usr/bin/extexec run -- /usr/sbin/nginx -c "+dir+"/nginx.conf -g 'daemon off;'\nExecReload=+/usr/bin/extexec reload\n"+
		"[X-Extexec]\nExtensionDirectories="+dir+"/site.v\n")
	k.c.Systemctl("start", unit)
	k.until(s.url+" is served", s.served)
	return s
}

// make makes the next version beside the others.
func (s *site) make() {
	s.version++
	s.k.c.WriteFile(s.dir+"/.new/etc/extension-release.d/extension-release.site", "ID=_any\n", 0o644)
	s.k.c.WriteFile(s.dir+"/.new/etc/bench.site/page", s.text(), 0o644)
}

func (s *site) text() string { return fmt.Sprintf("page %d\n", s.version) }

// install renames what was made into place.
func (s *site) install() {
	s.k.c.Rename(s.dir+"/.new", fmt.Sprintf("%s/site.v/site_%d", s.dir, s.version))
}

func (s *site) served() bool {
	resp, err := s.k.client().Get(s.url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	return err == nil && string(page) == s.text()
}

// client makes a connection for every request.
func (k *kit) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: k.c.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

// turn times what it takes from a rename to its page; tell is what is done for that.
func (s *site) turn(tell func()) float64 {
	s.make()
	rest() // what was made a moment before its rename would have to stay as it is for a while
	began := time.Now()
	s.install()
	tell()
	s.k.until(fmt.Sprintf("version %d is served", s.version), s.served)
	return since(began)
}
