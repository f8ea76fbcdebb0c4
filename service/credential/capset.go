package credential

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runc/libcontainer/capabilities"
)

// A CapSet is a set of capabilities: bit n is the capability with number n, as
// in capabilities(7) and /proc/PID/status.
type CapSet uint64

// Has says whether the capability with that number is in the set.
func (s CapSet) Has(number int) bool {
	return number >= 0 && number < 64 && s&(1<<uint(number)) != 0
}

// Contains says whether every capability of t is in s.
func (s CapSet) Contains(t CapSet) bool { return t&^s == 0 }

// Names lists the capabilities as "CAP_CHOWN", by number. One that this program
// does not know yet is "CAP_41".
func (s CapSet) Names() []string {
	if s == 0 {
		return nil
	}
	known := capabilities.KnownCapabilities()
	var names []string
	for n := range 64 {
		switch {
		case !s.Has(n):
		case n < len(known):
			names = append(names, known[n])
		default:
			names = append(names, fmt.Sprintf("CAP_%d", n))
		}
	}
	return names
}

// String is the names, separated by spaces.
func (s CapSet) String() string { return strings.Join(s.Names(), " ") }
