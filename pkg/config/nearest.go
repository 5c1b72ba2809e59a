package config

import "strings"

// remedy returns the fix for an unknown key.
func remedy(key string, known []string) string {
	if near := Nearest(key, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "known keys are " + strings.Join(known, ", ")
}

// Nearest returns the known key that is most similar to key, or an empty string if
// none is similar.
func Nearest(key string, known []string) string {
	if len(key) > 64 { // no key is that long; this also limits the work
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "_", "-")
	tolerated := max(2, len(key)/4) // at least two, for swapped letters
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

// distance returns the Levenshtein distance: the number of bytes to insert, delete or
// replace.
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
