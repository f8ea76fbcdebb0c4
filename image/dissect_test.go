package image

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/extexec/extexec/image/gpt"
)

// TestChoose shows which partitions are taken, by their numbers. (What is refused, and with which words, is in
// TestRefusedContent.)
func TestChoose(t *testing.T) {
	type part struct{ designator, arch string }
	archs := []string{"x86-64", "x86"}
	for _, c := range []struct {
		name string
		ps   []part
		want []int64
	}{
		{"native", []part{{"root", "x86-64"}}, []int64{1}},
		{"native before secondary", []part{{"root", "x86"}, {"root", "arm64"}, {"root", "x86-64"}}, []int64{3}},
		{"secondary before others", []part{{"root", "arm64"}, {"root", "x86"}, {"root", "riscv64"}}, []int64{2}},
		{"only another", []part{{"root", "arm64"}}, []int64{1}},
		{"root comes first", []part{{"usr", "x86-64"}, {"root", "x86-64"}}, []int64{2, 1}},
		{"both of another", []part{{"usr", "arm64"}, {"root", "arm64"}}, []int64{2, 1}},
		{"others do not matter", []part{{"esp", ""}, {"home", ""}, {"", ""}, {"usr", "x86-64"}, {"linux-generic", ""}}, []int64{4}},
		{"two native", []part{{"root", "x86-64"}, {"root", "x86-64"}}, nil},
		{"two others", []part{{"root", "arm64"}, {"root", "riscv64"}}, nil},
		{"two architectures", []part{{"root", "x86-64"}, {"usr", "x86"}}, nil},
		{"none", []part{{"home", ""}}, nil},
		{"verity", []part{{"root", "x86-64"}, {"root-verity", "x86-64"}}, []int64{1}},
		{"verity of another architecture, with its data", []part{{"root", "x86-64"}, {"root", "arm64"}, {"root-verity", "arm64"}}, []int64{1}},
		{"verity without data", []part{{"root", "x86-64"}, {"root-verity", "arm64"}}, nil},
		{"signature without data", []part{{"root", "x86-64"}, {"usr-verity-sig", "arm64"}}, nil},
	} {
		table := &gpt.Table{SectorSize: 512}
		for i, p := range c.ps {
			table.Partitions = append(table.Partitions, gpt.Partition{
				Number: i + 1, Kind: gpt.Kind{Designator: p.designator, Arch: p.arch}, Offset: int64(i + 1),
			})
		}
		volumes, _, err := choose(table, nil, archs)
		var got []int64
		for _, v := range volumes {
			got = append(got, v.offset)
		}
		if d := cmp.Diff(c.want, got); d != "" || (err != nil) != (c.want == nil) {
			t.Errorf("%s: %v, %s", c.name, err, d)
		}
	}
}
