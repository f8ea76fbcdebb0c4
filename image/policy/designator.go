package policy

import "iter"

// Designator is what a partition is for, whatever the architecture.
type Designator int

// The designators that systemd knows, in its order.
const (
	Root Designator = iota
	Usr
	Home
	Srv
	ESP
	XBootLdr
	Swap
	RootVerity
	UsrVerity
	RootVeritySig
	UsrVeritySig
	Tmp
	Var
	designators // how many there are
)

var designatorNames = [designators]string{
	"root", "usr", "home", "srv", "esp", "xbootldr", "swap",
	"root-verity", "usr-verity", "root-verity-sig", "usr-verity-sig", "tmp", "var",
}

// String gives the name that policy strings and mount options use.
func (d Designator) String() string {
	if d < 0 || d >= designators {
		return "unknown"
	}
	return designatorNames[d]
}

// Designators are all of them.
func Designators() iter.Seq[Designator] {
	return func(yield func(Designator) bool) {
		for d := range designators {
			if !yield(d) {
				return
			}
		}
	}
}

// Protects says whether such a partition has the hash tree or the signature of another one.
func (d Designator) Protects() bool {
	_, _, ok := d.protects()
	return ok
}

// DesignatorNamed finds a designator by its name.
func DesignatorNamed(s string) (Designator, bool) {
	for d, n := range designatorNames {
		if n == s {
			return Designator(d), true
		}
	}
	return 0, false
}

// protects gives the data partition that a verity or signature partition belongs to, and the use flags of which
// one must be allowed there for it to have a meaning.
func (d Designator) protects() (data Designator, needs Flags, ok bool) {
	switch d {
	case RootVerity:
		return Root, Verity | Signed, true
	case UsrVerity:
		return Usr, Verity | Signed, true
	case RootVeritySig:
		return Root, Signed, true
	case UsrVeritySig:
		return Usr, Signed, true
	}
	return 0, 0, false
}
