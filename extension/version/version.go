package version

import "strings"

// Compare returns -1 when a is older than b, 1 when a is newer, and 0 when
// neither is.
//
// The rules are those of UAPI.10: "~" sorts before everything, the end
// included; "-", "^" and "." sort after the end and before anything else, in
// this order; numbers compare as numbers, of any length, and are newer than
// letters; letters compare by byte.
func Compare(a, b string) int {
	for {
		a, b = skipSeparators(a), skipSeparators(b)

		// "~" comes before the test for the end, as 1.0~rc1 is older than 1.0.
		if order, decided := rankMarker(&a, &b, '~'); decided {
			return order
		}
		if a == "" || b == "" {
			return sign(len(a) - len(b))
		}
		for _, marker := range []byte{'-', '^', '.'} {
			if order, decided := rankMarker(&a, &b, marker); decided {
				return order
			}
		}

		var order int
		if startsWithDigit(a) || startsWithDigit(b) {
			order, a, b = compareNumbers(a, b)
		} else {
			order, a, b = compareLetters(a, b)
		}
		if order != 0 {
			return order
		}
	}
}

// rankMarker looks at one marker at the start of both strings. The side that
// alone has it is older; where both have it, it is skipped.
func rankMarker(a, b *string, marker byte) (order int, decided bool) {
	inA := strings.HasPrefix(*a, string(marker))
	inB := strings.HasPrefix(*b, string(marker))
	switch {
	case inA && inB:
		*a, *b = (*a)[1:], (*b)[1:]
		return 0, false
	case inA:
		return -1, true
	case inB:
		return 1, true
	}
	return 0, false
}

func compareNumbers(a, b string) (order int, restA, restB string) {
	runA, restA := split(a, isDigit)
	runB, restB := split(b, isDigit)

	// Letters have no digits at all: they are older, also than "0".
	if runA == "" || runB == "" {
		return sign(len(runA) - len(runB)), restA, restB
	}
	runA, runB = strings.TrimLeft(runA, "0"), strings.TrimLeft(runB, "0")
	if len(runA) != len(runB) {
		return sign(len(runA) - len(runB)), restA, restB
	}
	return strings.Compare(runA, runB), restA, restB
}

func compareLetters(a, b string) (order int, restA, restB string) {
	runA, restA := split(a, isLetter)
	runB, restB := split(b, isLetter)
	// Byte order also puts upper case before lower case and a prefix before
	// the longer word.
	return strings.Compare(runA, runB), restA, restB
}

func skipSeparators(s string) string {
	_, rest := split(s, func(c byte) bool { return !isVersionByte(c) })
	return rest
}

func split(s string, in func(byte) bool) (run, rest string) {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func startsWithDigit(s string) bool { return s != "" && isDigit(s[0]) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isVersionByte(c byte) bool {
	return isDigit(c) || isLetter(c) || c == '~' || c == '-' || c == '^' || c == '.'
}

// Valid says whether s can be the version in a file name: not empty, and
// letters, digits, ".", "-", "~" and "^" only.
func Valid(s string) bool {
	_, rest := split(s, isVersionByte)
	return s != "" && rest == ""
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
