package lint

import (
	"slices"
	"strings"

	"github.com/extexec/extexec/unitfile"
)

// hierarchyOf is the hierarchy that a path lies strictly below, "" for none.
func (j judgement) hierarchyOf(p string) string {
	for _, h := range j.set.Hierarchies {
		if strings.HasPrefix(p, h+"/") {
			return h
		}
	}
	return ""
}

// hostFiles: what systemd reads before a start is read in the host's view.
func hostFiles(j judgement) (found []Finding) {
	if len(j.set.Refs) == 0 {
		return nil
	}
	for _, a := range j.unit.List("Service", "EnvironmentFile") {
		if j.hierarchyOf(strings.TrimPrefix(a.Value, "-")) != "" {
			found = append(found, at(a, Note, "", "EnvironmentFile= reads the host's file, never one of an extension"))
		}
	}
	for _, a := range j.unit.Assignments {
		if a.Section != "Unit" || !looksAtPath(a.Key) {
			continue
		}
		if j.hierarchyOf(strings.TrimLeft(a.Value, "|!")) != "" {
			found = append(found, at(a, Note, "", "%s= looks at the host's file, never at one of an extension", a.Key))
		}
	}
	return found
}

// looksAtPath tells whether a setting of [Unit] is a condition on a file
// (systemd.unit(5)).
func looksAtPath(key string) bool {
	what, ok := strings.CutPrefix(key, "Condition")
	if !ok {
		what, ok = strings.CutPrefix(key, "Assert")
	}
	return ok && slices.Contains([]string{"PathExists", "PathExistsGlob", "PathIsDirectory", "PathIsSymbolicLink", "PathIsMountPoint",
		"PathIsReadWrite", "PathIsEncrypted", "DirectoryNotEmpty", "FileNotEmpty", "FileIsExecutable"}, what)
}

// writablePaths: what is writable below a hierarchy is a mount over it.
func writablePaths(j judgement) (found []Finding) {
	if j.way == None {
		return nil
	}
	for _, key := range []string{"ReadWritePaths", "ReadWriteDirectories"} { // the second is the old name
		for _, a := range j.unit.List("Service", key) {
			words, err := unitfile.Words(a.Value)
			if err != nil {
				continue
			}
			for _, w := range words {
				if h := j.hierarchyOf(strings.TrimLeft(w, "-+")); h != "" {
					found = append(found, at(a, Warning, "take it out where an extension has files there", "%s", writableText(j.way, strings.TrimLeft(w, "-+"), h)))
				}
			}
		}
	}
	return found
}

func writableText(w Way, p, hierarchy string) string {
	if w == Wrapper {
		return p + " is the host's, writable: below " + hierarchy + " it hides what extensions have there"
	}
	return p + " lies below " + hierarchy + ", which is read-only as soon as an extension has files for it: the service cannot write there"
}

// writers are programs whose sessions or jobs change what is below /etc.
var writers = []string{"sshd", "dropbear", "cron", "crond", "fcron", "anacron", "atd", "in.telnetd"}

// sessions: who logs in to change a password finds /etc read-only.
func sessions(j judgement) []Finding {
	confext := false
	for _, r := range j.set.Refs {
		confext = confext || j.facts.Sources[r.Path].mayBeConfext()
	}
	if !confext || !slices.Contains(j.set.Hierarchies, "/etc") {
		return nil
	}
	remedy := "let Hierarchies= in [X-Extexec] name the directory alone that the extensions are for, such as /etc/ssh"
	if j.way != Wrapper {
		remedy = "extexec wrap, and " + remedy
	}
	for _, l := range execs(j.unit, "ExecStart") {
		if p := program(l.ExecCommand); slices.Contains(writers, p) {
			return []Finding{atLine(l, Warning, remedy, "what %s starts sees a read-only /etc: passwd, package upgrades and the like fail in its sessions and jobs", p)}
		}
	}
	return nil
}
