package lint

import (
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
	"github.com/extexec/extexec/unitfile/settings"
)

// noProgram: extexec is where the unit says.
func noProgram(j judgement) (found []Finding) {
	for _, l := range ours(j.unit) {
		if j.facts.Missing[l.Path] {
			found = append(found, atLine(l, Error, "install extexec there", "%q is not there", l.Path))
		}
	}
	return found
}

// wrapperLine: how extexec run is started.
func wrapperLine(j judgement) (found []Finding) {
	if j.way != Wrapper {
		return nil
	}
	s := j.set.Service
	for _, l := range execs(j.unit, "ExecStart") {
		if !IsRun(l.ExecCommand) {
			continue
		}
		user := s.DynamicUser || s.User != "" && s.User != "root" && s.User != "0"
		switch {
		case strings.Contains(l.Prefix, "+"):
			found = append(found, atLine(l, Error, "write ExecStart=!"+l.Text, `with the prefix "+" systemd applies nothing of the unit's sandbox`))
		case user && !strings.Contains(l.Prefix, "!"):
			found = append(found, atLine(l, Error, "write ExecStart=!"+l.Text, `without the prefix "!" extexec is started as User=, and may mount nothing`))
		}
	}
	if a, ok := j.last("Service", "Type"); ok && s.Type == "exec" {
		found = append(found, at(a, Note, "", "under Type=exec the start counts as done when extexec was executed: a program that is missing is found a moment later"))
	}
	return found
}

// wrapperPlace: systemd changes into the directory before extexec is executed.
func wrapperPlace(j judgement) []Finding {
	s := j.set.Service
	if j.way != Wrapper || s.WorkingDirectoryMissingOK || !j.facts.Missing[s.WorkingDirectory] {
		return nil
	}
	a, _ := j.last("Service", "WorkingDirectory")
	return []Finding{at(a, Error, "write WorkingDirectory=-"+a.Value+": extexec changes into it once the extensions are there", "%q is not there before the extensions are, and systemd wants to change into it", s.WorkingDirectory)}
}

// Devices tells whether the unit's images need DeviceAllow= lines: they are mounted
// inside its device cgroup, whoever does it.
func Devices(u *unitfile.Unit, s settings.Settings) bool {
	j := judgement{unit: u, set: s}
	if len(j.images()) == 0 {
		return false
	}
	policy, ok := j.last("Service", "DevicePolicy")
	allow := u.List("Service", "DeviceAllow")
	restricted := j.on("PrivateDevices") || ok && policy.Value != "auto" || len(allow) > 0
	return restricted && !slices.ContainsFunc(allow, func(a unitfile.Assignment) bool { return strings.HasPrefix(a.Value, "block-loop") })
}

// wrapperDevices: images need loop devices, under adopt as well.
func wrapperDevices(j judgement) []Finding {
	if j.way == None || !Devices(j.unit, j.set) {
		return nil
	}
	return []Finding{atRef(j.images()[0], Warning, "write DeviceAllow=/dev/loop-control rw, DeviceAllow=block-loop rwm and DeviceAllow=block-blkext rwm; extexec adopt and extexec wrap do",
		"the unit's device policy keeps loop devices away, which images need")}
}

// Outside are the Exec settings whose commands run without the main process.
var Outside = []string{"ExecCondition", "ExecStartPre", "ExecStopPost"}

// Beside tells whether the commands of ExecStartPost= or ExecStop= run while the
// main process does, and is what it will be: so that extexec exec finds it.
func Beside(key, serviceType string) bool {
	switch serviceType {
	case "oneshot":
		return false
	case "forking", "dbus", "notify", "notify-reload":
		return true
	}
	return key == "ExecStop" // the others count as started before extexec has become the service
}

// wrapperOthers: which commands do not see the extensions.
func wrapperOthers(j judgement) (found []Finding) {
	if j.way != Wrapper {
		return nil
	}
	for _, key := range slices.Concat(Outside, []string{"ExecStartPost", "ExecStop"}) {
		for _, l := range execs(j.unit, key) {
			if verb(l.ExecCommand) != "" {
				continue
			}
			remedy := ""
			if !slices.Contains(Outside, key) && Beside(key, j.set.Service.Type) {
				remedy = "where it matters, write " + key + "=+/usr/bin/extexec exec %n -- " + l.Text
			}
			found = append(found, atLine(l, Note, remedy, "%s= sees the host's files, not the extensions: %s", key, l.Text))
		}
	}
	return found
}
