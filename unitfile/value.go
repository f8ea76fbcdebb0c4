package unitfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseBool reads a boolean by systemd's words.
func ParseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is no boolean: write yes or no", abbreviate(s))
}

// Infinity is the time span "infinity".
const Infinity = time.Duration(math.MaxInt64)

const usec = uint64(1)

// timeUnits are systemd's, in the order in which they are tried; in µs.
var timeUnits = []struct {
	suffix string
	usec   uint64
}{
	{"seconds", 1e6}, {"second", 1e6}, {"sec", 1e6}, {"s", 1e6},
	{"minutes", 60e6}, {"minute", 60e6}, {"min", 60e6},
	{"months", 2629800e6}, {"month", 2629800e6}, {"M", 2629800e6},
	{"msec", 1e3}, {"ms", 1e3},
	{"m", 60e6},
	{"hours", 3600e6}, {"hour", 3600e6}, {"hr", 3600e6}, {"h", 3600e6},
	{"days", 86400e6}, {"day", 86400e6}, {"d", 86400e6},
	{"weeks", 604800e6}, {"week", 604800e6}, {"w", 604800e6},
	{"years", 31557600e6}, {"year", 31557600e6}, {"y", 31557600e6},
	{"usec", usec}, {"us", usec}, {"\u03bcs", usec}, {"\u00b5s", usec},
}

// ParseTimeSpan reads a time span (systemd.time(7)): "5min 20s", "1.5h", "90"
// (seconds). "infinity" is Infinity. A span that a time.Duration cannot hold
// (292 years) is an error, as is a negative one.
func ParseTimeSpan(s string) (time.Duration, error) {
	bad := func(why string) (time.Duration, error) {
		return 0, fmt.Errorf("%q is no time span: %s", abbreviate(s), why)
	}
	s = strings.Trim(s, whitespace)
	if s == "infinity" {
		return Infinity, nil
	}
	if s == "" {
		return bad("it is empty")
	}
	var sum uint64
	for p := s; ; {
		if p = strings.TrimLeft(p, whitespace); p == "" {
			break
		}
		span, rest, why := oneSpan(p)
		if why != "" {
			return bad(why)
		}
		if sum += span; sum > uint64(math.MaxInt64)/1000 {
			return bad("too long")
		}
		p = rest
	}
	return time.Duration(sum) * time.Microsecond, nil
}

// oneSpan reads NUMBER[.FRACTION][UNIT]; why is "" where that went well.
func oneSpan(p string) (span uint64, rest, why string) {
	if p[0] == '-' {
		return 0, "", "negative"
	}
	p = strings.TrimPrefix(p, "+")
	whole, p := leadingDigits(p)
	frac := ""
	hasFrac := strings.HasPrefix(p, ".")
	if hasFrac {
		frac, p = leadingDigits(p[1:])
	}
	if whole == "" && !hasFrac || hasFrac && frac == "" {
		return 0, "", "a number is missing"
	}
	n, err := strconv.ParseUint("0"+whole, 10, 63)
	if err != nil {
		return 0, "", "too long"
	}
	rest = strings.TrimLeft(p, whitespace)
	unit, known := uint64(1e6), false
	for _, u := range timeUnits {
		if after, ok := strings.CutPrefix(rest, u.suffix); ok {
			unit, rest, known = u.usec, after, true
			break
		}
	}
	if !known && rest == p && rest != "" {
		return 0, "", fmt.Sprintf("unknown unit %q", abbreviate(rest))
	}
	if n >= math.MaxUint64/unit {
		return 0, "", "too long"
	}
	span = n * unit
	for i, m := 0, unit/10; i < len(frac) && m > 0; i, m = i+1, m/10 {
		span += uint64(frac[i]-'0') * m
	}
	return span, rest, ""
}

func leadingDigits(s string) (digits, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	return s[:len(s)-len(rest)], rest
}

// sizeUnits are powers of 1024, the largest first: a later part of a size must
// have a smaller unit.
var sizeUnits = []struct {
	suffix string
	shift  uint
}{{"E", 60}, {"P", 50}, {"T", 40}, {"G", 30}, {"M", 20}, {"K", 10}, {"B", 0}, {"", 0}}

// ParseSize reads a size in bytes: "256M", "1.5G", "1G 512M"; units to the
// base of 1024.
func ParseSize(s string) (int64, error) {
	bad := func(why string) (int64, error) {
		return 0, fmt.Errorf("%q is no size: %s", abbreviate(s), why)
	}
	var sum uint64
	p, from := strings.Trim(s, whitespace), 0
	for {
		p = strings.TrimPrefix(strings.TrimLeft(p, whitespace), "+")
		whole, rest := leadingDigits(p)
		if whole == "" {
			return bad("a number is missing")
		}
		n, err := strconv.ParseUint(whole, 10, 64)
		if err != nil {
			return bad("too large")
		}
		var frac float64
		if after, ok := strings.CutPrefix(rest, "."); ok {
			var d string
			d, rest = leadingDigits(after)
			// ParseFloat rounds; that is as good as systemd's own division.
			frac, _ = strconv.ParseFloat("0."+d+"0", 64)
		}
		rest = strings.TrimLeft(rest, whitespace)
		i := from
		for i < len(sizeUnits) && !strings.HasPrefix(rest, sizeUnits[i].suffix) {
			i++
		}
		if i == len(sizeUnits) {
			return bad(fmt.Sprintf("unknown unit in %q", abbreviate(rest)))
		}
		u := sizeUnits[i]
		if n >= 1<<(63-u.shift) {
			return bad("too large")
		}
		if sum += n<<u.shift + uint64(frac*float64(uint64(1)<<u.shift)); sum > math.MaxInt64 {
			return bad("too large")
		}
		if p, from = rest[len(u.suffix):], i+1; p == "" {
			return int64(sum), nil
		}
	}
}
