package unitfile

import (
	"math"
	"testing"
	"time"
)

var timeSpans = map[string]time.Duration{
	"5min 20s": 320 * time.Second, "1.5h": 90 * time.Minute, ".5s": 500 * time.Millisecond, "1 .5": 1500 * time.Millisecond,
	"+3s": 3 * time.Second, "2 ms": 2 * time.Millisecond, "1M": 2629800 * time.Second, "1y 2w": 32767200 * time.Second,
	"0": 0, "1h30": 3630 * time.Second, "3 s4": 7 * time.Second, "1µs": time.Microsecond, "1μs": time.Microsecond,
	"0.0000001s": 0, "1.5us": time.Microsecond, "12.34s.56": 12900 * time.Millisecond, " 7 ": 7 * time.Second,
	"infinity": Infinity, " infinity ": Infinity, "1months 1month 1d1hr": (2*2629800 + 86400 + 3600) * time.Second,
	"55s500ms": 55500 * time.Millisecond, "300ms20s 5day": 300*time.Millisecond + 20*time.Second + 120*time.Hour,
}

var notTimeSpans = []string{
	"", " ", "5.", "12.34.56", "3.sec", "infinitys", "1ssss", "99999999999999y", "-1", "-0", "1.s", "abc", "1 parsec", "3.+1", "3. 1", "1s -2s", "99999999999999999999999",
}

func TestParseTimeSpan(t *testing.T) {
	for in, want := range timeSpans {
		if got, err := ParseTimeSpan(in); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range append(notTimeSpans, "293y") {
		if got, err := ParseTimeSpan(in); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "111": 111, "111B": 111, "256M": 256 << 20, "1.5G": 3 << 29, "1K": 1024, "3.5K": 3584, "3. K": 3072, "3.0 K": 3072,
		"1G 512M": 3 << 29, "4T 3 K": 4<<40 + 3<<10, "3. 0": -1, "12P": 12 << 50, "7E": 7 << 60, "+1": 1, "1B 2": 3, ".7": -1, "": -1,
		"8E": -1, "-1": -1, "1M 1G": -1, "1K 1K": -1, "1k": -1, "1KB": -1, "lots": -1, "18446744073709551616": -1, "1 B 1 B": -1, "3.": 3,
		"9223372036854775807": math.MaxInt64, "9223372036854775808": -1, "7E 1023P 1024P": -1,
	} {
		got, err := ParseSize(in)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestParseBool(t *testing.T) {
	for _, in := range []string{"1", "yes", "Y", "TRUE", "t", "on"} {
		if v, err := ParseBool(in); !v || err != nil {
			t.Errorf("%q: %v %v", in, v, err)
		}
	}
	for _, in := range []string{"0", "no", "N", "false", "f", "Off"} {
		if v, err := ParseBool(in); v || err != nil {
			t.Errorf("%q: %v %v", in, v, err)
		}
	}
	for _, in := range []string{"", "2", "yep", " yes"} {
		if _, err := ParseBool(in); err == nil {
			t.Errorf("%q is taken", in)
		}
	}
}

func FuzzValues(f *testing.F) {
	f.Add("1h 30.5min")
	f.Add("1.5G 3K")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseTimeSpan(s); err == nil && d < 0 {
			t.Errorf("%q: %v", s, d)
		}
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
	})
}
