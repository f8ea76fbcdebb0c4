package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

const (
	etcUnits = "/etc/systemd/system/"
	runUnits = "/run/systemd/system/"
	usrUnits = "/usr/lib/systemd/system/"
)

// unitCases makes unit files and links, and lists the units to compare.
func unitCases() (files, links map[string]string, units []string) {
	files, links, units = searchCases()
	for name, text := range lexicalCases {
		files[etcUnits+name] = text
		units = append(units, name)
	}
	r := newRand(3)
	for i := range 60 {
		name := fmt.Sprintf("oracle-random%d.service", i)
		files[etcUnits+name] = randomUnit(r)
		units = append(units, name)
	}
	return files, links, units
}

// lexicalCases are about lines.
var lexicalCases = map[string]string{
	"oracle-crlf.service":      "[Unit]\r\nDescription=one \\\r\n two\r\n[Service]\r\nExecStart=/bin/true \"a b\"\r\n",
	"oracle-comments.service":  "# c\n; c\n[Unit]\nDescription=a \\\n# not this\n; nor this\n  b \\\n\n[Service]\nExecStart=/bin/true\n",
	"oracle-spaces.service":    "  [Unit]  \n  Description  =  a  b  \n[Service]\n\tExecStart =\t/bin/true\t x\n",
	"oracle-nonewline.service": "[Service]\nExecStart=/bin/true",
	"oracle-bom.service":       "\ufeff[Unit]\nDescription=bom\n[Service]\nExecStart=/bin/true\n",
	"oracle-sections.service":  "Description=before\n[Unknown]\nDescription=no\n[X-Mine]\nExecStart=/bin/false\n[Unit]\nDescription=yes\n[Service]\nExecStart=/bin/true\n[Unit]\nDescription=last\n",
	"oracle-equals.service":    "[Unit]\nDescription=a=b=c\n=x\nno equals sign\n[Service]\nExecStart=/bin/true a=b\n",
	"oracle-reset.service":     "[Service]\nExecStart=/bin/false\nExecStart=\nExecStart=/bin/true\nExtensionDirectories=/a\nExtensionDirectories=\nExtensionDirectories=/b\nSupplementaryGroups=a b\nSupplementaryGroups=\nSupplementaryGroups=c\n",
	"oracle-user.service":      "[Service]\nExecStart=/bin/true\nUser=www-data\nDynamicUser=yes\nWorkingDirectory=-/srv/%p\nNoNewPrivileges=on\n",
	"oracle-home.service":      "[Service]\nExecStart=/bin/true\nWorkingDirectory=~\nUser=root\n",
	"oracle-backslash.service": "[Unit]\nDescription=a\\\\\nDocumentation=man:x\n[Service]\nExecStart=/bin/true\n",
	"oracle-colon.service":     "[Service]\nExecStart=/bin/true\nExtensionImages=/a\\:b.raw:nosuid -/c.raw:root:ro:usr:noexec \"/d e.raw\" /f.raw\n",
}

