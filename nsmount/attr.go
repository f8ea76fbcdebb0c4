package nsmount

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Attr is a set of per-mount attributes, MOUNT_ATTR_* of linux/mount.h.
type Attr uint64

// The attributes of mount_setattr(2) that extexec uses.
const (
	AttrReadOnly    Attr = unix.MOUNT_ATTR_RDONLY
	AttrNoSuid      Attr = unix.MOUNT_ATTR_NOSUID
	AttrNoDev       Attr = unix.MOUNT_ATTR_NODEV
	AttrNoExec      Attr = unix.MOUNT_ATTR_NOEXEC
	AttrNoAtime     Attr = unix.MOUNT_ATTR_NOATIME
	AttrStrictAtime Attr = unix.MOUNT_ATTR_STRICTATIME
	AttrNoDirAtime  Attr = unix.MOUNT_ATTR_NODIRATIME
	AttrNoSymfollow Attr = unix.MOUNT_ATTR_NOSYMFOLLOW
)

// attrNames are the words of mountinfo, proc_pid_mountinfo(5). relatime is the
// absence of the two others.
var attrNames = []struct {
	attr Attr
	name string
}{
	{AttrReadOnly, "ro"}, {AttrNoSuid, "nosuid"}, {AttrNoDev, "nodev"}, {AttrNoExec, "noexec"},
	{AttrNoAtime, "noatime"}, {AttrStrictAtime, "strictatime"}, {AttrNoDirAtime, "nodiratime"},
	{AttrNoSymfollow, "nosymfollow"},
}

// String lists the attributes as mountinfo does.
func (a Attr) String() string {
	var words []string
	for _, n := range attrNames {
		if a&n.attr != 0 {
			words = append(words, n.name)
			a &^= n.attr
		}
	}
	if a != 0 {
		words = append(words, fmt.Sprintf("%#x", uint64(a)))
	}
	return strings.Join(words, ",")
}

// parseAttr reads the per-mount options of a mountinfo line. A mount without
// any of the atime words updates strictly (strictatime has no word of its own).
func parseAttr(options string) Attr {
	var a Attr
	relatime := false
	for word := range strings.SplitSeq(options, ",") {
		switch word {
		case "relatime":
			relatime = true
		default:
			for _, n := range attrNames {
				if word == n.name {
					a |= n.attr
				}
			}
		}
	}
	if !relatime && a&AttrNoAtime == 0 {
		a |= AttrStrictAtime
	}
	return a
}
