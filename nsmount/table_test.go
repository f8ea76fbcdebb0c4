package nsmount

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTable(t *testing.T) {
	const text = `22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 1 259:1 / / ro,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
90 28 0:40 / /etc ro,nodev,noatime master:4 - overlay extexec:1.1:a\040b ro,lowerdir+=/x
91 90 0:39 /src/gone//deleted /etc/a\011b rw unbindable - tmpfs tmpfs rw
`
	table, err := ParseTable([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	etc, ok := table.ByID(90)
	if !ok {
		t.Fatal("mount 90 is not in the table")
	}
	want := Mount{ID: 90, Parent: 28, Minor: 40, Root: "/", Point: "/etc", Attr: AttrReadOnly | AttrNoDev | AttrNoAtime, Master: 4,
		FSType: "overlay", Source: "extexec:1.1:a b", SuperOptions: "ro,lowerdir+=/x"}
	if diff := cmp.Diff(want, *etc); diff != "" {
		t.Error(diff)
	}
	children := table.Children(90)
	if len(children) != 1 || children[0].Point != "/etc/a\tb" || !children[0].Deleted() || !children[0].Unbindable || children[0].Attr != AttrStrictAtime {
		t.Errorf("children of /etc: %+v", children)
	}
	root, _ := table.ByID(28)
	if root.SuperReadOnly() || !etc.SuperReadOnly() {
		t.Error("the superblock of / is writable although the mount is not; that of /etc is read-only")
	}
}

// TestLongLine has a line longer than the 64 KiB of a bufio.Scanner.
func TestLongLine(t *testing.T) {
	long := strings.Repeat("lowerdir+=/proc/self/fd/100,", 5000)
	table, err := ParseTable([]byte("1 0 0:1 / / rw - overlay x ro," + long + "\n2 1 0:2 / /a rw - tmpfs y rw\n"))
	if err != nil || len(table.Mounts) != 2 {
		t.Errorf("%v, %v", table, err)
	}
}

func TestParseTableRefuses(t *testing.T) {
	for _, line := range []string{"", "1", "1 2 3", "a 0 0:1 / / rw - x y rw", "1 0 0 / / rw - x y rw", "1 0 0:1 / / rw x y rw"} {
		if _, err := ParseTable([]byte(line + "\n")); err == nil {
			t.Errorf("line %q was taken", line)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte("22 28 0:20 / /proc rw,nosuid shared:14 master:2 - proc proc rw\n"))
	f.Add([]byte("1 1 1:1 / \\040\\0 rw - a b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := ParseTable(data)
		if err != nil {
			return
		}
		for _, m := range table.Mounts {
			if _, ok := table.ByID(m.ID); !ok {
				t.Errorf("mount %d cannot be found", m.ID)
			}
			table.Children(m.ID)
		}
	})
}
