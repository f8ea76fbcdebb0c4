package hierarchy

import (
	"fmt"
	"strings"
)

// apart refuses two hierarchies with overlays of which one is in the other, where
// links are followed ("/opt -> usr/lib/opt"): the overlay of the inner one would be
// a carried mount of the outer one, which no exchange gets off again.
func apart(surveys []*Survey, wanted []Wanted) error {
	for i, inner := range surveys {
		for j, outer := range surveys {
			if i == j || !covers(inner, wanted[i]) || !covers(outer, wanted[j]) || !strings.HasPrefix(inner.Point+"/", outer.Point+"/") {
				continue
			}
			return fmt.Errorf("stage %q: it is %q in the service's root, and %q is %q: one is in the other, and only one can be overlaid: leave one out with Hierarchies=", inner.Path, inner.Point, outer.Path, outer.Point)
		}
	}
	return nil
}

// covers tells whether a hierarchy has an overlay, or gets one.
func covers(s *Survey, w Wanted) bool {
	return s.Point != "" && !s.leave && (len(w.Layers) > 0 || len(s.Overlays) > 0)
}
