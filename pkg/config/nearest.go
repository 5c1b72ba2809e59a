package config

import "strings"

// remedy says what to write for a key that is not known.
func remedy(key string, known []string) string {
	if near := Nearest(key, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "known keys are " + strings.Join(known, ", ")
}

// Nearest is the known key that somebody who wrote key most likely meant, or ""
// when none is near.
func Nearest(key string, known []string) string {
	if len(key) > 64 { // no key is that long; this also bounds the work
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "_", "-")
	tolerated := max(2, len(key)/4) // two swapped letters, at least
	if len(key) < 4 {
		tolerated = 1
	}
	best, least := "", tolerated+1
	for _, k := range known {
		if d := distance(key, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's: how many bytes to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
