package rig

import (
	"fmt"
	"os"
	"strings"
)

// A mount is one line of a mountinfo file, as far as the rig looks at it.
type mount struct {
	dev    string // major:minor
	point  string
	fstype string
	source string
}

func (m mount) String() string { return fmt.Sprintf("%s on %s (%s)", m.source, m.point, m.fstype) }

// readMounts parses a mountinfo file (proc_pid_mountinfo(5)).
func readMounts(path string) ([]mount, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []mount
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		left, right := strings.Fields(before), strings.Split(after, " ")
		if !ok || len(left) < 6 || len(right) < 2 {
			return nil, fmt.Errorf("parse %s: unexpected line %q", path, line)
		}
		all = append(all, mount{dev: left[2], point: unescape(left[4]), fstype: right[0], source: right[1]})
	}
	return all, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
