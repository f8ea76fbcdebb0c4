package image

import (
	"strings"

	"github.com/extexec/extexec/image/probe"
	"github.com/extexec/extexec/nsmount"
)

// always is what every mount of an image is, whatever it or the unit says.
const always = nsmount.AttrReadOnly | nsmount.AttrNoDev | nsmount.AttrNoSuid

const atimes = nsmount.AttrNoAtime | nsmount.AttrStrictAtime

// words are the mount options that concern the mount, not the file system. Those without an attribute mean nothing
// for a mount that is read-only, nodev and nosuid, or are for mount(8) and fstab(5) alone.
var words = map[string]nsmount.Attr{
	"noexec": nsmount.AttrNoExec, "nosymfollow": nsmount.AttrNoSymfollow, "nodiratime": nsmount.AttrNoDirAtime,
	"noatime": nsmount.AttrNoAtime, "strictatime": nsmount.AttrStrictAtime,
	"relatime": 0, "atime": 0, "norelatime": 0, "nostrictatime": 0, "diratime": 0, "exec": 0, "symfollow": 0,
	"ro": 0, "rw": 0, "nosuid": 0, "suid": 0, "nodev": 0, "dev": 0,
	"sync": 0, "async": 0, "dirsync": 0, "lazytime": 0, "nolazytime": 0, "mand": 0, "nomand": 0, "silent": 0, "loud": 0,
	"defaults": 0, "auto": 0, "noauto": 0, "nofail": 0, "_netdev": 0, "user": 0, "nouser": 0, "users": 0, "owner": 0,
	"group": 0,
}

// parseOptions reads mount options as a unit has them: attributes of the mount, of which the last of a kind wins, and
// options for the file system, which says itself what it does not know. Words that begin with "x-" are for others.
func parseOptions(s string) (nsmount.Attr, []nsmount.Option) {
	attr := nsmount.Attr(0)
	var options []nsmount.Option
	for _, word := range splitOptions(s) {
		a, known := words[word]
		switch {
		case word == "" || strings.HasPrefix(word, "x-") || strings.HasPrefix(word, "X-"):
		case word == "exec":
			attr &^= nsmount.AttrNoExec
		case word == "symfollow":
			attr &^= nsmount.AttrNoSymfollow
		case word == "diratime":
			attr &^= nsmount.AttrNoDirAtime
		case word == "relatime" || word == "atime" || known && a&atimes != 0:
			attr = attr&^atimes | a
		case known:
			attr |= a
		default:
			key, value, hasValue := strings.Cut(word, "=")
			options = append(options, nsmount.Option{Key: key, Value: value, Flag: !hasValue})
		}
	}
	return attr, options
}

// splitOptions splits at commas, but not inside double quotes, as mount(8) does: SELinux contexts have commas.
func splitOptions(s string) []string {
	quoted := false
	fields := strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
	for i, f := range fields {
		fields[i] = strings.ReplaceAll(strings.TrimSpace(f), `"`, "")
	}
	return fields
}

// fsOptions are what a file system needs so that it neither writes to its image nor minds its twin: two versions of
// an image with one UUID are normal.
func fsOptions(t probe.Type) []nsmount.Option {
	switch t {
	case probe.Ext4:
		return []nsmount.Option{{Key: "noload", Flag: true}}
	case probe.Btrfs:
		// Linux 5.9. Twins need no option: a second one gets an id of its own (Linux 6.7).
		return []nsmount.Option{{Key: "rescue", Value: "nologreplay"}}
	case probe.Xfs:
		return []nsmount.Option{{Key: "norecovery", Flag: true}, {Key: "nouuid", Flag: true}}
	}
	return nil
}
