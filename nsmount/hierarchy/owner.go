package hierarchy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/extexec/extexec/nsmount"
)

// Owner says who made an overlay.
type Owner int

// The owners of an overlay on a hierarchy. A foreign overlay is part of the base.
const (
	Foreign Owner = iota
	Ours
	Systemd
)

// Source is what an overlay of ours shows in a mount table: whoever looks, we
// included, can tell what it is and which of two is later.
type Source struct {
	Generation uint64 // of the unit
	Serial     uint64 // new for every exchange
	Name       string // of the unit or the instance
}

const sourcePrefix = "extexec:"

// maxName keeps the source string below the 255 bytes that fsconfig(2) takes.
const maxName = 200

// String is the mount table's form, "extexec:GENERATION.SERIAL:NAME".
func (s Source) String() string {
	return fmt.Sprintf("%s%d.%d:%s", sourcePrefix, s.Generation, s.Serial, shortName(s.Name))
}

// Names tells whether the source belongs to the unit or instance name.
func (s Source) Names(name string) bool { return s.Name == shortName(name) }

// shortName cuts a long name and makes it distinct again with a hash.
func shortName(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxName-17] + "-" + hex.EncodeToString(sum[:8])
}

// ParseSource reads an overlay's source string; ok is false for one that is not
// ours.
func ParseSource(text string) (s Source, ok bool) {
	rest, ok := strings.CutPrefix(text, sourcePrefix)
	if !ok {
		return Source{}, false
	}
	numbers, name, ok := strings.Cut(rest, ":")
	if !ok {
		return Source{}, false
	}
	gen, serial, ok := strings.Cut(numbers, ".")
	if !ok {
		return Source{}, false
	}
	var err1, err2 error
	s.Generation, err1 = strconv.ParseUint(gen, 10, 64)
	s.Serial, err2 = strconv.ParseUint(serial, 10, 64)
	s.Name = name
	return s, err1 == nil && err2 == nil && name != ""
}

// ShownBy is the overlay of ours of which a mount shows all or a part.
func ShownBy(m *nsmount.Mount) (s Source, ok bool) {
	if m.FSType != "overlay" {
		return Source{}, false
	}
	return ParseSource(m.Source)
}

// OwnerOf tells who made a mount. systemd marks its unit overlays with a source
// of its own (262; not yet in 257); before that the layers give it away, which lie
// below a directory that only its executor uses (core/namespace.c). What shows a part of
// an overlay is no overlay of anybody's, but a bind of somebody's.
func OwnerOf(m *nsmount.Mount) (Owner, Source) {
	if m.FSType != "overlay" || m.Root != "/" {
		return Foreign, Source{}
	}
	if s, ok := ShownBy(m); ok {
		return Ours, s
	}
	if m.Source == "systemd-extensions" {
		return Systemd, Source{}
	}
	if m.Source == "overlay" && strings.Contains(m.SuperOptions, "/run/systemd/unit-extensions/") {
		return Systemd, Source{}
	}
	return Foreign, Source{}
}
