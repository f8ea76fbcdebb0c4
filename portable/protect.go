package portable

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/extexec/extexec/image"
	"github.com/extexec/extexec/image/policy"
)

// protection is how well the volumes of an image are protected: "signed", "verity" or
// "unprotected", by designator.
type protection map[string]string

// measure finds out the protection of an image file. It is written into the drop-in,
// so that the image cannot be replaced by one that is protected less.
func (i *Image) measure(f *os.File) error {
	report, err := image.Inspect(f, i.Picked, image.Options{Policy: policy.Default()})
	if err != nil {
		return err
	}
	i.guard = protection{}
	for _, v := range report.Volumes {
		switch {
		case v.Verity == nil:
			i.guard[v.Designator] = "unprotected"
		case v.Verity.Signer != "" && v.Verity.Problem == nil:
			i.guard[v.Designator] = "signed"
		default:
			i.guard[v.Designator] = "verity"
		}
	}
	return nil
}

// pin makes one policy of the protections of several images: a unit has one for all of
// its extensions. What is more than the least stays possible for each.
func pin(guards []protection) string {
	words := map[string][]string{}
	for _, g := range guards {
		for designator, word := range g {
			if !slices.Contains(words[designator], word) {
				words[designator] = append(words[designator], word)
			}
		}
	}
	var parts []string
	for _, designator := range slices.Sorted(maps.Keys(words)) {
		w := words[designator]
		slices.Sort(w)
		if slices.ContainsFunc(guards, func(g protection) bool { return g[designator] == "" }) {
			w = append(w, "absent")
		}
		parts = append(parts, designator+"="+strings.Join(w, "+"))
	}
	return strings.Join(parts, ":")
}
