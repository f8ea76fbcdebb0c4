package lint

import (
	"strings"
	"time"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// reloadLines: ExecReload= is ours, comes first, and is let out of the sandbox.
func reloadLines(j judgement) (found []Finding) {
	if j.way == None {
		return nil
	}
	lines := execs(j.unit, "ExecReload")
	ours := -1
	for i, l := range lines {
		if IsReload(l.ExecCommand) && ours < 0 {
			ours = i
		}
	}
	if ours < 0 {
		return []Finding{{Severity: Warning, File: j.unit.Fragment, Setting: "ExecReload", Text: `no ExecReload= runs extexec, so systemctl reload gives the service no new version`,
			Remedy: "write ExecReload=+/usr/bin/extexec reload; extexec adopt and extexec wrap do"}}
	}
	for i, l := range lines {
		switch {
		case i == ours && !strings.Contains(l.Prefix, "+"):
			found = append(found, atLine(l, Error, `write ExecReload=+`+l.Text, `without the prefix "+" the reload runs inside the unit's sandbox and as its user, where nothing can be exchanged`))
		case i == ours && strings.Contains(l.Prefix, "-"):
			found = append(found, atLine(l, Warning, `take the "-" out`, `with the prefix "-" a reload that failed counts as done`))
		case i < ours:
			found = append(found, atLine(l, Warning, "make it a ReloadCheck= or ReloadCommand= in [X-Extexec]", "%q runs before the exchange, and sees the old version", l.Text))
		case i > ours:
			found = append(found, atLine(l, Warning, "make it a ReloadCommand= in [X-Extexec]", "%q runs after the reload has been committed: what it finds wrong is not taken back", l.Text))
		}
	}
	return found
}

// defaultStart is systemd's own DefaultTimeoutStartSec=.
const defaultStart = 90 * time.Second

// reloadTimeout: systemd ends a reload after TimeoutStartSec=, and ours should have
// put the old state back before that.
func reloadTimeout(j judgement) []Finding {
	limit, a := startTimeout(j.unit, j.set.Service.Type)
	own, given := j.last(settings.Section, "ReloadTimeoutSec")
	if j.way == None || limit == unitfile.Infinity || j.set.ReloadTimeout != 0 && j.set.ReloadTimeout < limit {
		return nil
	}
	text := "no limit"
	if j.set.ReloadTimeout != 0 {
		text = j.set.ReloadTimeout.String()
	}
	if given {
		a = own
	}
	return []Finding{at(a, Warning, "set ReloadTimeoutSec= in [X-Extexec] below TimeoutStartSec=",
		"systemd kills a reload after TimeoutStartSec= (%v), and ReloadTimeoutSec= (%s) is not below that: what is half done is then put in order by the next reload only", limit, text)}
}

// startTimeout is TimeoutStartSec=, which holds for a reload as well, and where it
// stands.
func startTimeout(u *unitfile.Unit, serviceType string) (time.Duration, unitfile.Assignment) {
	limit, where := defaultStart, unitfile.Assignment{File: u.Fragment, Key: "TimeoutStartSec"}
	if serviceType == "oneshot" {
		limit = unitfile.Infinity
	}
	for _, a := range u.Assignments {
		if a.Section != "Service" || a.Key != "TimeoutStartSec" && a.Key != "TimeoutSec" {
			continue
		}
		d, err := unitfile.ParseTimeSpan(a.Value)
		if err != nil {
			continue // systemd ignores it
		}
		if d == 0 {
			d = unitfile.Infinity
		}
		limit, where = d, a
	}
	return limit, where
}

// ownReload: something tells the service that there is a new version.
func ownReload(j judgement) []Finding {
	s := j.set
	if j.way == None || len(s.ReloadCommand) > 0 || s.ReloadSignal != 0 || s.Service.Type == "notify-reload" {
		return nil
	}
	return []Finding{{Severity: Note, File: j.unit.Fragment, Text: "nothing tells the service after an exchange: open files and inotify watches keep the old version",
		Remedy: "where it does not look at its files by itself, set ReloadSignal= or ReloadCommand= in [X-Extexec]"}}
}

// signals: systemd's own signal of notify-reload came too early once.
func signals(j judgement) []Finding {
	a, ok := j.last("Service", "Type")
	if v := j.facts.Systemd; j.way == None || !ok || j.set.Service.Type != "notify-reload" || v < 253 || v >= 258 {
		return nil
	}
	return []Finding{at(a, Warning, "use Type=notify, and ReloadSignal= in [X-Extexec]; extexec adopt and extexec wrap do", "systemd %d signals a notify-reload service while ExecReload= still runs: it may read the old version", j.facts.Systemd)}
}

// startTries: under the wrapper a start takes a try, and somebody must see that it
// went well.
func startTries(j judgement) []Finding {
	if j.way != Wrapper || !j.set.CountTries {
		return nil
	}
	for _, l := range execs(j.unit, "ExecStartPost") {
		if IsReload(l.ExecCommand) {
			return nil
		}
	}
	a, _ := j.last(settings.Section, "CountTries")
	return []Finding{at(a, Note, `write ExecStartPost=+/usr/bin/extexec reload --if-changed, which under Type=notify runs once the service is ready`,
		"each start takes a try of a version that counts them, and only a reload takes the counter off: a version that is never reloaded is given up after as many starts")}
}
