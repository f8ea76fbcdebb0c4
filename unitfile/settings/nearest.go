package settings

import "strings"

// nearest is the key that an unknown one was most likely meant to be.
func nearest(key string) string {
	best, least := "", -1
	for _, k := range keys {
		if d := distance(fold(key), fold(k)); least < 0 || d < least {
			best, least = k, d
		}
	}
	return best
}

// fold makes names that differ in case, dashes and underscores alone the same.
// What is longer than any key is cut: the distance costs time in proportion.
func fold(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance is the number of characters to insert, remove or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
