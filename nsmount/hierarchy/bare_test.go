package hierarchy

import (
	"strings"
	"testing"

	"github.com/extexec/extexec/nsmount"
)

// TestBareRoot says where the bases are found without a copy of the namespace.
func TestBareRoot(t *testing.T) {
	const plain = `
1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 0:9 / /proc rw - proc proc rw
3 1 0:30 / /etc ro - overlay extexec:1.1:web ro
4 1 0:31 / /var/opt ro - overlay extexec:1.1:web ro
`
	for _, tt := range []struct {
		name, more string
		want       bool
	}{
		{"plain directories", "", true},
		{"a mount of the unit on the overlay", "5 3 8:1 /x /etc/secret rw - ext4 /dev/sda rw", true},
		{"an interrupted exchange", "5 3 0:32 / /etc ro - overlay extexec:2.2:web ro", true},
		{"a mount beside", "5 1 0:33 / /usr/local rw - tmpfs tmpfs rw", true},
		{"a mount of the base", "5 1 8:1 /x /etc/secret rw - ext4 /dev/sda rw", false},
		{"a mount above a hierarchy", "5 1 0:33 / /var rw - tmpfs tmpfs rw", false},
		{"a mount where os-release is", "5 1 0:33 / /usr rw - tmpfs tmpfs rw", false},
		{"a mount over the root", "5 1 0:33 / / rw - tmpfs tmpfs rw", false},
		{"a deleted source", `5 3 8:1 /x//deleted /etc/secret rw - ext4 /dev/sda rw`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, err := nsmount.ParseTable([]byte(strings.TrimPrefix(plain, "\n") + tt.more))
			if err != nil {
				t.Fatal(err)
			}
			v := &View{Surveys: []*Survey{{Path: "/etc", Point: "/etc"}, {Path: "/opt", Point: "/var/opt"}}}
			seen := make([]carrySource, len(v.Surveys))
			for i, s := range v.Surveys {
				for j := range table.Mounts {
					if m := &table.Mounts[j]; m.Point == s.Point {
						seen[i].top = m
					}
				}
				s.stack(table, seen[i].top)
			}
			root := v.bareRoot(seen, table)
			if (root != nil) != tt.want {
				t.Fatalf("root %v, want one: %v", root, tt.want)
			}
			if root != nil && root.ID != 1 {
				t.Errorf("root is mount %d", root.ID)
			}
		})
	}
}