// searchCases are about where files are, and which wins.
func searchCases() (files, links map[string]string, units []string) {
	unit := func(where string) string {
		return "[Unit]\nDescription=from " + where + "\n[Service]\nType=oneshot\nExecStart=/bin/true " + where + "\n"
	}
	dropin := func(where string) string { return "[Service]\nExecStart=/bin/true " + where + "\n" }
	files = map[string]string{
		etcUnits + "oracles-etc.service":  unit("etc"),
		runUnits + "oracles-etc.service":  unit("run"),
		usrUnits + "oracles-etc.service":  unit("usr"),
		runUnits + "oracles-run.service":  unit("run"),
		usrUnits + "oracles-run.service":  unit("usr"),
		usrUnits + "oracles-usr.service":  unit("usr"),
		usrUnits + "oracles-t@.service":   unit("template %i %p %j %J %I"),
		etcUnits + "oracles-t@x.service":  unit("instance %i"),
		etcUnits + "oracles-real.service": unit("real"),

		// The same name in /etc wins over the one in /usr; all others apply, sorted by name.
		usrUnits + "oracles-usr.service.d/50-b.conf":     dropin("usr 50-b"),
		usrUnits + "oracles-usr.service.d/10-a.conf":     dropin("usr 10-a"),
		etcUnits + "oracles-usr.service.d/50-b.conf":     dropin("etc 50-b"),
		runUnits + "oracles-usr.service.d/30-c.conf":     dropin("run 30-c"),
		usrUnits + "oracles-usr.service.d/60-empty.conf": dropin("masked"),
		etcUnits + "oracles-usr.service.d/ignored.txt":   dropin("ignored"),
		etcUnits + "oracles-usr.service.d/70-empty.conf": "",
		usrUnits + "oracles-.service.d/40-prefix.conf":   dropin("prefix"),
		usrUnits + "oracles-.service.d/50-b.conf":        dropin("prefix 50-b, hidden by that of the unit"),
		usrUnits + "oracles-t@.service.d/20-all.conf":    dropin("all instances %i"),
		etcUnits + "oracles-t@y.service.d/20-all.conf":   dropin("instance y only"),
		etcUnits + "oracles-alias.service.d/80-al.conf":  dropin("alias"),
		etcUnits + "oracles-real.service.d/10-re.conf":   dropin("real"),
	}
	links = map[string]string{
		etcUnits + "oracles-usr.service.d/60-empty.conf": "/dev/null",
		etcUnits + "oracles-alias.service":               "oracles-real.service",
		etcUnits + "oracles-masked.service":              "/dev/null",
		etcUnits + "oracles-t@link.service":              "oracles-t@.service",
		etcUnits + "oracles-gone.service":                "/nowhere/oracles-gone.service",
	}
	units = []string{
		"oracles-etc.service", "oracles-run.service", "oracles-usr.service", "oracles-t@x.service", "oracles-t@y.service",
		"oracles-t@a\\x2db.service", "oracles-real.service", "oracles-alias.service", "oracles-masked.service",
		"oracles-gone.service", "oracles-none.service", "oracles-t@link.service",
	}
	return files, links, units
}

// randomUnit is a unit of settings whose values are lists, quoted, escaped and continued at random.
func randomUnit(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("[Unit]\n")
	line := func(key string, words ...string) {
		fmt.Fprintf(&b, "%s%s%s=%s%s\n", pick(r, "", "", " "), key, pick(r, "", "", " "), pick(r, "", "", " "), several(r, 6, words...))
	}
	between := func() {
		b.WriteString(pick(r, "", "", "", "\n", "# comment\n", "; comment \\\n", "garbage\n", "[X-Mine]\nExecStart=/bin/no\n[Service]\n"))
	}
	line("Description", "a", " ", "b", "%n", "%%", "%p", "\"q\"", "'", "\\\n ", "\\x41", "é", ";", "#", "%i", "%N", "% ")
	b.WriteString("[Service]\n")
	for range 3 {
		between()
		line("ExtensionDirectories", "/a", "/b//c/", " ", " ", "-/d", "\"/e f\"", "'/g'", "/%n", "/h\\x20i", "\\\n", "+/j", "-+/k", "+-/l", "rel", "/m/../n", "/o/./p", "%%", "\"")
		between()
		line("ExtensionImages", "/a.raw", " ", " ", "-/b.raw", ":ro", ":root:ro", ":usr:nosuid", "\"/c d.raw\"", "/e\\:f", "\\\n", "/%n.raw", ":bogus:x", "/proc/x", "/g\\x20h", "rel", "'")
		between()
		// A word in quotes ends at the quote: so the words keep apart.
		fmt.Fprintf(&b, "ExecStart=%s/bin/echo %s\n", several(r, 2, "-", ":", "+", "!"),
			several(r, 6, "a ", "\"b c\" ", "'d' ", "e\\x20f ", "\\\n", "%n ", "%% ", "$A ", "${B} ", "; /bin/two ", "\\; ", "\\t ", "g=\"h i\" ", "\\q ", "é "))
	}
	between()
	line("SupplementaryGroups", "a", " ", "b1 ", "%p", "\\\n")
	b.WriteString("Type=oneshot\nExecStart=/bin/true\n") // several commands, and at least one
	return b.String()
}
