package portable

import (
	"fmt"
	"strconv"
	"strings"
)

// The first line of a drop-in, by which portablectl and we know whose a unit is:
// systemd's portable.c, PORTABLE_DROPIN_MARKER_BEGIN and _END.
const (
	markerBegin = "# Drop-in created for image '"
	markerEnd   = "', do not edit."
)

// A Marker names the images that a unit was attached from, the base first.
type Marker []string

// line is the marker as it is written.
func (m Marker) line() string {
	escaped := make([]string, len(m))
	for i, image := range m {
		escaped[i] = escapeImage(image)
	}
	return markerBegin + strings.Join(escaped, ":") + markerEnd + "\n"
}

// escapeImage is systemd's xescape with ":".
func escapeImage(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 127 || c == '\\' || c == ':' {
			fmt.Fprintf(&b, `\x%02x`, c)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseMarker reads the first line of a drop-in's text; ok is false where it is none
// of a portable service.
func parseMarker(text string) (m Marker, ok bool) {
	first, _, _ := strings.Cut(text, "\n")
	inner, begins := strings.CutPrefix(first, markerBegin)
	inner, ends := strings.CutSuffix(inner, markerEnd)
	if !begins || !ends {
		return nil, false
	}
	var b strings.Builder
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == ':':
			m = append(m, b.String())
			b.Reset()
		case c == '\\' && i+3 < len(inner) && inner[i+1] == 'x':
			if v, err := strconv.ParseUint(inner[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
			b.WriteByte(c)
		case c == '\\' && i+1 < len(inner) && (inner[i+1] == ':' || inner[i+1] == '\\'):
			i++
			b.WriteByte(inner[i])
		default:
			b.WriteByte(c)
		}
	}
	return append(m, b.String()), true
}

// exactly says whether the marker has these images, by their paths.
func (m Marker) exactly(images []string) bool {
	if len(m) != len(images) {
		return false
	}
	for i := range m {
		if m[i] != images[i] {
			return false
		}
	}
	return true
}

// means says whether the marker has these images, by name: as portablectl has it, the
// directory and the version do not count, the number and the order do.
func (m Marker) means(images []string) bool {
	if len(m) != len(images) {
		return false
	}
	for i := range m {
		if shortName(m[i]) != shortName(images[i]) {
			return false
		}
	}
	return true
}
