package hierarchy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/nsmount"
)

// TestUncovers: which mounts of other namespaces an exchange on top takes out of sight,
// by their mount tables.
func TestUncovers(t *testing.T) {
	table := func(lines ...string) *nsmount.Table {
		t.Helper()
		parsed, err := nsmount.ParseTable([]byte(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	overlay := &nsmount.Mount{ID: 9, Root: "/", Point: "/etc", Shared: 7}
	root := &nsmount.Mount{ID: 1, Root: "/@", Point: "/", Shared: 3}
	const secret = "22 20 0:4 / /etc/secret rw - tmpfs none rw"
	for _, c := range []struct {
		name   string
		mode   mode
		on     *nsmount.Mount
		others []*nsmount.Table
		want   [][]string
	}{
		{"a slave of the old tree", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw master:7 - overlay o rw", secret)}, [][]string{{"/etc/secret"}}},
		{"a peer", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw shared:7 - overlay o rw", secret)}, [][]string{{"/etc/secret"}}},
		{"beneath", beneath, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw master:7 - overlay o rw", secret)}, [][]string{nil}},
		{"none that follows", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw master:8 - overlay o rw", secret)}, [][]string{nil}},
		{"private", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw - overlay o rw", secret)}, [][]string{nil}},
		{"a slave of a slave, in another namespace", onTop, overlay, []*nsmount.Table{
			table("30 1 0:3 / /etc rw shared:9 master:8 - overlay o rw", "32 30 0:5 / /etc/own rw - tmpfs none rw"),
			table("20 1 0:3 / /etc rw shared:8 master:7 - overlay o rw"),
		}, [][]string{{"/etc/own"}, nil}},
		{"bound elsewhere", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /new/etc rw master:7 - overlay o rw", "22 20 0:4 / /new/etc/secret rw - tmpfs none rw")}, [][]string{{"/new/etc/secret"}}},
		{"a part bound elsewhere", onTop, overlay, []*nsmount.Table{table("20 1 0:3 /app /app rw master:7 - overlay o rw", "22 20 0:4 / /app/secret rw - tmpfs none rw")}, [][]string{nil}},
		{"what is carried", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw master:7 - overlay o rw", "22 20 0:4 / /etc/carried rw - tmpfs none rw", "23 20 0:4 / /etc/carried/below rw - tmpfs none rw")}, [][]string{nil}},
		{"something of its own on it", onTop, overlay, []*nsmount.Table{table("20 1 0:3 / /etc rw master:7 - overlay o rw", "21 20 0:6 / /etc rw - tmpfs none rw", secret, "23 21 0:4 / /etc/x rw - tmpfs none rw")}, [][]string{nil}},
		{"the first overlay", attach, root, []*nsmount.Table{table("20 1 0:3 /@ / rw master:3 - ext4 d rw", secret, "23 20 0:4 / /etcetera rw - tmpfs none rw")}, [][]string{{"/etc/secret"}}},
		{"the first overlay, the directory alone", attach, root, []*nsmount.Table{table("20 1 0:3 /@/etc /e rw master:3 - ext4 d rw", "22 20 0:4 / /e/secret rw - tmpfs none rw")}, [][]string{{"/e/secret"}}},
	} {
		s := &Staged{mode: c.mode, Carried: []Carried{{Path: "carried"}}, Survey: &Survey{Path: "/etc", Point: "/etc", on: c.on, shared: c.on.Shared != 0}}
		if diff := cmp.Diff(c.want, s.Uncovers(c.others)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
